"""Named columns of a JSONL, CSV, TSV or Parquet file; every bad cell is named with its line.

Nothing is guessed: a number is a finite number in every row, or the file is refused.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from openrlhf_rad.errors import ConfigError, DataError
from openrlhf_rad.profile.checks import did_you_mean
from openrlhf_rad.tables.cells import finite, shown
from openrlhf_rad.tables.rows import column_names, numbers_are_texts, rows

_SHOWN = 20


@dataclass(frozen=True)
class Column:
    """A column to read.

    Attributes:
        kind: `number` for finite numbers in every row, `text` for anything, where a gap reads as None.
        required: whether a file without it is refused; otherwise it is left out of the table.
        option: the flag that names it, for messages.
    """

    name: str
    kind: Literal["number", "text"]
    required: bool = True
    option: str = ""


@dataclass(frozen=True)
class Table:
    """The columns that were there, by name, all of the same length."""

    rows: int
    numbers: dict[str, NDArray[np.float64]]
    texts: dict[str, list[str | None]]


def read_table(path: Path, columns: Sequence[Column]) -> Table:
    """Read some columns of a file.

    Raises:
        ConfigError: every problem of the file, one a line, the first 20 of them.
    """
    try:
        return _collect(path, columns)
    except DataError as error:
        raise ConfigError(str(error)) from None


def _collect(path: Path, columns: Sequence[Column]) -> Table:
    problems: list[str] = []
    numbers = {column.name: array("d") for column in columns if column.kind == "number"}
    texts: dict[str, list[str | None]] = {column.name: [] for column in columns if column.kind == "text"}
    present: list[Column] | None = None
    count = bad = 0
    spelled = numbers_are_texts(path)
    for item in rows(path, _wanted(path, columns)):
        place, row = item.place, item.values
        if present is None:
            present = _present(place, row, columns)
        count += 1
        for column in present:
            value = row.get(column.name)
            if column.kind == "text":
                texts[column.name].append(_text(value))
                continue
            number = finite(value, text=spelled)
            if number is not None:
                numbers[column.name].append(number)
                continue
            bad += 1
            if bad <= _SHOWN:
                what = f"is {shown(value)}" if column.name in row else "is missing"
                rule = "it must be a finite number; correct the row or remove it"
                problems.append(f"{place}: {column.name} {what}; {rule}")
        problems += _late(place, row, columns, present) if len(present) < len(columns) else ()
    assert present is not None  # a file without rows is refused
    if bad > _SHOWN:
        problems.append(f"{path}: and {bad - _SHOWN} more cells that are no finite numbers")
    if problems:
        raise ConfigError("\n".join(problems))
    kept = {column.name for column in present}
    return Table(
        count,
        {name: np.asarray(values) for name, values in numbers.items() if name in kept},
        {name: values for name, values in texts.items() if name in kept},
    )


def _wanted(path: Path, columns: Sequence[Column]) -> list[str] | None:
    """The columns to read; all where a required one is missing, for the message."""
    held = column_names(path)
    if any(column.required and column.name not in held for column in columns):
        return None
    return [column.name for column in columns if column.name in held]


def _present(place: str, row: Mapping[str, Any], columns: Sequence[Column]) -> list[Column]:
    """The columns that the first row has. Raises ConfigError where a required one is not among them."""
    missing = [column for column in columns if column.required and column.name not in row]
    if missing:
        raise ConfigError("\n".join(_missing(place, column, list(row)) for column in missing))
    return [column for column in columns if column.name in row]


def _missing(place: str, column: Column, names: Sequence[str]) -> str:
    listed = ", ".join(str(name) for name in names[:_SHOWN]) or "none"
    hint = did_you_mean(column.name, [str(name) for name in names])
    fix = hint or (f"name it with {column.option}" if column.option else "add it")
    return f"{place}: there is no column {column.name}; the columns are {listed}; {fix}"


def _late(
    place: str, row: Mapping[str, Any], columns: Sequence[Column], present: list[Column]
) -> Iterator[str]:
    """Columns that turn up after the first row, which would otherwise be dropped without a word."""
    for column in columns:
        if column not in present and column.name in row:
            present.append(column)
            yield f"{place}: {column.name} turns up here and the first row has none; give it in every row"


def _text(value: Any) -> str | None:
    """A cell as text; whole numbers without a point, so that 1 and 1.0 are one label."""
    if value is None or value == "":
        return None
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.17g}"
    return value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)
