"""Charts of the costs: what the profile weighs, quantiles, their difference, histograms, changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from openrlhf_rad.method.spectrum import Spectrum
from openrlhf_rad.report.charts import AFTER, BEFORE, REFERENCE, Array, Chart, Heading, Limits, Panel
from openrlhf_rad.report.quantiles import LEVELS, NAMED_LEVELS, Band, Curves
from openrlhf_rad.report.svg import COLOURS
from openrlhf_rad.runs.summary import number

#: The curves of a run by what they show; `in training` while there are no held-out answers.
SIDES = {"before": BEFORE, "after": AFTER, "in training": AFTER}
_LEVEL = "share of answers that cost less"
_COST = "cost ↑ more harmful"
# Beyond this the picture of a spectrum is cut: CVaR 0.99 would flatten all else.
_TALLEST = 100.0


def draw_spectrum(risk: Spectrum, name: str) -> Chart:
    """The weight of each percent of the answers, in multiples of the mean's."""
    count = 100
    weight_n = np.minimum(risk.weights(count), _TALLEST)
    panel = Panel("weight, × that of the mean", "answers from the least to the most harmful")
    edges = np.linspace(0, 1, count + 1)
    panel.axes.stairs(weight_n, edges, fill=True, color=COLOURS["weight"])
    panel.axes.stairs(weight_n, edges, color=COLOURS["ink"], linewidth=1.2)
    panel.axes.axhline(1, **REFERENCE)
    panel.axes.annotate("the mean", (0.01, 1), (0, 3), textcoords="offset points", color=COLOURS["muted"])
    panel.axes.set_xlim(0, 1)
    panel.axes.set_ylim(0, 1.12 * max(1.5, weight_n.max()))
    _percent_axis(panel, (0, 1))
    for low, weight in zip(edges[:-1:10], weight_n.reshape(-1, 10).mean(axis=1), strict=True):
        panel.tip(low + 0.05, weight, f"{_percent(low)} to {_percent(low + 0.1)}: weight {number(weight)}")
    tenth = number(100 * (1 - float(risk.cumulative(0.9))))
    text = f"Weight of the answers by rank under {risk}; the most harmful tenth carries {tenth} % of it."
    return panel.done(Heading(name, f"What counts: {risk}"), text)


def draw_quantiles(
    sides: Mapping[str, Band],
    reference_n: Array | None,
    risk: Spectrum,
    heading: Heading,
    *,
    span: Limits,
    costs: Limits,
) -> Chart:
    """Cost by quantile level with bands, over the levels of span; what the risk weighs is shaded.

    Args:
        sides: `before`, `after` or both. reference_n: quantiles of the reference at LEVELS.
    """
    panel = Panel(_COST, _LEVEL)
    _shade(panel, risk, span)
    shown = (span[0] <= LEVELS) & (span[1] >= LEVELS)
    if reference_n is not None:
        panel.axes.plot(LEVELS[shown], reference_n[shown], **REFERENCE)
    for side, style in SIDES.items():
        if side in sides:
            _band(panel, sides[side], shown, style)
    _frame(panel, span, costs)
    for level in (level for level in NAMED_LEVELS if span[0] <= level <= span[1]):
        place = int(np.searchsorted(LEVELS, level))
        values = {side: band.value_n[place] for side, band in sides.items()}
        text = ", ".join(f"{side} {number(value)}" for side, value in values.items())
        panel.tip(LEVELS[place], list(values.values())[-1], f"{_percent(level)}: {text}")
    text = f"Cost of the answers by quantile level: {', '.join(sides)}."
    return panel.done(heading, text)


def draw_difference(found: Curves, risk: Spectrum, heading: Heading, costs: Limits) -> Chart:
    """After − before by quantile level; below 0 the policy has become less costly at that level."""
    panel = Panel("after − before, cost", _LEVEL)
    _shade(panel, risk, (0, 1))
    panel.axes.axhline(0, color=COLOURS["ink"], linewidth=1)
    _band(panel, found.difference, np.ones(len(LEVELS), dtype=bool), AFTER)
    _frame(panel, (0, 1), costs)
    for level in NAMED_LEVELS:
        place = int(np.searchsorted(LEVELS, level))
        value = found.difference.value_n[place]
        panel.tip(LEVELS[place], value, f"{_percent(level)}: change {number(value)}")
    lower, higher = (found.difference.value_n < 0).mean(), (found.difference.value_n > 0).mean()
    text = f"The cost fell at {_percent(lower)} of the levels and rose at {_percent(higher)}."
    return panel.done(heading, text)


