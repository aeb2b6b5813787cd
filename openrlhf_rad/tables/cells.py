"""Single values of a table: the number that one is, and how a message shows it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping


def finite(value: object, *, text: bool = False) -> float | None:
    """The finite number that a value is; None for anything else, true and false among it.

    Args:
        text: whether a text may spell the number, as all of CSV does; Python's ``1_000`` is none.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    if isinstance(value, str) and (not text or "_" in value):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):  # a whole number of hundreds of digits overflows
        return None
    return number if math.isfinite(number) else None


def shown(value: object) -> str:
    """A value as JSON would write it, shortened."""
    if value == "":
        return "empty"
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list"
    words = repr(value) if isinstance(value, float) else json.dumps(value, ensure_ascii=False, default=str)
    return words if len(words) <= 40 else f"{words[:39]}…"


#: What :func:`as_text` takes.
SCALARS = (str, int, float, bool)


def as_text(value: object) -> str | None:
    """A scalar as the text that names it, alike in every format: 1 and 1.0 are ``1``, true is ``true``.

    None for a gap: null, an empty text, or NaN, which pandas writes for one.
    """
    if value is None or value == "" or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.17g}"
    return value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)
