"""The tables of a page: numbers of summary.json as people read them, and several runs side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from openrlhf_rad.report.quantiles import NAMED_LEVELS, curves
from openrlhf_rad.report.sources import RunRecord
from openrlhf_rad.report.step_charts import present
from openrlhf_rad.runs.summary import number

# Steps of the table beside the charts; a long run is thinned.
_STEPS = 100


@dataclass(frozen=True)
class Line:
    """One row of a comparison: before, after, change and its interval as texts.

    Attributes:
        clear: whether the interval excludes 0.
    """

    label: str
    before: str
    after: str
    change: str
    interval: str
    clear: bool


@dataclass(frozen=True)
class SideBySide:
    """One quantity of several runs: a Line or None each, and mean ± sd of the changes."""

    label: str
    lines: tuple[Line | None, ...]
    spread: str


@dataclass(frozen=True)
class Values:
    """A table of plain texts, as a way to read a chart by numbers."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def lines(rows: Sequence[Mapping[str, Any]]) -> list[Line]:
    """The rows of a summary as texts."""
    return [_line(row) for row in rows]


def side_by_side(records: Sequence[RunRecord], part: str) -> list[SideBySide]:
    """The part (`rows` or `controls`) of every summary, one quantity a row; a mean for one profile only."""
    found = [{row["name"]: row for row in (record.summary or {}).get(part, [])} for record in records]
    names = dict.fromkeys(name for rows in found for name in rows)
    alike = len({record.profile.hash for record in records}) == 1
    table = []
    for name in names:
        rows = [held.get(name) for held in found]
        known = [row for row in rows if row is not None]
        values = [row["difference"]["value"] for row in known]
        enough = alike and len(values) > 1
        spread = (
            f"{_signed(float(np.mean(values)))} ± {number(float(np.std(values, ddof=1)))}" if enough else ""
        )
        table.append(SideBySide(known[0]["label"], tuple(row and _line(row) for row in rows), spread))
    return table


def quantile_values(record: RunRecord) -> Values | None:
    """Cost at named levels before and after with the difference's interval. None without both sides."""
    if not record.before or not record.after:
        return None
    found = curves(record.before, record.after, NAMED_LEVELS)
    change = found.difference
    rows = []
    for place, level in enumerate(NAMED_LEVELS):
        interval = ""
        if change.low_n is not None and change.high_n is not None:
            interval = f"[{number(change.low_n[place])}, {number(change.high_n[place])}]"
        sides = (number(band.value_n[place]) for band in (found.before, found.after))
        rows.append((f"{number(100 * level)} %", *sides, _signed(change.value_n[place]), interval))
    return Values("Costs by quantile", ("level", "before", "after", "change", "95 % interval"), tuple(rows))


def step_values(record: RunRecord) -> Values | None:
    """The quantities of the charts by step, at most a hundred steps. None without steps."""
    if not record.metrics:
        return None
    shown = present([record.metrics])
    every = -(-len(record.metrics) // _STEPS)
    rows = [
        (
            str(row["step"]),
            *("" if row.get(item.column) is None else number(row[item.column]) for item in shown),
        )
        for row in record.metrics[:: max(1, every)]
    ]
    title = "Values by step" if every <= 1 else f"Values at every {every}th step"
    return Values(title, ("step", *(item.title for item in shown)), tuple(rows))


def _line(row: Mapping[str, Any]) -> Line:
    change = row["difference"]
    low, high = change["low"], change["high"]
    before, after = ("" if row[side] is None else number(row[side]["value"]) for side in ("before", "after"))
    interval = "" if low is None else f"[{number(low)}, {number(high)}]"
    clear = low is not None and (low > 0 or high < 0)
    return Line(row["label"], before, after, _signed(change["value"]), interval, clear)


def _signed(value: float) -> str:
    text = number(value)
    return f"+{text}" if value > 0 and text != "0" else text
