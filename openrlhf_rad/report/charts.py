"""The canvas of the page's charts: small panels of one size, legible at 330 pixels, in the page's colours."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from openrlhf_rad.report.svg import COLOURS, POINTER, TIP, inline_svg

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
