"""Pictures made of characters: quantiles before and after, and curves in one line."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from rich.text import Text

from openrlhf_rad.runs.summary import number

LEVELS = (0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99)
_BARS = "▁▂▃▄▅▆▇█"


def quantile_sketch(before_b: ArrayLike, after_b: ArrayLike, width: int) -> Text:
    """A line for each level of LEVELS: ○ is the quantile before, ● after, on one axis of costs.

    Args:
        before_b, after_b: costs in the same unit, shapes (B,) and (A,).
        width: columns to fill, at least 30.
    """
    before_n, after_n = (
        np.quantile(np.asarray(side, dtype=np.float64), LEVELS, method="inverted_cdf")
        for side in (before_b, after_b)
    )
    low, high = min(before_n[0], after_n[0]), max(before_n[-1], after_n[-1])
    room = max(width, 30) - 8
    scale = (room - 1) / (high - low) if high > low else 0.0
    text = Text("cost at quantile   ")
    text.append("○ before", style="blue").append("   ").append("● after", style="bold yellow").append("\n")
    for level, old, new in zip(LEVELS, before_n, after_n, strict=True):
        text.append(f"{100 * level:4.0f} %  ", style="dim")
        text.append(_dumbbell(round((old - low) * scale), round((new - low) * scale), room)).append("\n")
    left, right = number(low), number(high)
    axis = f"{left}{right.rjust(room - len(left))}" if high > low else left
    return text.append(f"        {axis}", style="dim")


def sparkline(values: Sequence[float | None], width: int) -> str:
    """The values as bars from the least to the greatest, thinned to width columns; · where none is known."""
    if not values:
        return ""
    groups = np.array_split(np.array([np.nan if v is None else v for v in values]), min(width, len(values)))
    mean_n = np.array(
        [group[np.isfinite(group)].mean() if np.isfinite(group).any() else np.nan for group in groups]
    )
    known = mean_n[np.isfinite(mean_n)]
    if known.size == 0:
        return "·" * len(groups)
    low, spread = known.min(), np.ptp(known)
    return "".join(
        _BARS[round((v - low) / spread * 7) if spread > 0 else 0] if np.isfinite(v) else "·" for v in mean_n
    )


def _dumbbell(old: int, new: int, room: int) -> Text:
    """One line with both marks and a bar between them."""
    cells = [" "] * room
    for place in range(min(old, new), max(old, new)):
        cells[place] = "─"
    cells[old], cells[new] = "○", "●"
    if old == new:
        cells[new] = "◉"
    line = Text("".join(cells).rstrip())
    line.stylize("blue", old, old + 1)
    line.stylize("bold yellow", new, new + 1)
    return line
