"""The charts of a page, in rows of one quantity each, with the same axes for all runs of a row."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from openrlhf_rad.report import bars, charts, steps
from openrlhf_rad.report.charts import Array, Chart, Heading, Limits, limits
from openrlhf_rad.report.quantiles import LEVELS, Curves, bare, curves, lines, quantiles
from openrlhf_rad.report.sources import RunRecord
from openrlhf_rad.runs.records import Answer
from openrlhf_rad.statistics.curves import Curve
from openrlhf_rad.style import histogram_edges

# Rows of the summary in the cost's own units; a gap compares the two sides and stands in the table only.
_COST_ROWS = {
    "risk": "risk",
    "cost_mean": "mean cost",
    "cost_var_90": "VaR 0.90",
    "cost_cvar_90": "CVaR 0.90",
    "independent_mean": "mean, indep.",
    "independent_cvar_90": "CVaR, indep.",
}
_REWARD_ROWS = {"reward_mean": "mean reward"}
_TAIL = 0.8

_QUANTILES = (
    "The cost that a share of the answers stays below."
    " The 95\N{NO-BREAK SPACE}% bands hold for all levels at once."
)
_UPPER = "The same, for the most harmful fifth of the answers."
_DIFFERENCE = (
    "After − before, level by level: below the line is better."
    " The 95\N{NO-BREAK SPACE}% band, paired by prompt, holds for all levels at once."
)
_HISTOGRAM = "How many answers cost how much; a line stands at each side's risk."
_INTERVALS = (
    "{} of the line is better."
    " The bar is the 95\N{NO-BREAK SPACE}% interval; grey where it includes 0: no change is shown."
)


@dataclass(frozen=True)
class ChartRow:
    """Charts of one quantity, each with the label of its run; note says how to read them."""

    title: str
    note: str
    charts: tuple[tuple[str, Chart], ...]


@dataclass(frozen=True)
class Costs:
    """A run's costs as the charts need them: by side, as curves, paired when both sides are there."""

    record: RunRecord
    cost: Mapping[str, Array]
    bands: Mapping[str, Curve]
    paired: Curves | None
    reference_n: Array | None

    @property
    def lines(self) -> list[Array]:
        """All lines of the quantile chart, each over LEVELS."""
        found = [line for band in self.bands.values() for line in lines(band)]
        return found if self.reference_n is None else [*found, self.reference_n]


def costs_of(record: RunRecord) -> Costs | None:
    """Held-out costs of the run, with those of its last steps until it is done; None without answers."""
    sides: dict[str, Sequence[Answer]] = {"before": record.before or [], "after": record.after or []}
    if not sides["after"]:
        # Those that are kept for their cost are not a sample of the policy.
        sides["in training"] = [row for row in record.recent if not row.get("worst")]
    sides = {name: rows for name, rows in sides.items() if rows}
    if not sides:
        return None
    cost = {name: np.array([row["cost"] for row in rows], dtype=np.float64) for name, rows in sides.items()}
    paired = curves(record.before, record.after) if record.before and record.after else None
    bands = {name: bare(cost_b) for name, cost_b in cost.items()}
    if paired is not None:
        bands = {"before": paired.before, "after": paired.after}
    reference = None if record.reference is None else quantiles(record.reference.cost_r)
    return Costs(record, cost, bands, paired, reference)


def cost_rows(found: Sequence[Costs]) -> list[ChartRow]:
    """Quantiles, their upper fifth, the difference and the histogram."""
    if not found:
        return []
    drawn = [line for item in found for line in item.lines]
    whole, tail = limits(drawn), limits([line[LEVELS >= _TAIL] for line in drawn])

    def quantile(span: Limits, costs: Limits, stem: str) -> Callable[[Costs, int], Chart]:
        def draw(item: Costs, place: int) -> Chart:
            risk, heading = item.record.profile.risk, Heading(f"{stem}-{place}", item.record.label)
            return charts.draw_quantiles(
                item.bands, heading, reference_n=item.reference_n, risk=risk, span=span, costs=costs
            )

        return draw

    return [
        _row("Cost by quantile", _QUANTILES, found, quantile((0.0, 1.0), whole, "quantiles")),
        _row("The upper fifth", _UPPER, found, quantile((_TAIL, 1.0), tail, "tail")),
        *_differences(found),
        _histograms(found),
    ]


