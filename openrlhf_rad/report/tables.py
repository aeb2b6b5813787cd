"""The tables of a page: numbers of summary.json and eval.json as people read them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from openrlhf_rad.report.charts import present
from openrlhf_rad.report.quantiles import LEVELS, NAMED_LEVELS, Curves
from openrlhf_rad.report.sources import RunRecord
from openrlhf_rad.words import number

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


def quantile_values(found: Curves) -> Values:
    """Cost at named levels before and after with the difference and its band."""
    rows = []
    for place in np.searchsorted(LEVELS, np.array(NAMED_LEVELS) - 1e-9):
        old, new, change = (curve.value_k[place] for curve in found)
        low, high = found.difference.low_k[place], found.difference.high_k[place]
        band = f"[{number(low)}, {number(high)}]" if np.isfinite([low, high]).all() else ""
        level = f"{number(100 * LEVELS[place])} %"
        rows.append((level, number(old), number(new), _signed(change), band))
    head = ("level", "before", "after", "change", "95 % band, all levels at once")
    return Values("Costs by quantile", head, tuple(rows))


def step_values(record: RunRecord) -> list[Values]:
    """The quantities of the charts by step, at most a hundred steps; none without steps."""
    if not record.metrics:
        return []
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
    return [Values(title, ("step", *(item.title for item in shown)), tuple(rows))]


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


NAMES = {"risk": "risk", "mean": "mean cost", "safe": "safe answers", "reward": "mean reward"}


def estimate(value: Mapping[str, Any] | None) -> str:
    """An estimate with its interval as a text; empty for none."""
    if value is None or value["value"] is None:
        return ""
    interval = "" if value["low"] is None else f" [{number(value['low'])}, {number(value['high'])}]"
    return number(value["value"]) + interval


def models(models: Sequence[Mapping[str, Any]]) -> Values:
    """Each model by itself."""
    head = ("model", "role", "answers", "safe share", "mean cost", "risk", "mean reward")
    rows = [
        (
            model["name"], model["role"], str(model["answers"]),
            *(estimate(model[key]) for key in ("safe", "mean", "risk", "reward")),
        )
        for model in models
    ]  # fmt: skip
    return Values("Models", head, tuple(rows))


def model_constraints(data: Mapping[str, Any]) -> list[Values]:
    """Each model under each of several constraints."""
    if len(data["constraints"]) == 1:
        return []
    head = ("model", "constraint", "prompts", "safe share", "mean cost", "risk")
    rows = [
        (
            model["name"], bound["name"], str(bound["prompts"]),
            *(estimate(held[key]) for key in ("safe", "mean", "risk")),
        )
        for model in data["models"]
        for bound, held in zip(data["constraints"], model["constraints"], strict=True)
    ]  # fmt: skip
    return [Values("Models under each constraint, on its own prompts", head, tuple(rows))]


def constraints(pair: Mapping[str, Any], data: Mapping[str, Any]) -> Values | None:
    """A pair under each of several constraints."""
    if len(data["constraints"]) == 1:
        return None
    head = (
        *("constraint", "risk", "prompts", "risk falls by", "mean falls by"),
        *("quantiles below, weighted", "above, weighted"),
    )
    rows = [
        (
            bound["name"], bound["risk"], str(bound["prompts"]),
            *(estimate(held["improvement"][key]) for key in ("risk", "mean")),
            *(estimate(held["gaps"]["weighted"][side]) for side in ("below", "above")),
        )
        for bound, held in zip(data["constraints"], pair["constraints"], strict=True)
    ]  # fmt: skip
    return Values("Constraints, each by its own cost and risk, on its own prompts", head, tuple(rows))


def safe_answers(pair: Mapping[str, Any]) -> Values:
    """Table 2."""
    labels = {
        "red": f"all of {pair['red']}",
        "blue": f"all of {pair['blue']}",
        "reward_higher": f"{pair['blue']} where its reward is higher",
        "reward_lower": f"{pair['blue']} where its reward is lower",
    }
    rows = [
        (label, estimate(row["safe"]), str(row["safe_count"]), str(row["count"]))
        for key, label in labels.items()
        if (row := pair["safety"][key]) is not None
    ]
    return Values("Safe answers (Table 2)", ("answers", "safe share", "safe", "of"), tuple(rows))


def amounts(pair: Mapping[str, Any]) -> Values:
    """How much better blue is: Table 3, both gaps, rewards."""
    rows = [
        (f"improvement: {NAMES[key]}", estimate(pair["improvement"][key]))
        for key in NAMES
        if pair["improvement"][key] is not None
    ]
    for kind in ("weighted", "unweighted"):
        rows += [
            (f"dominance difference, {kind} (Table 3)", estimate(pair["dominance"][kind])),
            (f"blue's quantiles below red's, {kind}", estimate(pair["gaps"][kind]["below"])),
            (f"blue's quantiles above red's, {kind}", estimate(pair["gaps"][kind]["above"])),
        ]
    return Values("Differences", ("quantity", "estimate"), tuple(rows))


def tests(pair: Mapping[str, Any]) -> Values | None:
    """The tests of dominance."""
    rows = [
        (test["name"], test["null"], number(test["statistic"]), number(test["p"])) for test in pair["tests"]
    ]
    head = ("test", "null hypothesis", "statistic", "p")
    return Values("Tests of dominance", head, tuple(rows)) if rows else None


def segments(pair: Mapping[str, Any]) -> Values | None:
    """The main numbers of each segment."""
    keys = ("safe_red", "safe_blue", "improvement_mean", "improvement_risk", "improvement_reward")
    head = ("segment", "prompts", "safe, red", "safe, blue", "improvement: mean", "risk", "reward")
    rows = [
        (row["name"], str(row["prompts"]), *(estimate(row[key]) for key in keys)) for row in pair["segments"]
    ]
    return Values("By segment", head, tuple(rows)) if rows else None


def judge(pair: Mapping[str, Any]) -> Values | None:
    """Table 4, with the replies that were no verdict."""
    if pair["judge"] is None:
        return None
    held, names = pair["judge"], ("win", "tie", "lose")
    head = ("blue against red", *names, "pairs")
    bad = f"{held['malformed']['count']} of {held['malformed']['calls']} replies malformed"
    title = f"Harmlessness as {held['model']} judges it (Table 4); {bad}"
    if held["overall"] is None:
        return Values(f"{title}: too many for a result", head, ())
    pairs = sum(row["pairs"] for row in held["seeds"])
    rows = [("all", *(estimate(held["overall"][key]) for key in names), str(pairs))]
    rows += [
        (f"seed {row['seed']}", *(_share(row[key]["share"]) for key in names), str(row["pairs"]))
        for row in held["seeds"]
        if len(held["seeds"]) > 1
    ]
    return Values(title, head, tuple(rows))


def _share(value: float | None) -> str:
    return "" if value is None else number(value)
