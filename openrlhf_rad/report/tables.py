"""The tables of pages and terminals: numbers of summary.json and eval.json as people read them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from openrlhf_rad.report.quantiles import LEVELS, NAMED_LEVELS, Curves
from openrlhf_rad.report.sources import RunRecord
from openrlhf_rad.report.steps import present
from openrlhf_rad.words import number, percent

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
class TextTable:
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


def quantile_values(found: Curves) -> TextTable:
    """Cost at named levels before and after with the difference and its band."""
    rows = []
    for place in np.searchsorted(LEVELS, np.array(NAMED_LEVELS) - 1e-9):
        old, new, change = (curve.value_k[place] for curve in found)
        low, high = found.difference.low_k[place], found.difference.high_k[place]
        band = f"[{number(low)}, {number(high)}]" if np.isfinite([low, high]).all() else ""
        level = percent(LEVELS[place])
        rows.append((level, number(old), number(new), _signed(change), band))
    head = ("level", "before", "after", "change", "95 % band, all levels at once")
    return TextTable("Costs by quantile", head, tuple(rows))


def step_values(record: RunRecord) -> list[TextTable]:
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
    return [TextTable(title, ("step", *(item.title for item in shown)), tuple(rows))]


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
_JUDGED = ("win", "tie", "lose")


def estimate(value: Mapping[str, Any] | None) -> str:
    """An estimate with its interval as a text; empty for none."""
    if value is None or value["value"] is None:
        return ""
    interval = "" if value["low"] is None else f" [{number(value['low'])}, {number(value['high'])}]"
    return number(value["value"]) + interval


def share(value: Mapping[str, Any] | None) -> str:
    """An estimate of a share in percent."""
    if value is None or value["value"] is None:
        return ""
    interval = (
        "" if value["low"] is None else f" [{number(100 * value['low'])}, {number(100 * value['high'])}]"
    )
    return percent(value["value"]) + interval


def model_tables(data: Mapping[str, Any]) -> list[TextTable]:
    """Each model by itself, and under each of several constraints."""
    head: tuple[str, ...] = ("model", "role", "answers", "safe share", "mean cost", "risk", "mean reward")
    rows: list[tuple[str, ...]] = [
        (
            model["name"], model["role"], f"{model['answers']:,}", share(model["safe"]),
            *(estimate(model[key]) for key in ("mean", "risk", "reward")),
        )
        for model in data["models"]
    ]  # fmt: skip
    found = [TextTable("Models", head, tuple(rows))]
    if len(data["constraints"]) > 1:
        head = ("model", "constraint", "prompts", "safe share", "mean cost", "risk")
        rows = [
            (
                model["name"], bound["name"], f"{bound['prompts']:,}", share(held["safe"]),
                *(estimate(held[key]) for key in ("mean", "risk")),
            )
            for model in data["models"]
            for bound, held in zip(data["constraints"], model["constraints"], strict=True)
        ]  # fmt: skip
        found.append(TextTable("Models under each constraint, on its own prompts", head, tuple(rows)))
    return [_filled(table) for table in found]


def _filled(table: TextTable) -> TextTable:
    """A table without its empty columns, such as rewards that nobody gave."""
    kept = [0, *(k for k in range(1, len(table.head)) if any(row[k] for row in table.rows))]
    head, *rows = (tuple(row[k] for k in kept) for row in (table.head, *table.rows))
    return TextTable(table.title, head, tuple(rows))


def pair_tables(data: Mapping[str, Any], pairs: Sequence[Mapping[str, Any]]) -> list[TextTable]:
    """What there is to say of some pairs; of one its name is left out. Tables without a row are left out."""
    found = [
        _of_pairs(data, pairs, rows_of, title, head)
        for rows_of, title, head in (
            (
                _constraints,
                "Constraints, each by its own cost and risk, on its own prompts",
                (
                    *("constraint", "risk", "prompts", "risk falls by", "mean falls by"),
                    *("quantiles below, weighted", "above, weighted"),
                ),
            ),
            (_safe_answers, "Safe answers (Table 2)", ("answers", "safe share", "safe", "of")),
            (_differences, "Differences", ("quantity", "estimate")),
            (
                _wins,
                "Reward wins of the candidate (Figure 1)",
                ("safe: baseline, candidate", "the candidate's reward is higher", "of"),
            ),
            (_tests, "Tests of dominance", ("test", "null hypothesis", "statistic", "p")),
            (
                _segments,
                "By segment",
                (
                    "segment",
                    "prompts",
                    "safe, baseline",
                    "safe, candidate",
                    "improvement: mean",
                    "risk",
                    "reward",
                ),
            ),
        )
    ]
    judges = [_judge(pair, named=len(pairs) > 1) for pair in pairs if pair["judge"]]
    return [*(_filled(table) for table in found if table.rows), *judges]


def _of_pairs(
    data: Mapping[str, Any],
    pairs: Sequence[Mapping[str, Any]],
    rows_of: Callable[[Mapping[str, Any], Mapping[str, Any]], Iterable[tuple[str, ...]]],
    title: str,
    head: tuple[str, ...],
) -> TextTable:
    """One table of all pairs; several stand each under its name."""
    rows: list[tuple[str, ...]] = []
    for pair in pairs:
        own = list(rows_of(pair, data))
        if own and len(pairs) > 1:
            rows.append((pair_name(pair), *[""] * (len(head) - 1)))
        rows += own
    return TextTable(title, head, tuple(rows))


def pair_name(pair: Mapping[str, Any]) -> str:
    """The baseline model and the candidate one."""
    return f"{pair['baseline']} vs {pair['candidate']}"


def _constraints(pair: Mapping[str, Any], data: Mapping[str, Any]) -> Iterable[tuple[str, ...]]:
    if len(data["constraints"]) > 1:
        for bound, held in zip(data["constraints"], pair["constraints"], strict=True):
            falls = (estimate(held["improvement"][key]) for key in ("risk", "mean"))
            sides = (estimate(held["gaps"]["weighted"][side]) for side in ("below", "above"))
            yield bound["name"], bound["risk"], f"{bound['prompts']:,}", *falls, *sides


def _safe_answers(pair: Mapping[str, Any], _: Mapping[str, Any]) -> Iterable[tuple[str, ...]]:
    labels = {
        "baseline": f"all of {pair['baseline']}",
        "candidate": f"all of {pair['candidate']}",
        "reward_higher": f"{pair['candidate']} where its reward is higher",
        "reward_lower": f"{pair['candidate']} where its reward is lower",
    }
    for key, label in labels.items():
        if (row := pair["safety"][key]) is not None:
            yield label, share(row["safe"]), f"{row['safe_count']:,}", f"{row['count']:,}"


def _differences(pair: Mapping[str, Any], _: Mapping[str, Any]) -> Iterable[tuple[str, ...]]:
    for key, name in NAMES.items():
        if pair["improvement"][key] is not None:
            shown = share if key == "safe" else estimate
            yield f"improvement: {name}", shown(pair["improvement"][key])
    for kind in ("weighted", "unweighted"):
        yield f"dominance difference, {kind} (Table 3)", estimate(pair["dominance"][kind])
        for side in ("below", "above"):
            yield (
                f"the candidate's quantiles {side} the baseline's, {kind}",
                estimate(pair["gaps"][kind][side]),
            )


def _wins(pair: Mapping[str, Any], _: Mapping[str, Any]) -> Iterable[tuple[str, ...]]:
    for cell in pair["reward_wins"] or ():
        rate = {"value": cell["rate"], "low": None, "high": None}
        yield cell["cell"].replace(",", ", "), share(rate) or "none", f"{cell['count']:,}"


def _tests(pair: Mapping[str, Any], _: Mapping[str, Any]) -> Iterable[tuple[str, ...]]:
    for test in pair["tests"]:
        p = "< 0.001" if test["p"] < 0.001 else number(test["p"])
        levels = "" if test["levels"] is None else f", levels {test['levels'][0]:g}–{test['levels'][1]:g}"
        yield test["name"] + levels, test["null"], number(test["statistic"]), p


def _segments(pair: Mapping[str, Any], _: Mapping[str, Any]) -> Iterable[tuple[str, ...]]:
    for row in pair["segments"]:
        safe = (share(row[f"safe_{side}"]) for side in ("baseline", "candidate"))
        gained = (estimate(row[f"improvement_{key}"]) for key in ("mean", "risk", "reward"))
        yield row["name"], f"{row['prompts']:,}", *safe, *gained


def _judge(pair: Mapping[str, Any], *, named: bool) -> TextTable:
    """Table 4, with the replies that were no verdict."""
    held = pair["judge"]
    head = ("candidate against the baseline", *_JUDGED, "pairs")
    bad = f"{held['malformed']['count']:,} of {held['malformed']['calls']:,} replies malformed"
    of = f"{pair_name(pair)}: harmlessness" if named else "Harmlessness"
    title = f"{of} as {held['model']} judges it (Table 4); {bad}"
    if held["overall"] is None:
        return TextTable(f"{title}: too many for a result", head, ())
    seeds = held["seeds"] if len(held["seeds"]) > 1 else []
    pairs = sum(row["pairs"] for row in held["seeds"])
    rows = [("all", *(share(held["overall"][key]) for key in _JUDGED), str(pairs))]
    for row in seeds:
        plain = ({"value": row[key]["share"], "low": None, "high": None} for key in _JUDGED)
        rows.append((f"seed {row['seed']}", *map(share, plain), str(row["pairs"])))
    return TextTable(title, head, tuple(rows))


def meanings(data: Mapping[str, Any]) -> list[str]:
    """What the risk means on costs of few values, a sentence a constraint; older evaluations have none."""
    several = len(data["constraints"]) > 1
    held = [(f"{bound['name']}: " if several else "", bound.get("meaning")) for bound in data["constraints"]]
    return [f"{name}{text}" for name, text in held if text]
