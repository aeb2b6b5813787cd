"""The charts of a page: small panels of one size, legible at 330 pixels, in the page's colours."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from openrlhf_rad.method.spectrum import Spectrum
from openrlhf_rad.report.quantiles import LEVELS, NAMED_LEVELS
from openrlhf_rad.report.svg import COLOURS, POINTER, TIP, inline_svg
from openrlhf_rad.statistics.curves import Curve
from openrlhf_rad.style import draw_curve, shade
from openrlhf_rad.words import number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Array = NDArray[np.float64]
Limits = tuple[float, float]
# A panel's size in pixels. Three stand side by side in a wide window; on a phone one shrinks to 330,
# where its letters are still 10 pixels high.
WIDTH, HEIGHT = 380.0, 236.0
_FONT = 11.5
REFERENCE: dict[str, Any] = {"color": COLOURS["reference"], "linestyle": (0, (1.2, 2)), "linewidth": 1.7}
BEFORE: dict[str, Any] = {"color": COLOURS["before"], "linestyle": (0, (5, 2.2)), "linewidth": 1.9}
AFTER: dict[str, Any] = {"color": COLOURS["after"], "linestyle": "-", "linewidth": 2.0}
_RC: Any = {
    "font.size": _FONT,
    "axes.titlesize": _FONT,
    "axes.titlelocation": "left",
    "axes.titlecolor": COLOURS["muted"],
    "axes.titlepad": 8,
    "axes.labelcolor": COLOURS["muted"],
    "axes.edgecolor": COLOURS["muted"],
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": COLOURS["line"],
    "grid.linewidth": 0.8,
    "text.color": COLOURS["ink"],
    "xtick.color": COLOURS["muted"],
    "ytick.color": COLOURS["muted"],
    "ytick.major.size": 0,
    "svg.fonttype": "none",
    "svg.hashsalt": "openrlhf-rad",
    "path.simplify": True,
}


@dataclass(frozen=True)
class Chart:
    """A drawing with its words.

    Attributes:
        svg: the drawing as an element. text: what is to be seen in it, as a screen reader says it.
    """

    svg: str
    text: str


class Heading(NamedTuple):
    """What a drawing is called: the beginning of its ids, unique in the page, and its title."""

    name: str
    title: str


class Panel:
    """One panel while it is drawn."""

    def __init__(self, unit: str, below: str, height: float = HEIGHT) -> None:
        """An empty panel; unit stands over the vertical axis, below under the horizontal one."""
        from matplotlib.figure import Figure  # noqa: PLC0415 - half a second that other commands need not wait

        self.figure: Figure = Figure(figsize=(WIDTH / 72, height / 72), layout="constrained")
        self.axes: Axes = self.figure.subplots()
        self.axes.set_title(unit)
        self.axes.set_xlabel(below)
        self._tips: list[str] = []

    def tip(self, x: float, y: float, text: str) -> None:
        """Show the text when this place is pointed at."""
        self.axes.plot(
            [x],
            [y],
            "o",
            color=POINTER,
            markersize=15,
            markeredgewidth=0,
            gid=f"{TIP}{len(self._tips)}",
            zorder=9,
        )
        self._tips.append(text)

    def done(self, heading: Heading, text: str) -> Chart:
        """The chart; text says what is to be seen in it."""
        return Chart(inline_svg(self.figure, heading.name, heading.title, text, self._tips), text)


@contextmanager
def styled() -> Iterator[None]:
    """Draw within this; matplotlib's global settings are as before afterwards."""
    import matplotlib as mpl  # noqa: PLC0415 - see Panel

    with mpl.rc_context(_RC):
        yield


def limits(parts: Sequence[ArrayLike], *, zero: bool = False, room: float = 0.06) -> Limits:
    """Common limits of an axis for all finite values of the parts, with some room; zero: 0 is among them."""
    values = np.concatenate([np.ravel(np.asarray(part, dtype=np.float64)) for part in parts] or [np.zeros(1)])
    values = values[np.isfinite(values)]
    if zero or not values.size:
        values = np.append(values, 0.0)
    low, high = float(values.min()), float(values.max())
    pad = room * (high - low) or max(abs(high), 1.0) * room
    return low - pad, high + pad


