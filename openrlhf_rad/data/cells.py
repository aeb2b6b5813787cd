"""Cells of a data set's rows, found by the column's name and checked.

A name is met exactly, else without regard to case; ``prompt.text`` is the key text of the mapping in prompt.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from openrlhf_rad.errors import DataError
from openrlhf_rad.tables import Row, shown
from openrlhf_rad.tables.cells import as_text

#: What a row holds in place of a column that it lacks.
MISSING = object()


def spelled(names: Sequence[str], column: str, place: str) -> str | None:
    """The name among a row's that a column has; None if none has.

    Raises:
        DataError: several differ from it in case alone.
    """
    found = _spellings(tuple(names), column)
    if len(found) > 1:
        raise DataError(
            f"{place}: {' and '.join(found)} differ in case alone, and either may be {column}; name one"
            " exactly, or rename the other"
        )
    return found[0] if found else None


@lru_cache(maxsize=1024)
def _spellings(names: tuple[str, ...], column: str) -> list[str]:
    if column in names:
        return [column]
    return [name for name in names if name.casefold().strip() == column.casefold()]


def cell(row: Row, column: str) -> Any:
    """The value of a column, or MISSING. Raises DataError as :func:`spelled` does."""
    return _inside(row.values, column, row.place)


def _inside(values: Mapping[str, Any], column: str, place: str) -> Any:
    name = spelled(list(values), column, place)
    if name is not None:
        return values[name]
    outer, dot, inner = column.partition(".")
    held = _inside(values, outer, place) if dot else MISSING
    return _inside(held, inner, place) if isinstance(held, Mapping) else MISSING


def text(row: Row, column: str, problems: list[str], *, blank: bool = False) -> str:
    """The text of a column; notes a problem and returns "" where there is none.

    Args:
        blank: whether a text without any character but white space may stand.
    """
    value = cell(row, column)
    if value is MISSING:
        held = ", ".join(row.values) or "nothing"
        problems.append(
            f"{row.place}: column {column} is missing; the row holds {held}; add it, or name the column"
        )
        return ""
    return checked(value, f"{row.place}: {column}", problems, blank=blank)


def checked(value: object, place: str, problems: list[str], *, blank: bool = False) -> str:
    """A value that must be text; notes a problem, which begins with the place, and returns "" for others."""
    if not isinstance(value, str):
        problems.append(f"{place} is {shown(value)}; it must be text; mend the row")
    elif not blank and not value.strip():
        problems.append(f"{place} is empty; it must hold text; mend or remove the row")
    elif not _encodes(value):
        problems.append(f"{place} holds half a surrogate pair, which is no text; mend the row")
    else:
        return value
    return ""


def optional(row: Row, column: str, problems: list[str]) -> str:
    """A text that may be absent, null or empty."""
    value = cell(row, column)
    return "" if value is None or value is MISSING else text(row, column, problems, blank=True).strip()


def word(row: Row, column: str, problems: list[str]) -> str:
    """A name that may be absent or null: a text, a number or a truth value, as JSON writes it."""
    value = cell(row, column)
    if isinstance(value, int | float) and math.isfinite(value):
        return as_text(value) or ""
    return optional(row, column, problems)


def _encodes(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
