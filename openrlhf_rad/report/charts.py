"""The charts of pages and files: panels of one size, legible at 330 pixels, each drawn once for both."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from openrlhf_rad import style
from openrlhf_rad.method.spectrum import Spectrum
from openrlhf_rad.report.quantiles import LEVELS, NAMED_LEVELS
from openrlhf_rad.report.svg import POINTER, TIP, inline_svg
from openrlhf_rad.statistics.curves import Curve
from openrlhf_rad.style import AFTER, BEFORE, COLOURS, REFERENCE, draw_curve, shade
from openrlhf_rad.words import number, one_line, percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Array = NDArray[np.float64]
Limits = tuple[float, float]
Style = Mapping[str, Any]
#: An estimate of eval.json or summary.json.
Estimated = Mapping[str, Any]
Scale = Literal["linear", "log", "symlog"]
# A panel's size in pixels. Three stand side by side in a wide window; on a phone one shrinks to 330,
# where its letters are still 10 pixels high.
WIDTH, HEIGHT = 380.0, 236.0
_FONT = 11.5
#: Characters of a row's label.
_LONGEST = 28
_RC: Any = {
    "font.size": _FONT,
    "axes.titlesize": _FONT,
    "axes.titlecolor": COLOURS["muted"],
    "axes.titlepad": 8,
    "axes.linewidth": 0.8,
    "axes.spines.left": False,
    "axes.grid.axis": "y",
    "grid.linewidth": 0.8,
    "ytick.major.size": 0,
    "ytick.minor.size": 0,
}


class Heading(NamedTuple):
    """What a drawing is called: the beginning of its ids, unique in the page, and its title."""

    name: str
    title: str


@dataclass(frozen=True)
class Chart:
    """A drawing with its words.

    Attributes:
        text: what is to be seen in it, as a screen reader says it.
    """

    figure: Figure
    heading: Heading
    text: str
    tips: Sequence[str]

    @property
    def svg(self) -> str:
        """The drawing as an element of a page."""
        return inline_svg(self.figure, *self.heading, self.text, self.tips)

    def save(self, stem: Path) -> list[Path]:
        """Write it as PNG and SVG under its title, with a legend; returns the paths."""
        for mark in self.figure.axes[0].lines:
            mark.set_visible(not str(mark.get_gid()).startswith(TIP))
        held = self.figure.axes[0].get_legend_handles_labels()
        if held[0]:
            self.figure.legend(*held, loc="outside lower center", ncols=2)
            self.figure.set_figheight(self.figure.get_figheight() + 0.18 + 0.24 * -(-len(held[0]) // 2))
        self.figure.suptitle(self.heading.title, fontsize=_FONT + 1)
        self.figure.set_figheight(self.figure.get_figheight() + 0.3)
        return style.save(self.figure, stem)


@dataclass
class ChartPanel:
    """One panel while it is drawn; unit stands over the vertical axis, below under the horizontal one."""

    unit: str
    below: str
    height: float = HEIGHT
    tips: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.figure: Figure = style.new_figure(WIDTH / 72, self.height / 72)
        self.axes: Axes = self.figure.subplots()
        self.axes.set_title(self.unit)
        self.axes.set_xlabel(self.below)

    @classmethod
    def of_rows(cls, labels: Sequence[str], below: str, height: float) -> ChartPanel:
        """A panel with a row a label, from the top, long ones cut; height in pixels of a row."""
        panel = cls("", below, 58 + height * len(labels))
        panel.axes.grid(False)
        panel.axes.set_yticks(range(len(labels)), [one_line(label, _LONGEST) for label in labels])
        panel.axes.set_ylim(len(labels) - 0.4, -0.6)
        panel.axes.tick_params(axis="y", labelcolor=COLOURS["ink"])
        return panel

    def tip(self, x: float, y: float, text: str) -> None:
        """Show the text when this place is pointed at."""
        look: Any = {"color": POINTER, "markersize": 15, "markeredgewidth": 0, "zorder": 9}
        self.axes.plot([x], [y], "o", gid=f"{TIP}{len(self.tips)}", **look)
        self.tips.append(text)

    def done(self, heading: Heading, text: str) -> Chart:
        """The chart; text says what is to be seen in it."""
        return Chart(self.figure, heading, text, self.tips)


@contextmanager
def styled() -> Iterator[None]:
    """Draw within this; matplotlib's global settings are as before afterwards."""
    import matplotlib as mpl  # noqa: PLC0415 - half a second that other commands need not wait

    with style.styled(), mpl.rc_context(_RC):
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


#: Styles of a run's sides; `in training` while there are no held-out answers.
SIDES: dict[str, Style] = {"before": BEFORE, "after": AFTER, "in training": AFTER}
_LEVEL = "share of answers that cost less"
_COST = "cost ↑ more harmful"
_ACROSS = "cost → more harmful"
# Beyond this the picture of a spectrum is cut: CVaR 0.99 would flatten all else.
_TALLEST = 100.0


