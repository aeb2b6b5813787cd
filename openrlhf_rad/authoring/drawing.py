"""Spectra drawn for a document: φ, bin weights and cumulative weight, one curve a constraint.

Every curve has its own colour (Okabe and Ito's, which colour-blind readers tell apart), its own line style
(which survives a grey printer), and its name beside it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from openrlhf_rad.authoring.words import parts
from openrlhf_rad.errors import ConfigError
from openrlhf_rad.files import write_named
from openrlhf_rad.method.spectrum import Spectrum
from openrlhf_rad.profile import RiskProfile
from openrlhf_rad.style import new_figure, rendered, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: A spectrum and the name that stands beside its curve.
Curve = tuple[str, Spectrum]

_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#E69F00", "#56B4E9", "#7F7F7F")
_STYLES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (1, 1)), (0, (3, 1, 1, 1)), (0, (7, 3)))
_FORMATS = (".png", ".svg", ".pdf")
_BINS = 20
_LEVELS = np.linspace(0, 1, 1001)


def curves(named: Iterable[tuple[str, RiskProfile]]) -> list[Curve]:
    """The curves of some profiles: one each, or one for each constraint where there are several."""
    drawn: list[Curve] = []
    for name, profile in named:
        several = parts(profile)
        drawn += [(f"{name} · {part.name}" if len(several) > 1 else name, part.risk) for part in several]
    return drawn


def check_target(path: Path, count: int) -> None:
    """Refuse what could not be drawn, before matplotlib is loaded. Raises ConfigError."""
    if path.suffix.lower() not in _FORMATS:
        raise ConfigError(
            f"{path}: its ending is {path.suffix or 'missing'}; pictures are written as"
            f" {', '.join(_FORMATS)}; write for instance --out {path.stem or 'picture'}.svg"
        )
    if count > len(_COLOURS):
        raise ConfigError(
            f"{count} curves on one picture; at most {len(_COLOURS)} can be told apart; name fewer profiles"
        )


def draw(drawn: Sequence[Curve], path: Path) -> None:
    """Write the picture of some spectra; the same bytes for the same spectra.

    Raises:
        ConfigError: an ending that is not known, or too many curves. EnvironmentProblem: a full disk.
    """
    check_target(path, len(drawn))
    with styled():
        write_named(path, rendered(figure_of(drawn), path.suffix.lower().removeprefix(".")))


def figure_of(drawn: Sequence[Curve]) -> Figure:
    """φ, weights of 20 bins and cumulative weight, side by side."""
    figure = new_figure(12.0, 3.8)
    density, weight, cumulative = figure.subplots(1, 3, width_ratios=[1.15, 1.15, 1])
    # φ may be infinite at 1 (Wang).
    t = _LEVELS[:-1]
    edges = np.arange(_BINS + 1) / _BINS
    tops: list[list[float]] = [[], []]
    for (_, spectrum), style in zip(drawn, _styles(len(drawn)), strict=True):
        phi, weight_n = spectrum.density(t), spectrum.weights(_BINS)
        density.plot(t, phi, **style)
        weight.step(edges, np.append(weight_n, weight_n[-1]), where="post", **style)
        cumulative.plot(_LEVELS, spectrum.cumulative(_LEVELS), **style)
        tops[0].append(float(phi[np.isfinite(phi)][-1]))
        tops[1].append(float(weight_n[-1]))
    for axes, ends in zip((density, weight), tops, strict=True):
        axes.set_ylim(0, None)
        _name_ends(axes, drawn, ends)
    _name_inside(cumulative, drawn)
    for axes, title in (
        (density, "φ(t), how much a quantile counts"),
        (weight, f"weight of {_BINS} bins, mean 1"),
        (cumulative, "cumulative weight"),
    ):
        axes.set_xlim(0, 1)
        axes.set_title(title)
        axes.set_xlabel("share of answers that cost less")
    return figure


def _styles(count: int) -> list[dict[str, object]]:
    return [
        {"color": colour, "linestyle": line, "linewidth": 1.8}
        for colour, line in zip(_COLOURS[:count], _STYLES[:count], strict=True)
    ]


def _name_ends(axes: Axes, drawn: Sequence[Curve], end_k: Sequence[float]) -> None:
    """The names right of the axes at the height where the curves end, pushed apart where they would touch."""
    low, high = axes.get_ylim()
    gap = 0.075 * (high - low)
    order = sorted(range(len(drawn)), key=lambda k: end_k[k])
    places: list[float] = []
    for k in order:
        places.append(max(end_k[k], places[-1] + gap if places else low))
    # What was pushed past the top moves down as a block.
    excess = max(places[-1] - high, 0.0)
    places = [max(place - excess, low + gap * rank) for rank, place in enumerate(places)]
    for k, place in zip(order, places, strict=True):
        axes.annotate(
            drawn[k][0],
            (1, min(end_k[k], high)),
            xytext=(1.04, place),
            xycoords="data",
            textcoords="data",
            color=_COLOURS[k],
            va="center",
            fontsize=9,
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "-",
                "color": _COLOURS[k],
                "linewidth": 0.7,
                "shrinkA": 0,
                "shrinkB": 0,
            },
        )


def _name_inside(axes: Axes, drawn: Sequence[Curve]) -> None:
    """The names on the curves themselves, each at a height of its own, for all of them end at 1."""
    count = len(drawn)
    order = sorted(range(count), key=lambda k: float(drawn[k][1].cumulative(0.7)))
    for rank, k in enumerate(order):
        height = 0.12 + 0.76 * (rank + 0.5) / count
        place = float(np.interp(height, drawn[k][1].cumulative(_LEVELS), _LEVELS))
        axes.annotate(
            drawn[k][0],
            (place, height),
            xytext=(-5, 0),
            textcoords="offset points",
            color=_COLOURS[k],
            ha="right",
            va="center",
            fontsize=9,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.6, "alpha": 0.85},
        )
