"""The one reader of tables: the same rows from every format, each with its place; faults in full."""

from __future__ import annotations

import csv
import gzip
import json
import lzma

import pytest

from openrlhf_rad.errors import DataError
from openrlhf_rad.tables import batches, column_names, finite, is_table, numbers_are_texts, pick, rows, shown

ROWS = [
    {"prompt": f"line\nof {i}, “{i}”", "cost": i / 2, "costs": {"harm": i / 2, "privacy": float(-i)}}
    for i in range(23)
]
ENDINGS = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet", ".pq")


def made(folder, ending, table=ROWS):
    """A file of the ending's format; CSV without the column of mappings."""
    path = folder / f"a{ending}"
    kind = ending.removesuffix(".gz").removesuffix(".xz")
    if kind in (".parquet", ".pq"):
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.Table.from_pylist(table), path)
        return path
    opened = {".gz": gzip.open, ".xz": lzma.open}.get(path.suffix, open)
    with opened(path, "wt", encoding="utf-8", newline="") as file:
        if kind in (".csv", ".tsv"):
            delimiter = "\t" if kind == ".tsv" else ","
            writer = csv.DictWriter(file, ["prompt", "cost"], extrasaction="ignore", delimiter=delimiter)
            writer.writeheader()
            writer.writerows(table)
        elif kind == ".json":
            json.dump(table, file)
        else:
            file.write("".join(json.dumps(row) + "\n" for row in table))
    return path


@pytest.mark.parametrize("ending", [*ENDINGS, ".jsonl.gz", ".csv.xz", ".json.gz", ".tsv.gz"])
def test_every_format_gives_the_same_rows(ending, tmp_path):
    path = made(tmp_path, ending)
    assert is_table(str(path))
    held = list(rows(path))
    assert [row.values["prompt"] for row in held] == [row["prompt"] for row in ROWS]
    texts = numbers_are_texts(path)
    assert [finite(row.values["cost"], text=texts) for row in held] == [row["cost"] for row in ROWS]
    parts = list(batches(path, ["cost", "absent"], 7))
    assert [len(part.lines) for part in parts] == [7, 7, 7, 2]
    assert all(set(part.columns) == {"cost"} for part in parts)
    kind = ending.split(".")[1]
    # A prompt of CSV takes two lines, and the header one.
    expected = {"jsonl": ":22", "ndjson": ":22", "csv": ":44", "tsv": ":44"}.get(kind, ": row 22")
    assert held[21].place == f"{path}{expected}"
    assert pick(path, [22, 4], ["prompt"]) == [{"prompt": ROWS[i]["prompt"]} for i in (22, 4)]


@pytest.mark.parametrize("ending", [".jsonl", ".json", ".parquet"])
def test_keys_of_mappings_are_columns_too(ending, tmp_path):
    table = [*ROWS, {"prompt": "x", "cost": 0.0, "costs": None}]
    path = made(tmp_path, ending, table)
    assert column_names(path) == ["prompt", "cost", "costs", "costs.harm", "costs.privacy"]
    (part,) = batches(path, ["costs.privacy", "costs.absent", "prompt.x"])
    (column,) = part.columns.values()
    values = column if isinstance(column, list) else column.to_pylist()
    assert values == [*(row["costs"]["privacy"] for row in ROWS), None]


def test_a_column_whose_name_holds_a_dot_is_itself(tmp_path):
    path = made(tmp_path, ".jsonl", [{"costs.privacy": 1, "costs": {"privacy": 2}}])
    (part,) = batches(path, ["costs.privacy"])
    assert part.columns == {"costs.privacy": [1]}


