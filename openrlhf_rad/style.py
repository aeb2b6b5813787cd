"""The look of all pictures: a palette that colour-blind readers and grey printers tell apart, and saving."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import cycle, product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from openrlhf_rad.files import write_atomically
from openrlhf_rad.method.spectrum import Spectrum
from openrlhf_rad.statistics.curves import Curve

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Okabe and Ito's palette, and the greys of texts and lines; in a page each is a variable of its style sheet.
COLOURS = {
    "ink": "#1c2128",
    "muted": "#57606a",
    "line": "#e4e4e4",
    "before": "#d55e00",
    "after": "#0072b2",
    "other-1": "#009e73",
    "other-2": "#cc79a7",
    "other-3": "#e69f00",
    "other-4": "#56b4e9",
    "reference": "#555555",
    "weight": "#f0e442",
    "good": "#17692f",
    "bad": "#a3201a",
}
# Each curve has its own line style as well. What is compared with, the model before training or the baseline,
# is orange everywhere; the trained, after or the candidate, is blue.
BEFORE: dict[str, Any] = {"color": COLOURS["before"], "linestyle": (0, (5, 2.2)), "linewidth": 1.9}
AFTER: dict[str, Any] = {"color": COLOURS["after"], "linestyle": "-", "linewidth": 2.0}
OTHERS: list[dict[str, Any]] = [
    {"color": COLOURS["other-1"], "linestyle": "-.", "linewidth": 1.8},
    {"color": COLOURS["other-2"], "linestyle": ":", "linewidth": 2.0},
    {"color": COLOURS["other-3"], "linestyle": (0, (5, 1, 1, 1, 1, 1)), "linewidth": 1.8},
    {"color": COLOURS["other-4"], "linestyle": (0, (1, 1)), "linewidth": 1.8},
]
#: A level, or the answers to the training prompts.
REFERENCE: dict[str, Any] = {"color": COLOURS["reference"], "linestyle": (0, (1.2, 2)), "linewidth": 1.7}
WEIGHT = COLOURS["weight"]

_RC: Any = {
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.labelcolor": COLOURS["muted"],
    "axes.edgecolor": COLOURS["muted"],
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": COLOURS["line"],
    "grid.linewidth": 0.7,
    "text.color": COLOURS["ink"],
    "xtick.color": COLOURS["muted"],
    "ytick.color": COLOURS["muted"],
    "legend.frameon": False,
    "legend.fontsize": 9,
    "figure.dpi": 100,
    "savefig.dpi": 180,
    "svg.hashsalt": "openrlhf-rad",
}


def model_styles(models: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Each model of an evaluation by name with its style, the same in every chart, file and legend."""
    others, own = cycle(OTHERS), {"baseline": BEFORE, "candidate": AFTER}
    return {model["name"]: own.get(model["role"]) or next(others) for model in models}


@contextmanager
def styled() -> Iterator[None]:
    """Draw and save within this; matplotlib's global settings are as before afterwards."""
    import matplotlib as mpl  # noqa: PLC0415 - half a second that other commands need not wait

    with mpl.rc_context(_RC):
        yield


def new_figure(width: float, height: float) -> Figure:
    """A figure in inches that needs no display and no global state."""
    from matplotlib.figure import Figure  # noqa: PLC0415

    return Figure(figsize=(width, height), layout="constrained")


def save(figure: Figure, stem: Path) -> list[Path]:
    """Write stem.png and stem.svg, the same bytes for the same data; returns their paths."""
    paths = {form: stem.with_name(f"{stem.name}.{form}") for form in ("png", "svg")}  # a name may hold dots
    for form, path in paths.items():
        write_atomically(path, rendered(figure, form))
    return list(paths.values())


def rendered(figure: Figure, form: str) -> bytes:
    """The figure as png, svg or pdf, the same bytes for the same figure."""
    buffer, dated = io.BytesIO(), {"svg": "Date", "pdf": "CreationDate"}
    figure.savefig(buffer, format=form, metadata={dated[form]: None} if form in dated else {})
    return buffer.getvalue()


