"""Tables: what is read, and the exact text of what is refused."""

import json

import numpy as np
import pytest

from openrlhf_rad.errors import ConfigError
from openrlhf_rad.tables import Column, read_table

COST = Column("cost", "number", option="--cost-column")
REWARD = Column("reward", "number", required=False)
LABEL = Column("label", "text", required=False)
ALL = (COST, REWARD, LABEL)
EMPTY = "the file holds no rows; at least one is needed; check how it was written"
RULE = "it must be a finite number; correct the row or remove it"


def write(folder, name, text):
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def problems(path, columns=ALL):
    with pytest.raises(ConfigError) as caught:
        read_table(path, columns)
    return str(caught.value).replace(str(path), path.name).splitlines()


def parquet(folder, columns, name="t.parquet"):
    import pyarrow as pa
    from pyarrow import parquet as pq

    pq.write_table(pa.table(columns), folder / name)
    return folder / name


def test_the_same_table_reads_alike_in_every_format(tmp_path):
    cost, label = [0.5, -1.0, 3.25], ["safe", None, "harmful"]
    rows = [{"cost": c, "label": lab, "more": [1]} for c, lab in zip(cost, label, strict=True)]
    files = [
        write(tmp_path, "t.jsonl", "\ufeff" + "".join(json.dumps(row) + "\n\n" for row in rows)),
        write(tmp_path, "t.csv", 'more,cost,label\n"a,\nb",0.5,safe\n,-1,\n,3.25e0,harmful\n'),
        write(tmp_path, "t.tsv", "cost\tlabel\n 0.5\tsafe\n-1.\t\n3.25\tharmful"),
        parquet(tmp_path, {"cost": cost, "label": label, "other": [1, 2, 3]}),
    ]
    for path in files:
        table = read_table(path, ALL)
        assert table.rows == 3
        np.testing.assert_array_equal(table.numbers["cost"], cost)
        assert table.texts == {"label": label}
        assert set(table.numbers) == {"cost"}


def test_labels_are_one_text_however_they_are_typed(tmp_path):
    rows = [True, False, 1, 0, 1.0, 0.0, "1", None]
    path = write(tmp_path, "t.jsonl", "".join(json.dumps({"cost": 1, "label": x}) + "\n" for x in rows))
    assert read_table(path, ALL).texts["label"] == ["true", "false", "1", "0", "1", "0", "1", None]


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("t.csv", "", [f"t.csv: {EMPTY}"]),
        ("t.csv", "cost\n", [f"t.csv: {EMPTY}"]),
        ("t.jsonl", "\n", [f"t.jsonl: {EMPTY}"]),
        (
            "t.csv",
            "costs,b\n1,2\n",
            ["t.csv:2: there is no column cost; the columns are costs, b; did you mean costs?"],
        ),
        (
            "t.jsonl",
            '{"harm": 1}\n',
            ["t.jsonl:1: there is no column cost; the columns are harm; name it with --cost-column"],
        ),
        (
            "t.csv",
            "cost\nhigh\n1_000\nnan\n\n1e999\n2\n",
            [
                f't.csv:2: cost is "high"; {RULE}',
                f't.csv:3: cost is "1_000"; {RULE}',
                f't.csv:4: cost is "nan"; {RULE}',
                f't.csv:6: cost is "1e999"; {RULE}',
            ],
        ),
        ("t.csv", "a,cost\n1,\n", [f"t.csv:2: cost is empty; {RULE}"]),
        (
            "t.jsonl",
            '{"cost": 1}\n{"cost": "1.5"}\n{"cost": null}\n{"cost": true}\n{"cost": NaN}\n{}\n'
            '{"cost": [1]}\n',
            [
                f't.jsonl:2: cost is "1.5"; {RULE}',
                f"t.jsonl:3: cost is null; {RULE}",
                f"t.jsonl:4: cost is true; {RULE}",
                f"t.jsonl:5: cost is nan; {RULE}",
                f"t.jsonl:6: cost is missing; {RULE}",
                f"t.jsonl:7: cost is a list; {RULE}",
            ],
        ),
        (
            "t.jsonl",
            '{"cost": 1}\n{"cost": 2, "reward": 1}\n',
            ["t.jsonl:2: reward turns up here and the first row has none; give it in every row"],
        ),
        (
            "t.jsonl",
            '{"cost": 1}\n{"cost": \n',
            ["t.jsonl:2:9: it is not JSON (Expecting value); mend it or remove it"],
        ),
        (
            "t.jsonl",
            "[1]\n",
            [
                't.jsonl:1: the row is a list; it must be a mapping such as {"prompt": …, "cost": 0.5}; mend'
                " it or remove it"
            ],
        ),
        (
            "t.csv",
            "cost,b\n1,2,3\n",
            [
                "t.csv:2: the row has 3 cells and the header 2; they must be as many; quote cells that hold"
                " separators or line breaks"
            ],
        ),
        (
            "t.csv",
            "cost,cost\n1,2\n",
            [
                "t.csv:1: the header names cost twice; every column needs its own name; rename one",
            ],
        ),
        (
            "t.csv",
            'cost\n"1',
            [
                "t.csv:2: the row is not CSV (unexpected end of data); it may be cut off, or lack quotes;"
                " mend it or remove it"
            ],
        ),
        (
            "t.xlsx",
            "",
            [
                "t.xlsx: its format is not known; a table ends in .jsonl, .ndjson, .json, .csv, .tsv,"
                " .parquet, .pq, text also in .gz or .xz; save it as one of them"
            ],
        ),
        ("t.parquet", "cost", ["t.parquet: it is no whole Parquet file"]),
    ],
)
def test_what_is_wrong_is_said_with_its_line(tmp_path, name, text, expected):
    found = problems(write(tmp_path, name, text))
    if name == "t.parquet":
        found = [line.partition(" (")[0] for line in found]
    assert found == expected


def test_parquet_cells_are_named_by_row(tmp_path):
    path = parquet(tmp_path, {"cost": [1.0, None, float("nan")]})
    assert problems(path) == [
        f"t.parquet: row 2: cost is null; {RULE}",
        f"t.parquet: row 3: cost is nan; {RULE}",
    ]
    assert problems(parquet(tmp_path, {"harm": [1.0]})) == [
        "t.parquet: row 1: there is no column cost; the columns are harm; name it with --cost-column"
    ]


def test_many_bad_cells_are_counted(tmp_path):
    found = problems(write(tmp_path, "t.csv", "cost\n" + "x\n" * 50))
    assert len(found) == 21
    assert found[-1] == "t.csv: and 30 more cells that are no finite numbers"


def test_files_that_cannot_be_read(tmp_path):
    assert problems(tmp_path / "no.csv") == ["no.csv: there is no such file; check the path"]
    (tmp_path / "t.csv").write_bytes(b"cost\n\xff\xfe\n")
    assert problems(tmp_path / "t.csv") == ["t.csv:2:1: the byte is not UTF-8; save the file as UTF-8"]
    (tmp_path / "d.csv").mkdir()
    assert problems(tmp_path / "d.csv") == ["d.csv: it is a folder; name a file"]


def test_reading_needs_neither_pandas_nor_pyarrow(tmp_path):
    import subprocess
    import sys

    path = write(tmp_path, "t.csv", "cost\n1\n")
    code = (
        "import sys; from pathlib import Path; from openrlhf_rad.tables import *;"
        f" read_table(Path({str(path)!r}), [Column('cost', 'number')]);"
        " print({'pandas', 'pyarrow', 'torch', 'scipy'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
