"""The one reader of tables: JSON lines, JSON, CSV, TSV and Parquet, row by row or in batches, streamed.

A row's place is ``file:line``, of a CSV record its first line, or ``file: row N`` where a file has no lines.
Cells are left to the reader; what is broken about the file stops it here.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from openrlhf_rad.errors import ConfigError, DataError, did_you_mean
from openrlhf_rad.tables import formats
from openrlhf_rad.tables.formats import Record
from openrlhf_rad.tables.formats import finite as finite
from openrlhf_rad.tables.formats import shown as shown

T = TypeVar("T")

_TEXTS: dict[str, Callable[[Path], Iterator[Record]]] = {
    ".jsonl": formats.json_lines,
    ".ndjson": formats.json_lines,
    ".json": formats.json_list,
    ".csv": formats.separated,
    ".tsv": formats.separated,
}
_PARQUET = (".parquet", ".pq")
FORMATS = (*_TEXTS, *_PARQUET)
#: Endings that a text may have besides.
PACKED = (".gz", ".xz")
#: Rows held at a time: some megabytes of text.
BATCH = 20_000


@dataclass(frozen=True, slots=True)
class Row:
    """The values of a row by column, and where it stands."""

    place: str
    values: Mapping[str, Any]


@dataclass(frozen=True)
class Batch:
    """Some rows of a file.

    Attributes:
        lines: the line on which each row begins, or its number where there are no lines, from 1.
        columns: name → values, one a row; a list, or a pyarrow array for Parquet.
    """

    lines: Sequence[int]
    columns: Mapping[str, Any]


def rows(path: Path, names: Sequence[str] | None = None) -> Iterator[Row]:
    """The rows of a table, one after the other.

    Args:
        names: the columns to read of a Parquet file; rows of a text hold all of theirs.

    Raises:
        DataError: no such file, a format that is not known, a broken file, or one without rows.
        EnvironmentProblem: a Parquet file where pyarrow is not installed.
    """
    if _kind(path) in _TEXTS:
        for number, values in _checked(path, lambda: _TEXTS[_kind(path)](path)):
            yield Row(place(path, number), values)
        return
    for batch in batches(path, names):
        columns = {name: values.to_pylist() for name, values in batch.columns.items()}
        for number, *cells in zip(batch.lines, *columns.values(), strict=True):
            yield Row(place(path, number), dict(zip(columns, cells, strict=True)))


def batches(path: Path, names: Sequence[str] | None = None, size: int = BATCH) -> Iterator[Batch]:
    """The rows of a table, ``size`` at a time.

    Args:
        names: the columns wanted, all by default; absent ones are left out. ``costs.privacy`` is the key
            privacy of the mappings in the column costs.

    Raises:
        DataError, EnvironmentProblem: as :func:`rows`.
    """
    kind = _kind(path)
    read = _text_batches if kind in _TEXTS else _parquet_batches
    yield from _checked(path, lambda: read(path, names, size))


def column_names(path: Path) -> list[str]:
    """The columns of a table, for JSON those of its first row; of mappings also ``column.key``."""
    if _kind(path) in _PARQUET and path.is_file():
        return formats.parquet_names(path)
    first = next(rows(path)).values
    return [
        name
        for column, value in first.items()
        for name in (column, *(f"{column}.{key}" for key in (value if isinstance(value, dict) else ())))
    ]


def pick(path: Path, indices: Sequence[int], names: Sequence[str]) -> list[dict[str, Any]]:
    """Some rows by their index from 0, in the order asked for; the file is streamed once."""
    wanted = set(indices)
    picked: dict[int, dict[str, Any]] = {}
    first = 0
    for batch in batches(path, names):
        for index in wanted.intersection(range(first, first + len(batch.lines))):
            row = {name: values[index - first] for name, values in batch.columns.items()}
            picked[index] = {
                name: held.as_py() if hasattr(held, "as_py") else held for name, held in row.items()
            }
        first += len(batch.lines)
        if len(picked) == len(wanted):
            break
    return [picked[index] for index in indices]


def place(path: Path, line: int) -> str:
    """Where a row stands, as messages begin."""
    return f"{path}: row {line}" if _kind(path) in (".json", *_PARQUET) else f"{path}:{line}"


def numbers_are_texts(path: Path) -> bool:
    """Whether a format spells every cell as text."""
    return _kind(path) in (".csv", ".tsv")


def is_table(name: str) -> bool:
    """Whether a file is called as a table is."""
    return _format(Path(name)) is not None


def _kind(path: Path) -> str:
    kind = _format(path)
    if kind is None:
        raise DataError(
            f"{path}: its format is not known; a table ends in {', '.join(FORMATS)}, text also in"
            f" {' or '.join(PACKED)}; save it as one of them"
        )
    return kind


def _format(path: Path) -> str | None:
    suffixes = [suffix.lower() for suffix in path.suffixes[-2:]]
    packed = bool(suffixes) and suffixes[-1] in PACKED
    kind = "".join(suffixes[-2:-1] if packed else suffixes[-1:])
    # Parquet packs its own columns.
    return kind if kind in (_TEXTS if packed else FORMATS) else None


def _checked(path: Path, read: Callable[[], Iterator[T]]) -> Iterator[T]:
    """What is read, with the faults of the file as a whole told."""
    if not path.is_file():
        what = "it is a folder; name a file" if path.is_dir() else "there is no such file; check the path"
        raise DataError(f"{path}: {what}")
    empty = True
    try:
        for item in read():
            empty = False
            yield item
    except OSError as error:
        raise DataError(
            f"{path}: it cannot be read ({error.strerror or error}); check path and rights"
        ) from None
    if empty:
        raise DataError(f"{path}: the file holds no rows; at least one is needed; check how it was written")


def _text_batches(path: Path, names: Sequence[str] | None, size: int) -> Iterator[Batch]:
    records = _TEXTS[_kind(path)](path)
    while block := list(islice(records, size)):
        values = [row for _, row in block]
        keys = dict.fromkeys(key for row in values for key in row) if names is None else names
        columns = {}
        for key in keys:
            column, there = _cells(values, key)
            if there:
                columns[key] = column
        yield Batch([number for number, _ in block], columns)


def _cells(values: Sequence[Mapping[str, Any]], name: str) -> tuple[list[Any], bool]:
    """A column of records, None where a record lacks it, and whether any has it."""
    outer, dot, inner = name.partition(".")
    if not dot or any(name in row for row in values):
        return [row.get(name) for row in values], any(name in row for row in values)
    held = [row.get(outer) for row in values]
    inside = [cell if isinstance(cell, dict) else {} for cell in held]
    return [cell.get(inner) for cell in inside], any(inner in cell for cell in inside)


def _parquet_batches(path: Path, names: Sequence[str] | None, size: int) -> Iterator[Batch]:
    first = 1
    for count, columns in formats.parquet_parts(path, names, size):
        yield Batch(range(first, first + count), columns)
        first += count


def named_columns(
    words: Iterable[str], roles: Collection[str], example: str, problems: Sequence[str] = ()
) -> dict[str, str]:
    """The columns that ``--column ROLE=NAME`` names, by their role.

    Raises:
        ConfigError: with every word that is none, and the problems of other options.
    """
    named: dict[str, str] = {}
    problems = list(problems)
    for word in words:
        role, equals, name = word.partition("=")
        if role not in roles or not equals or not name:
            hint = did_you_mean(role, roles) or f"write for instance {example}"
            problems.append(
                f"--column {word}: it must be ROLE=NAME with a role of {', '.join(roles)}; {hint}"
            )
        elif role in named:
            problems.append(f"--column {word}: {role} is given twice; remove one")
        else:
            named[role] = name
    if problems:
        raise ConfigError("\n".join(problems))
    return named
