"""The charts of a training: each quantity of metrics.jsonl over the steps, on the same axes for all runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from openrlhf_rad.naming import split_constraints
from openrlhf_rad.report.charts import Array, Chart, ChartPanel, Heading, Limits, limits
from openrlhf_rad.style import AFTER, COLOURS, REFERENCE
from openrlhf_rad.words import number

Metrics = Sequence[Mapping[str, Any]]
# Beyond this many steps a point is the mean of several; a panel is no wider in pixels.
_POINTS = 380
_MARKED = 40
_TIPS = 30


@dataclass(frozen=True)
class Quantity:
    """A column of metrics.jsonl as a chart.

    Attributes:
        column, level: what is drawn, and what it is held against, if anything.
        missed: the column that is positive in a step that missed the constraint; marked with a cross.
        zero: whether the axis must show 0.
    """

    column: str
    title: str
    unit: str
    note: str
    level: str | None = None
    missed: str | None = None
    zero: bool = False

    def of(self, constraint: str) -> Quantity:
        """The same of one of several constraints, whose columns begin with its name."""
        level, missed = (name and f"{constraint}/{name}" for name in (self.level, self.missed))
        title, name = f"{self.title}: {constraint}", f"{constraint}/{self.column}"
        return replace(self, column=name, title=title, level=level, missed=missed)


QUANTITIES = (
    Quantity(
        "constraint_value",
        "Constraint",
        "constrained quantity, cost",
        "Dotted: the level that it is held to. A cross marks a step that missed it.",
        "constraint_level",
        "violation",
        zero=True,
    ),
    Quantity(
        "lambda",
        "Price λ",
        "λ, per spread",
        "Rises after a step that missed the constraint, else falls.",
        zero=True,
    ),
    Quantity("risk", "Risk", "risk of the batch, cost", "Dotted: the reference's risk.", "reference_risk"),
    Quantity("reward_mean", "Reward", "mean reward of the batch", "Before KL and cost."),
    Quantity(
        "kl", "Distance from the reference", "KL, nats a token", "How far the policy has moved.", zero=True
    ),
    Quantity(
        "response_length", "Length", "tokens an answer", "Answers that shrink may be dodging.", zero=True
    ),
)
_OF_A_CONSTRAINT = {"constraint_value", "lambda", "risk"}


def column(metrics: Metrics, name: str) -> Array:
    """A column as numbers, shape (steps,); NaN where there is none."""
    return np.array([np.nan if row.get(name) is None else row[name] for row in metrics], dtype=np.float64)


def present(runs: Sequence[Metrics]) -> list[Quantity]:
    """The quantities of which some run has a value; of several constraints those of each."""
    names = dict.fromkeys(name for metrics in runs for row in metrics for name in split_constraints(row))
    items = [
        each
        for item in QUANTITIES
        for each in (
            [item.of(name) for name in names] if names and item.column in _OF_A_CONSTRAINT else [item]
        )
    ]
    return [
        item for item in items if any(np.isfinite(column(metrics, item.column)).any() for metrics in runs)
    ]


def common_limits(runs: Sequence[Metrics], item: Quantity) -> tuple[Limits, Limits]:
    """Limits of the step axis and of the value axis that fit every run."""
    names = [item.column] + ([item.level] if item.level else [])
    parts = [column(metrics, name) for metrics in runs for name in names]
    step = [column(metrics, "step") for metrics in runs]
    low, high = limits(parts, zero=item.zero)
    floor = 0.0 if item.zero and min(float(np.nanmin(part, initial=0.0)) for part in parts) >= 0 else low
    return limits(step, room=0.03), (floor, high)


def draw_steps(metrics: Metrics, item: Quantity, spans: tuple[Limits, Limits], heading: Heading) -> Chart:
    """One quantity of one run over its steps."""
    panel = ChartPanel(item.unit, "training step")
    value_n, step_n = column(metrics, item.column), column(metrics, "step")
    missed = column(metrics, item.missed) > 0 if item.missed else np.zeros(len(metrics), dtype=bool)
    if item.level:
        panel.axes.plot(step_n, column(metrics, item.level), **REFERENCE)
    thin = _thinned(step_n, value_n)
    dots: dict[str, Any] = {"marker": "o", "markersize": 4} if len(step_n) <= _MARKED else {}
    panel.axes.plot(*thin, **AFTER, **dots)
    if len(step_n) <= _POINTS:
        cross: dict[str, Any] = {"color": COLOURS["ink"], "markersize": 8, "markeredgewidth": 2, "zorder": 5}
        panel.axes.plot(step_n[missed], value_n[missed], "x", **cross)
    panel.axes.set_xlim(spans[0])
    panel.axes.set_ylim(spans[1])
    panel.axes.locator_params(axis="x", integer=True)
    known = np.flatnonzero(np.isfinite(value_n))
    for place in known[:: max(1, -(-len(known) // _TIPS))]:
        panel.tip(step_n[place], value_n[place], f"step {step_n[place]:.0f}: {number(value_n[place])}")
    ends = (
        f"{number(value_n[known[0]])} at first, {number(value_n[known[-1]])} at last"
        if known.size
        else "no value"
    )
    text = f"{item.title} over {len(metrics)} training steps: {ends}."
    if item.missed:
        text += f" Missed in {int(missed.sum())} of them."
    return panel.done(heading, text)


def note(item: Quantity, runs: Sequence[Metrics]) -> str:
    """How to read the charts of a quantity."""
    width = max(_width(column(metrics, "step")) for metrics in runs)
    return item.note + (f" A point is the mean of up to {width} steps." if width > 1 else "")


def _width(step_n: Array) -> int:
    return max(1, -(-len(step_n) // _POINTS))


def _thinned(step_n: Array, value_n: Array) -> tuple[Array, Array]:
    """Means over equal groups of steps, so that a long run is legible; a group without values is a gap."""
    width = _width(step_n)
    if width == 1:
        return step_n, value_n
    starts = np.arange(0, len(step_n), width)
    known = np.isfinite(value_n)
    count = np.add.reduceat(known.astype(float), starts)
    total = np.add.reduceat(np.where(known, value_n, 0.0), starts)
    middle = np.add.reduceat(step_n, starts) / np.add.reduceat(np.ones_like(step_n), starts)
    return middle, np.divide(total, count, out=np.full(len(starts), np.nan), where=count > 0)
