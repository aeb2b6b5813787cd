"""The look of all pictures: a palette that colour-blind readers and grey printers tell apart, and saving."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openrlhf_rad.files import write_atomically

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Okabe and Ito's palette; each curve has its own line style as well.
REFERENCE: dict[str, Any] = {"color": "#555555", "linestyle": ":", "linewidth": 1.6}
BEFORE: dict[str, Any] = {"color": "#0072B2", "linestyle": "--", "linewidth": 1.8}
AFTER: dict[str, Any] = {"color": "#D55E00", "linestyle": "-", "linewidth": 1.8}
WEIGHT = "#F0E442"
_RC: Any = {
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.7,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "figure.dpi": 100,
    "savefig.dpi": 180,
    "svg.hashsalt": "openrlhf-rad",
}


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
    written = []
    for form, metadata in (("png", {}), ("svg", {"Date": None})):
        buffer = io.BytesIO()
        figure.savefig(buffer, format=form, metadata=metadata)
        path = stem.with_name(f"{stem.name}.{form}")  # a name may hold dots
        write_atomically(path, buffer.getvalue())
        written.append(path)
    return written