def change_rows(records: Sequence[RunRecord]) -> list[ChartRow]:
    """Changes with intervals: for one run all quantities in a chart, for several a chart a quantity."""
    done = [(record.label, record.summary) for record in records if record.summary]
    rows = []
    for unit, better, names in (("cost", "Left", _COST_ROWS), ("reward", "Right", _REWARD_ROWS)):
        table = [(label, _changes(summary, names)) for label, summary in done]
        ends = [end for _, found in table for change in found.values() for end in _ends(change)]
        if not ends:
            continue
        drawn = _change_charts(table, names, unit, limits([ends], zero=True))
        rows.append(ChartRow(f"Change of the {unit}", _INTERVALS.format(better), tuple(drawn)))
    return rows


def step_rows(records: Sequence[RunRecord]) -> list[ChartRow]:
    """A row for each quantity of the training that some run has recorded."""
    trained = [(place, record) for place, record in enumerate(records) if record.metrics]
    rows = []
    for index, item in enumerate(steps.present([record.metrics for _, record in trained])):
        spans = steps.common_limits([record.metrics for _, record in trained], item)
        drawn = [
            (
                record.label,
                steps.draw_steps(
                    record.metrics, item, spans, Heading(f"steps-{index}-{place}", record.label)
                ),
            )
            for place, record in trained
        ]
        rows.append(
            ChartRow(item.title, steps.note(item, [record.metrics for _, record in trained]), tuple(drawn))
        )
    return rows


def _row(title: str, note: str, found: Sequence[Costs], draw: Callable[[Costs, int], Chart]) -> ChartRow:
    return ChartRow(
        title, note, tuple((item.record.label, draw(item, place)) for place, item in enumerate(found))
    )


def _differences(found: Sequence[Costs]) -> list[ChartRow]:
    paired = [(item, item.paired) for item in found if item.paired is not None]
    if not paired:
        return []
    span = limits([line for _, pair in paired for line in lines(pair.difference)], zero=True)
    drawn = [
        (
            item.record.label,
            charts.draw_difference(
                pair.difference,
                ("before", "after"),
                Heading(f"difference-{place}", item.record.label),
                risk=item.record.profile.risk,
                costs=span,
            ),
        )
        for place, (item, pair) in enumerate(paired)
    ]
    return [ChartRow("Difference", _DIFFERENCE, tuple(drawn))]


def _histograms(found: Sequence[Costs]) -> ChartRow:
    edges = histogram_edges(np.concatenate([cost for item in found for cost in item.cost.values()]))
    tallest = max(float(charts.shares(cost, edges).max()) for item in found for cost in item.cost.values())

    def draw(item: Costs, place: int) -> Chart:
        risks = {side: item.record.profile.risk.risk(cost) for side, cost in item.cost.items()}
        return charts.draw_histogram(
            item.cost, edges, tallest, risks, Heading(f"histogram-{place}", item.record.label)
        )

    return _row("Histogram", _HISTOGRAM, found, draw)


def _changes(summary: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """The changes of the named rows, less those that repeat the risk under a plainer name."""
    found = {row["name"]: row["difference"] for row in summary["rows"] if row["name"] in names}
    return {key: change for key, change in found.items() if key == "risk" or change != found.get("risk")}


def _ends(change: Mapping[str, Any]) -> list[float]:
    return [change[key] for key in ("value", "low", "high") if change[key] is not None]


def _change_charts(
    table: Sequence[tuple[str, Mapping[str, Any]]], names: Mapping[str, str], unit: str, span: Limits
) -> list[tuple[str, Chart]]:
    """One chart of all quantities for one run; for several one a quantity, a line a run."""
    below = f"change of the {unit}"
    if len(table) == 1:
        label, found = table[0]
        lines = [(names[key], found[key]) for key in names if key in found]
        return [(label, bars.draw_changes(lines, below, span, Heading(f"change-{unit}", below)))]
    drawn = []
    for key, name in names.items():
        lines = [(label, found[key]) for label, found in table if key in found]
        if lines:
            drawn.append(
                (
                    name,
                    bars.draw_changes(lines, below, span, Heading(f"change-{key}", f"Change: {name}")),
                )
            )
    return drawn