WHOLE = "mend it or remove it"
FAULTS = {
    "a.jsonl": (
        '{"a": 1}\n{"a": "b',
        f":2:7: it is not JSON (Unterminated string starting at); it may be cut off; {WHOLE}",
    ),
    "b.jsonl": ('{"a": 1}\n{"a": b}\n', f":2:7: it is not JSON (Expecting value); {WHOLE}"),
    "c.jsonl": ("[" * 100_000 + "\n", f":1: JSON nested too deeply to be a row; {WHOLE}"),
    "d.jsonl": ("", ": the file holds no rows; at least one is needed; check how it was written"),
    "e.csv": ("", ": the file holds no rows; at least one is needed; check how it was written"),
    "f.csv": (
        'a,b\n"x\ny",1\nc\n',
        ":4: the row has 1 cells and the header 2; they must be as many; quote cells that hold separators or"
        " line breaks",
    ),
    "g.csv": (
        'a,b\nc,1\n"d,2\n',
        f":3: the row is not CSV (unexpected end of data); it may be cut off, or lack quotes; {WHOLE}",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_faults_are_told_with_their_place(name, tmp_path):
    content, text = FAULTS[name]
    path = tmp_path / name
    path.write_text(content)
    for read in (rows, batches):
        with pytest.raises(DataError) as caught:
            list(read(path))
        assert str(caught.value) == f"{path}{text}"


def test_files_that_are_none(tmp_path):
    (tmp_path / "d.jsonl").mkdir()
    for name, text in (
        ("d.jsonl", "it is a folder; name a file"),
        ("no.csv", "there is no such file; check the path"),
        ("no.pq", "there is no such file; check the path"),
    ):
        with pytest.raises(DataError) as caught:
            column_names(tmp_path / name)
        assert str(caught.value) == f"{tmp_path / name}: {text}"
    assert [is_table(name) for name in ("a.xlsx", "org/model", "b.parquet.gz", "a.gz", "A.JSONL")] == [
        *(False,) * 4,
        True,
    ]


@pytest.mark.parametrize(
    ("value", "text", "number"),
    [
        *((1, False, 1.0), (2.5, False, 2.5), (True, False, None), ("1", False, None), ("1", True, 1.0)),
        *((" 1e3 ", True, 1000.0), ("1_000", True, None), ("", True, None), ("nan", True, None)),
        *((float("inf"), False, None), (10**400, False, None), (None, True, None), ([1], True, None)),
    ],
)
def test_which_values_are_numbers(value, text, number):
    assert finite(value, text=text) == number


def test_values_in_messages():
    held = ["", None, True, float("nan"), "é", {"a": 1}, [1], "z" * 50]
    assert [shown(value) for value in held] == [
        *("empty", "null", "true", "nan", '"é"', "a mapping", "a list"),
        f'"{"z" * 38}…',
    ]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", 'prompt,cost\n"ä\nb",1\nc,2\n'),
        ("a.jsonl", '{"prompt": "ä\\nb", "cost": "1"}\n{"prompt": "c", "cost": "2"}\n'),
        ("a.json", '[{"prompt": "ä\\nb", "cost": "1"}, {"prompt": "c", "cost": "2"}]'),
        ("a.tsv.gz", 'prompt\tcost\n"ä\nb"\t1\nc\t2\n'),
    ],
)
def test_byte_order_marks_are_read(tmp_path, name, content, encoding):
    data = content.encode(encoding)
    path = tmp_path / name
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    assert [row.values for row in rows(path)] == [
        {"prompt": "ä\nb", "cost": "1"},
        {"prompt": "c", "cost": "2"},
    ]


def test_broken_utf_16(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(b"\xff\xfea\x00\x00\xd8")
    with pytest.raises(DataError) as error:
        list(rows(path))
    assert str(error.value) == f"{path}: byte 4 is not UTF-16; save the file as UTF-8"


def test_json_lines_by_the_name_of_json(tmp_path):
    path = tmp_path / "train.json"
    path.write_text('\n{"prompt": "a\u2028b"}\n\n{"prompt": "c"}\n')
    assert [row.values["prompt"] for row in rows(path)] == ["a\u2028b", "c"]
    path.write_text('{"prompt": "a"}\n{"prompt": "b"\n')
    with pytest.raises(DataError) as error:
        list(rows(path))
    assert str(error.value).startswith(f"{path}:2:15: it is not JSON (Expecting ',' delimiter)")


def test_a_key_that_stands_twice_is_refused(tmp_path):
    """The last one would count without a word."""
    path = tmp_path / "a.jsonl"
    path.write_text('{"prompt": "a", "cost": 1}\n{"prompt": "b", "cost": 1, "cost": 0}\n')
    with pytest.raises(DataError) as error:
        list(rows(path))
    assert str(error.value) == f"{path}:2: the key cost stands twice in a row; remove one"