#: Styles by what a curve shows; `in training` while there are no held-out answers.
SIDES = {"before": BEFORE, "after": AFTER, "in training": AFTER, "baseline": BEFORE, "candidate": AFTER}
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
    sides: Mapping[str, Curve],
    heading: Heading,
    *,
    reference_n: Array | None = None,
    risk: Spectrum | None = None,
    span: Limits = (0.0, 1.0),
    costs: Limits | None = None,
) -> Chart:
    """Cost by quantile level with bands, over the levels of span.

    Args:
        sides: `before` and `after`, or `baseline` and `candidate`; or one of them.
        reference_n: quantiles of the reference at LEVELS. risk: shades what it weighs.
    """
    panel = Panel(_COST, _LEVEL)
    if risk is not None:
        shade(panel.axes, risk, span, COLOURS["weight"])
    if reference_n is not None:
        shown = span[0] <= LEVELS
        panel.axes.plot(LEVELS[shown], reference_n[shown], **REFERENCE)
    for side, curve in sides.items():
        draw_curve(panel.axes, curve, SIDES[side], low=span[0])
    _frame(panel, span, costs)
    for level in (level for level in NAMED_LEVELS if span[0] <= level <= span[1]):
        values = {side: value for side, curve in sides.items() if (value := _at(curve, level)) is not None}
        if values:
            text = ", ".join(f"{side} {number(value)}" for side, value in values.items())
            panel.tip(level, list(values.values())[-1], f"{_percent(level)}: {text}")
    known = [
        level for level in NAMED_LEVELS if all(_at(curve, level) is not None for curve in sides.values())
    ]
    text = ", ".join(sides)
    if known:
        text = ", ".join(f"{side} {number(_at(curve, known[-1]) or 0.0)}" for side, curve in sides.items())
        text += f" at {_percent(known[-1])}"
    return panel.done(heading, f"Cost of the answers by quantile level: {text}.")


def draw_difference(
    curve: Curve,
    names: tuple[str, str],
    heading: Heading,
    *,
    risk: Spectrum | None = None,
    costs: Limits | None = None,
) -> Chart:
    """The second − the first by quantile level with its band; below 0 the second costs less at that level."""
    panel = Panel(f"{names[1]} − {names[0]}, cost", _LEVEL)
    if risk is not None:
        shade(panel.axes, risk, (0, 1), COLOURS["weight"])
    panel.axes.axhline(0, color=COLOURS["ink"], linewidth=1)
    draw_curve(panel.axes, curve, AFTER)
    _frame(panel, (0, 1), costs)
    for level in NAMED_LEVELS:
        if (value := _at(curve, level)) is not None:
            panel.tip(level, value, f"{_percent(level)}: change {number(value)}")
    lower, higher = (
        float(np.mean(part)) if part.size else 0.0 for part in (curve.value_k < 0, curve.value_k > 0)
    )
    text = f"{names[1].capitalize()} costs less than {names[0]} at {_percent(lower)} of the levels"
    return panel.done(heading, f"{text} and more at {_percent(higher)}.")


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
) -> Chart:
    """Changes with their 95 % intervals, one line each; in colour where the interval excludes 0."""
    panel = Panel("", unit, height=58 + 25.0 * len(rows))
    panel.axes.grid(False)
    panel.axes.grid(True, axis="x")
    panel.axes.axvline(0, color=COLOURS["ink"], linewidth=1)
    for place, (_, change) in enumerate(rows):
        low, high, value = change["low"], change["high"], change["value"]
        clear = low is not None and (low > 0 or high < 0)
        colour = COLOURS["after"] if clear else COLOURS["reference"]
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


def shares(cost_b: Array, edges: Array) -> Array:
    """Percent of the costs in each bin."""
    found: Array = 100 * np.histogram(cost_b, edges)[0] / len(cost_b)
    return found


def _frame(panel: Panel, span: Limits, costs: Limits | None) -> None:
    panel.axes.set_xlim(span)
    if costs is not None:
        panel.axes.set_ylim(costs)
    _percent_axis(panel, span)


def _at(curve: Curve, level: float) -> float | None:
    """The value at one of a curve's levels."""
    found = np.flatnonzero(np.isclose(curve.level_k, level))
    return float(curve.value_k[found[0]]) if found.size else None


def _percent_axis(panel: Panel, span: Limits) -> None:
    from matplotlib.ticker import PercentFormatter  # noqa: PLC0415 - see Panel

    panel.axes.set_xticks(np.linspace(*span, 5))
    panel.axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))


def _percent(share: float) -> str:
    return f"{number(100 * float(share))}\N{NO-BREAK SPACE}%"


def draw_improvements(rows: Sequence[tuple[str, Mapping[str, Any]]], heading: Heading) -> Chart:
    """Improvements with their intervals around 0."""
    ends = [row[key] for _, row in rows for key in ("value", "low", "high") if row[key] is not None]
    return draw_changes(rows, "improvement, cost", limits([ends], zero=True), heading)


def draw_wins(cells: Sequence[Mapping[str, Any]], heading: Heading) -> Chart:
    """Bars of the share of prompts that the candidate wins, a cell of safety outcomes each."""
    panel = Panel("", "the candidate's reward higher, % of prompts", height=58 + 30.0 * len(cells))
    panel.axes.grid(False)
    for place, cell in enumerate(cells):
        rate = None if cell["rate"] is None else 100 * cell["rate"]
        panel.axes.barh(place, 100, 0.62, color=COLOURS["line"], alpha=0.6)
        panel.axes.barh(place, rate or 0, 0.62, color=COLOURS["after"])
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
        heading,
        f"Prompts on which the candidate's reward is higher, by who is safe (baseline, candidate): {text}.",
    )


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
    names = dict.fromkeys(
        key.removesuffix("/lambda")
        for metrics in runs
        for row in metrics
        for key in row
        if key.endswith("/lambda")
    )
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
    panel = Panel(item.unit, "training step")
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
