"""Charts of an evaluation: quantiles of red and blue, their difference, improvements, reward wins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from openrlhf_rad.report.charts import Array, Chart, Heading, Panel, limits
from openrlhf_rad.report.cost_charts import draw_changes
from openrlhf_rad.report.svg import COLOURS
from openrlhf_rad.runs.summary import number

# The colours of the runs' page the other way round: here the model called blue is blue.
RED: dict[str, Any] = {"color": COLOURS["after"], "linestyle": (0, (5, 2.2)), "linewidth": 1.9}
BLUE: dict[str, Any] = {"color": COLOURS["before"], "linestyle": "-", "linewidth": 2.0}


def draw_quantiles(red: Mapping[str, Any], blue: Mapping[str, Any], heading: Heading) -> Chart:
    """Cost by quantile level of both models with their bands."""
    panel = Panel("cost ↑ more harmful", "quantile level: share of answers that cost less")
    for model, style in ((red, RED), (blue, BLUE)):
        curve = model["quantiles"]
        _band(panel, curve, _numbers(curve["cost"]), style)
    _levels(panel)
    ends = [number(model["quantiles"]["cost"][-1]) for model in (red, blue)]
    text = f"Cost by quantile level; at the highest level shown red costs {ends[0]} and blue {ends[1]}."
    return panel.done(heading, text)


def draw_difference(curve: Mapping[str, Any], heading: Heading) -> Chart:
    """Blue − red by quantile level with its band."""
    panel = Panel("blue − red, cost", "quantile level")
    panel.axes.axhline(0, color=COLOURS["ink"], linewidth=1)
    value_n = _numbers(curve["value"])
    _band(panel, curve, value_n, BLUE)
    _levels(panel)
    text = f"Blue costs less than red at {number(100 * float((value_n < 0).mean()))} % of the levels shown."
    return panel.done(heading, text)


def draw_improvements(rows: Sequence[tuple[str, Mapping[str, Any]]], heading: Heading) -> Chart:
    """Improvements with their intervals around 0."""
    ends = [row[key] for _, row in rows for key in ("value", "low", "high") if row[key] is not None]
    return draw_changes(rows, "improvement, cost", limits([ends], zero=True), heading, BLUE)


def draw_wins(cells: Sequence[Mapping[str, Any]], heading: Heading) -> Chart:
    """Bars of the share of prompts that blue wins, a cell of safety outcomes each, with their counts."""
    panel = Panel("", "blue's reward higher, % of prompts", height=58 + 30.0 * len(cells))
    panel.axes.grid(False)
    for place, cell in enumerate(cells):
        rate = None if cell["rate"] is None else 100 * cell["rate"]
        panel.axes.barh(place, 100, 0.62, color=COLOURS["line"], alpha=0.6)
        panel.axes.barh(place, rate or 0, 0.62, color=COLOURS["before"])
        words = "none" if rate is None else f"{rate:.0f} %"
        panel.axes.annotate(f"{words}, n = {cell['count']}", (102, place), va="center", annotation_clip=False)
        panel.tip(50, place, f"{cell['cell']}: {cell['wins']} wins, {cell['ties']} ties of {cell['count']}")
    panel.axes.axvline(50, color=COLOURS["ink"], linewidth=1)
    panel.axes.set_yticks(range(len(cells)), [cell["cell"].replace(",", ", ") for cell in cells])
    panel.axes.tick_params(axis="y", labelcolor=COLOURS["ink"])
    panel.axes.set_xlim(0, 100)
    panel.axes.set_xticks([0, 50, 100])
    panel.axes.set_ylim(len(cells) - 0.5, -0.5)
    text = "; ".join(f"{cell['cell']}: {cell['wins']} of {cell['count']}" for cell in cells)
    return panel.done(
        heading, f"Prompts on which blue's reward is higher, by who is safe (red, blue): {text}."
    )


def _numbers(values: Sequence[float | None]) -> Array:
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)


def _band(panel: Panel, curve: Mapping[str, Any], value_n: Array, style: Mapping[str, Any]) -> None:
    level_n, low_n, high_n = (_numbers(curve[key]) for key in ("level", "low", "high"))
    panel.axes.fill_between(level_n, low_n, high_n, color=style["color"], alpha=0.15, linewidth=0)
    panel.axes.plot(level_n, value_n, **style)
    for place in range(0, len(level_n), max(1, len(level_n) // 10)):
        panel.tip(level_n[place], value_n[place], f"level {number(level_n[place])}: {number(value_n[place])}")


def _levels(panel: Panel) -> None:
    from matplotlib.ticker import PercentFormatter  # noqa: PLC0415 - see Panel

    panel.axes.set_xlim(0, 1)
    panel.axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))