def draw_histogram(
    costs: Mapping[str, Array], edges: Array, tallest: float, marks: Mapping[str, float], heading: Heading
) -> Chart:
    """Shares of answers by cost, before and after; a line at each side's risk (marks)."""
    panel = Panel("answers, %", "cost → more harmful")
    for side, style in SIDES.items():
        if side not in costs:
            continue
        share_n = shares(costs[side], edges)
        panel.axes.stairs(share_n, edges, fill=True, color=style["color"], alpha=0.12)
        panel.axes.stairs(share_n, edges, **style)
        panel.axes.axvline(marks[side], ymax=0.93, **{**style, "linewidth": 1.3})
        panel.tip(marks[side], 0.93 * tallest, f"risk {side}: {number(marks[side])}")
    panel.axes.set_ylim(0, 1.12 * tallest)
    panel.axes.set_xlim(edges[0], edges[-1])
    text = "Histogram of costs; risk " + ", ".join(f"{side} {number(value)}" for side, value in marks.items())
    return panel.done(heading, text + ".")


def draw_changes(
    rows: Sequence[tuple[str, Mapping[str, Any]]],
    unit: str,
    span: Limits,
    heading: Heading,
    style: Any = AFTER,
) -> Chart:
    """Changes with their 95 % intervals, one line each; in colour where the interval excludes 0."""
    panel = Panel("", unit, height=58 + 25.0 * len(rows))
    panel.axes.grid(False)
    panel.axes.grid(True, axis="x")
    panel.axes.axvline(0, color=COLOURS["ink"], linewidth=1)
    for place, (_, change) in enumerate(rows):
        low, high, value = change["low"], change["high"], change["value"]
        clear = low is not None and (low > 0 or high < 0)
        colour = style["color"] if clear else COLOURS["reference"]
        if low is not None:
            panel.axes.plot([low, high], [place, place], color=colour, linewidth=2.6, solid_capstyle="round")
        panel.axes.plot([value], [place], "o", color=colour, markersize=7)
        panel.tip(
            value, place, f"{number(value)}" + ("" if low is None else f" [{number(low)}, {number(high)}]")
        )
    panel.axes.set_yticks(range(len(rows)), [label for label, _ in rows])
    panel.axes.set_ylim(len(rows) - 0.4, -0.6)
    panel.axes.set_xlim(span)
    panel.axes.locator_params(axis="x", nbins=5)
    panel.axes.tick_params(axis="y", labelcolor=COLOURS["ink"])
    text = "; ".join(f"{label}: {number(change['value'])}" for label, change in rows)
    return panel.done(heading, f"{text}.")


def histogram_edges(cost_b: Array) -> Array:
    """Common bin edges: Freedman and Diaconis's width, held to 12 to 30 bins."""
    count = int(np.clip(len(np.histogram_bin_edges(cost_b, "fd")) - 1, 12, 30))
    return np.histogram_bin_edges(cost_b, count)


def shares(cost_b: Array, edges: Array) -> Array:
    """Percent of the costs in each bin."""
    found: Array = 100 * np.histogram(cost_b, edges)[0] / len(cost_b)
    return found


def _band(panel: Panel, band: Band, shown: Any, style: Mapping[str, Any]) -> None:
    if band.low_n is not None and band.high_n is not None:
        panel.axes.fill_between(
            LEVELS[shown],
            band.low_n[shown],
            band.high_n[shown],
            color=style["color"],
            alpha=0.16,
            linewidth=0,
        )
    panel.axes.plot(LEVELS[shown], band.value_n[shown], **style)


def _shade(panel: Panel, risk: Spectrum, span: Limits) -> None:
    """Shade levels by their weight, the heaviest of the span most; equal neighbours become one area."""
    edges = np.linspace(*span, 41)
    weight_n = np.diff(risk.cumulative(edges))
    strength = np.round(weight_n / max(weight_n.max(), 1e-12), 2)
    start = 0
    for stop in range(1, len(strength) + 1):
        if stop == len(strength) or strength[stop] != strength[start]:
            if strength[start] > 0.01:
                alpha = 0.45 * float(strength[start])
                panel.axes.axvspan(
                    edges[start], edges[stop], color=COLOURS["weight"], alpha=alpha, linewidth=0, zorder=0
                )
            start = stop


def _frame(panel: Panel, span: Limits, costs: Limits) -> None:
    panel.axes.set_xlim(span)
    panel.axes.set_ylim(costs)
    _percent_axis(panel, span)


def _percent_axis(panel: Panel, span: Limits) -> None:
    from matplotlib.ticker import PercentFormatter  # noqa: PLC0415 - see Panel

    panel.axes.set_xticks(np.linspace(*span, 5))
    panel.axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))


def _percent(share: float) -> str:
    return f"{number(100 * float(share))}\N{NO-BREAK SPACE}%"
