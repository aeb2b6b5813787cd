"""Texts of a data set's rows, checked."""

from __future__ import annotations

from openrlhf_rad.tables import Row, shown


def text(row: Row, column: str, problems: list[str], *, blank: bool = False) -> str:
    """The text of a column; notes a problem and returns "" where there is none.

    Args:
        blank: whether a text without any character but white space may stand.
    """
    value = row.values.get(column)
    if column not in row.values:
        held = ", ".join(row.values) or "nothing"
        problems.append(
            f"{row.place}: column {column} is missing; the row holds {held}; add it, or name the column"
        )
    elif not isinstance(value, str):
        problems.append(f"{row.place}: {column} is {shown(value)}; it must be text; mend the row")
    elif not blank and not value.strip():
        problems.append(f"{row.place}: {column} is empty; it must hold text; mend or remove the row")
    elif not _encodes(value):
        problems.append(f"{row.place}: {column} holds half a surrogate pair, which is no text; mend the row")
    else:
        return value
    return ""


def _encodes(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