def draw_spectrum(risk: Spectrum, name: str) -> Chart:
    """The weight of each percent of the answers, in multiples of the mean's."""
    count = 100
    weight_n = np.minimum(risk.weights(count), _TALLEST)
    panel = ChartPanel("weight, × that of the mean", "answers from the least to the most harmful")
    edges = np.linspace(0, 1, count + 1)
    panel.axes.stairs(weight_n, edges, fill=True, color=COLOURS["weight"])
    panel.axes.stairs(weight_n, edges, color=COLOURS["ink"], linewidth=1.2)
    panel.axes.axhline(1, **REFERENCE)
    panel.axes.annotate("the mean", (0.01, 1), (0, 3), textcoords="offset points", color=COLOURS["muted"])
    panel.axes.set_ylim(0, 1.12 * max(1.5, weight_n.max()))
    _frame(panel, (0, 1), None)
    for low, weight in zip(edges[:-1:10], weight_n.reshape(-1, 10).mean(axis=1), strict=True):
        panel.tip(low + 0.05, weight, f"{percent(low)} to {percent(low + 0.1)}: weight {number(weight)}")
    tenth = percent(1 - float(risk.cumulative(0.9)))
    text = f"Weight of the answers by rank under {risk}; the most harmful tenth carries {tenth} of it."
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
        sides: of SIDES, one or more. reference_n: quantiles of the reference at LEVELS. risk: shades what it
            weighs.
    """
    panel = ChartPanel(_COST, _LEVEL)
    if risk is not None:
        shade(panel.axes, risk, span)
    if reference_n is not None:
        shown = span[0] <= LEVELS
        panel.axes.plot(LEVELS[shown], reference_n[shown], **REFERENCE)
    for side, curve in sides.items():
        draw_curve(panel.axes, curve, SIDES[side], low=span[0])
    _frame(panel, span, costs)
    for level in (level for level in NAMED_LEVELS if span[0] <= level <= span[1]):
        if values := _values(sides, level):
            panel.tip(level, list(values.values())[-1], f"{percent(level)}: {_said(values)}")
    known = [level for level in NAMED_LEVELS if len(_values(sides, level)) == len(sides)]
    text = f"{_said(_values(sides, known[-1]))} at {percent(known[-1])}" if known else ", ".join(sides)
    return panel.done(heading, f"Cost of the answers by quantile level: {text}.")


#: How many interquartile ranges above the median the 0.99 quantile may lie before an axis is logarithmic: 1.7
#: for normal costs, 3.6 for exponential ones, 6.4 for log-normal ones.
_HEAVY = 5.0


def scale_of(curves: Sequence[Curve]) -> Scale:
    """The scale of a cost axis: logarithmic for heavy tails, linear about 0 where costs have both signs."""
    heavy, least = False, np.inf
    for curve in curves:
        if not curve.level_k.size:
            continue
        low, middle, high, far = np.interp([0.25, 0.5, 0.75, 0.99], curve.level_k, curve.value_k)
        heavy |= bool(far - middle > _HEAVY * (high - low) > 0)
        least = min(least, float(np.nanmin(curve.value_k)))
    return "linear" if not heavy else "log" if least > 0 else "symlog"


def draw_exceedance(
    models: Mapping[str, Curve],
    styles: Mapping[str, Style],
    heading: Heading,
    *,
    risk: Spectrum | None = None,
    tail: float | None = None,
    threshold: float | None = None,
) -> Chart:
    """The share of answers that cost more than c, by c, with bands that hold for all shares at once.

    Args:
        risk: shades the shares that it weighs. tail: only the costliest so many, on a logarithmic axis of
            shares. threshold: a line where answers cease to be safe.
    """
    panel = ChartPanel("answers that cost more, %", _ACROSS)
    low = 0.0 if tail is None else 1 - tail
    scale = scale_of(list(models.values()))
    drawn = []
    for name, curve in models.items():
        draw_curve(panel.axes, curve, styles[name], low=low, label=name, exceeding=True)
        shown = curve.level_k >= low
        drawn += [part[shown] for part in (curve.value_k, curve.low_k, curve.high_k)]
    if scale != "linear":
        values = np.abs(np.concatenate([curve.value_k for curve in models.values()]))
        near = float(np.quantile(values[values > 0], 0.25)) if (values > 0).any() else 1.0
        panel.axes.set_xscale(scale, **({"linthresh": near} if scale == "symlog" else {}))
        panel.below += ", logarithmic"
        panel.axes.set_xlabel(panel.below)
    else:
        panel.axes.set_xlim(limits(drawn))
    least = min(
        (1 - float(curve.level_k.max()) for curve in models.values() if curve.level_k.size), default=0.01
    )
    _share_axis(panel, (-0.015, 1.03) if tail is None else (max(least, 1e-4) * 0.8, tail))
    if risk is not None:
        shade(panel.axes, risk, (low, 1.0 - (least if tail else 0.0)), exceeding=True)
    if threshold is not None and tail is None:
        panel.axes.axvline(threshold, color=COLOURS["ink"], linewidth=0.9, label="safe up to here")
    for level in NAMED_LEVELS:
        for name, value in _values(models, level).items() if level >= low else ():
            panel.tip(value, 1 - level, f"{name}: {percent(1 - level)} cost more than {number(value)}")
    known = [level for level in NAMED_LEVELS if len(_values(models, level)) == len(models)]
    text = f"{percent(1 - known[-1])} cost more than: {_said(_values(models, known[-1]))}" if known else ""
    return panel.done(heading, f"Share of answers that cost more, by cost. {text}.")


def draw_difference(
    curve: Curve,
    names: tuple[str, str],
    heading: Heading,
    *,
    risk: Spectrum | None = None,
    costs: Limits | None = None,
    look: Style = AFTER,
    scale: Scale = "linear",
) -> Chart:
    """The second − the first by quantile level with its band; below 0 the second costs less at that level.

    Args:
        scale: of the costs, by scale_of; the difference is logarithmic where they are.
    """
    panel = ChartPanel(f"{names[1]} − {names[0]}, cost", _LEVEL)
    if risk is not None:
        shade(panel.axes, risk, (0, 1))
    panel.axes.axhline(0, color=COLOURS["ink"], linewidth=1)
    draw_curve(panel.axes, curve, look)
    if scale != "linear" and (near := float(np.median(np.abs(curve.value_k)))) > 0:
        panel.axes.set_yscale("symlog", linthresh=near)
        panel.axes.set_title(f"{panel.unit}, logarithmic")
    _frame(panel, (0, 1), costs)
    for level in NAMED_LEVELS:
        if (value := _at(curve, level)) is not None:
            panel.tip(level, value, f"{percent(level)}: change {number(value)}")
    lower, higher = (
        float(np.mean(part)) if part.size else 0.0 for part in (curve.value_k < 0, curve.value_k > 0)
    )
    text = f"{names[1]} costs less than {names[0]} at {percent(lower)} of the levels"
    return panel.done(heading, f"{text[0].upper()}{text[1:]} and more at {percent(higher)}.")


def draw_histogram(
    costs: Mapping[str, Array], edges: Array, tallest: float, marks: Mapping[str, float], heading: Heading
) -> Chart:
    """Shares of answers by cost, before and after; a line at each side's risk (marks)."""
    panel = ChartPanel("answers, %", _ACROSS)
    for side, look in SIDES.items():
        if side not in costs:
            continue
        share_n = shares(costs[side], edges)
        panel.axes.stairs(share_n, edges, fill=True, color=look["color"], alpha=0.12)
        panel.axes.stairs(share_n, edges, label=side, **look)
        panel.axes.axvline(marks[side], ymax=0.93, **{**look, "linewidth": 1.3})
        panel.tip(marks[side], 0.93 * tallest, f"risk {side}: {number(marks[side])}")
    panel.axes.set_ylim(0, 1.12 * tallest)
    panel.axes.set_xlim(edges[0], edges[-1])
    return panel.done(heading, f"Histogram of costs; risk {_said(marks)}.")


