"""Files that are broken: what is said, with the line; and labels, however they are typed."""

import pytest

from openrlhf_rad.errors import DataError
from openrlhf_rad.tables import rows
from openrlhf_rad.tables.formats import as_text

EMPTY = "the file holds no rows; at least one is needed; check how it was written"


def write(folder, name, text):
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def problems(path):
    with pytest.raises(DataError) as caught:
        list(rows(path))
    return str(caught.value).replace(str(path), path.name).splitlines()


def test_labels_are_one_text_however_they_are_typed():
    values = [True, False, 1, 0, 1.0, 0.0, "1", None, "", "No", float("nan")]
    assert [as_text(value) for value in values] == [
        *("true", "false", "1", "0", "1", "0", "1"),
        *(None, None, "No", None),
    ]


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("t.csv", "", [f"t.csv: {EMPTY}"]),
        ("t.csv", "cost\n", [f"t.csv: {EMPTY}"]),
        ("t.jsonl", "\n", [f"t.jsonl: {EMPTY}"]),
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
        ("t.parquet", "cost", ["t.parquet: it is not a complete Parquet file"]),
    ],
)
def test_what_is_wrong_is_said_with_its_line(tmp_path, name, text, expected):
    found = problems(write(tmp_path, name, text))
    if name == "t.parquet":
        found = [line.partition(" (")[0] for line in found]
    assert found == expected