def draw_curve(
    axes: Axes,
    curve: Curve,
    style: Mapping[str, Any],
    *,
    low: float = 0.0,
    label: str | None = None,
    exceeding: bool = False,
) -> None:
    """A curve over the levels from ``low`` on, with its band where that has both ends.

    Args:
        exceeding: costs lie on the horizontal axis, and over them the share of answers that cost more.
    """
    shown = curve.level_k >= low
    bounded = shown & np.isfinite(curve.low_k) & np.isfinite(curve.high_k)
    level_k, *band = (part[bounded] for part in (curve.level_k, curve.low_k, curve.high_k))
    if exceeding:
        axes.fill_betweenx(1 - level_k, *band, color=style["color"], alpha=0.16, linewidth=0)
        axes.plot(curve.value_k[shown], 1 - curve.level_k[shown], label=label, **style)
    else:
        axes.fill_between(level_k, *band, color=style["color"], alpha=0.16, linewidth=0)
        axes.plot(curve.level_k[shown], curve.value_k[shown], label=label, **style)


def shade(axes: Axes, spectrum: Spectrum, span: tuple[float, float], *, exceeding: bool = False) -> None:
    """Shade levels by their weight, the heaviest of the span most; equal neighbours become one area.

    Args:
        exceeding: the shares of answers that cost more are on the vertical axis, as in draw_curve.
    """
    edges = np.linspace(*span, 41)
    weight_n = np.diff(spectrum.cumulative(edges))
    strength_n = np.round(weight_n / max(weight_n.max(), 1e-12), 2)
    start_k = np.flatnonzero(np.append(True, np.diff(strength_n) != 0))
    for start, stop in zip(start_k, [*start_k[1:], strength_n.size], strict=True):
        if strength_n[start] > 0.01:
            look: Any = {
                "color": WEIGHT,
                "alpha": 0.4 * float(strength_n[start]),
                "linewidth": 0,
                "zorder": 0,
            }
            if exceeding:
                axes.axhspan(1 - edges[stop], 1 - edges[start], **look)
            else:
                axes.axvspan(edges[start], edges[stop], **look)


#: How far from its point a label may stand, in points; from the second on a line leads to it.
_REACH = (4, 16, 28, 40, 52)
_AROUND = ((1, 1), (1, -1), (-1, 1), (-1, -1), (0, 1), (0, -1), (1, 0), (-1, 0))


def name_points(figure: Figure, points: Mapping[str, tuple[float, float]]) -> None:
    """Write each name beside its point, in the first place around it that covers no other label and no point.

    The figure has one panel, whose limits are final then.
    """
    from matplotlib.transforms import Bbox  # noqa: PLC0415

    (axes,) = figure.axes
    axes.set(xlim=axes.get_xlim(), ylim=axes.get_ylim())
    figure.draw_without_rendering()
    taken = [Bbox.from_bounds(x - 4, y - 4, 8, 8) for x, y in axes.transData.transform(list(points.values()))]
    spots = list(product(_REACH, _AROUND))
    for name, point in points.items():
        for spot in spots:
            reach, (right, up) = spot
            offset: Any = {"xytext": (right * reach, up * reach), "textcoords": "offset points"}
            side: Any = {"ha": ("center", "left", "right")[right], "va": ("center", "bottom", "top")[up]}
            label = axes.annotate(name, point, fontsize=8, **offset, **side)
            box = label.get_window_extent()
            inside = axes.bbox.contains(box.x0, box.y0) and axes.bbox.contains(box.x1, box.y1)
            if spot == spots[-1] or (inside and not any(box.overlaps(other) for other in taken)):
                break
            label.remove()
        taken.append(box)
        if reach > _REACH[0]:
            line = {"arrowstyle": "-", "color": COLOURS["muted"], "linewidth": 0.6}
            axes.annotate("", point, arrowprops=line, **offset)


def histogram_edges(cost_b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Common bin edges: Freedman and Diaconis's width, held to 12 to 40 bins."""
    count = int(np.clip(len(np.histogram_bin_edges(cost_b, "fd")) - 1, 12, 40))
    return np.histogram_bin_edges(cost_b, count)