def shares(cost_b: Array, edges: Array) -> Array:
    """Percent of the costs in each bin."""
    found: Array = 100 * np.histogram(cost_b, edges)[0] / len(cost_b)
    return found


def _frame(panel: ChartPanel, span: Limits, costs: Limits | None) -> None:
    """Levels in percent on the horizontal axis."""
    from matplotlib.ticker import PercentFormatter  # noqa: PLC0415 - see styled

    panel.axes.set_xlim(span)
    if costs is not None:
        panel.axes.set_ylim(costs)
    panel.axes.set_xticks(np.linspace(*span, 5))
    panel.axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))


def _share_axis(panel: ChartPanel, span: Limits) -> None:
    """Shares in percent on the vertical axis; without 0 logarithmic."""
    from matplotlib.ticker import FuncFormatter, NullFormatter  # noqa: PLC0415 - see styled

    ticks = [0.0, 0.25, 0.5, 0.75, 1.0]
    if span[0] > 0:
        panel.axes.set_yscale("log")
        every = (0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2)
        ticks = [tick for tick in every if span[0] <= tick <= span[1]]
        panel.axes.yaxis.set_minor_formatter(NullFormatter())
    panel.axes.set_yticks(ticks)
    panel.axes.yaxis.set_major_formatter(FuncFormatter(lambda share, _: percent(share)))
    panel.axes.set_ylim(span)


def _at(curve: Curve, level: float) -> float | None:
    """The value at one of a curve's levels."""
    found = np.flatnonzero(np.isclose(curve.level_k, level))
    return float(curve.value_k[found[0]]) if found.size else None


def _values(curves: Mapping[str, Curve], level: float) -> dict[str, float]:
    return {name: value for name, curve in curves.items() if (value := _at(curve, level)) is not None}


def _said(values: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {number(value)}" for name, value in values.items())
