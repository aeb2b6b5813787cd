"""Pictures made of characters; every line is plain text of at most the width asked for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from openrlhf_rad.authoring.words import TAILS, percent, share_on_worst
from openrlhf_rad.method.spectrum import Spectrum

_EIGHTHS = " ▁▂▃▄▅▆▇█"
_ACROSS = " ▏▎▍▌▋▊▉█"
# The whole range over that of the middle 99 %, from which on the rest goes into the last columns.
_FAR = 2.0


def columns(height_n: ArrayLike, rows: int, top: float | None = None) -> list[str]:
    """Bars that stand on one line, a character wide; top is the value of a full bar, by default the largest.

    Anything above zero shows at least an eighth, so that a little never looks like nothing.
    """
    value_n = np.asarray(height_n, dtype=np.float64)
    highest = float(value_n.max(initial=0)) if top is None else top
    scaled = np.zeros_like(value_n) if highest <= 0 else value_n / highest * rows * 8
    eighth_n = np.where(value_n > 1e-9 * highest, np.maximum(np.round(scaled), 1), 0).astype(int)
    return [
        "".join(_EIGHTHS[min(max(eighths - 8 * row, 0), 8)] for eighths in eighth_n)
        for row in reversed(range(rows))
    ]


def bar(share: float, width: int) -> str:
    """A share of 1 as a bar that lies."""
    eighths = max(round(share * width * 8), 1 if share > 0 else 0)
    full, rest = divmod(eighths, 8)
    return ("█" * full + (_ACROSS[rest] if rest else ""))[:width]


def weight_picture(spectrum: Spectrum, width: int, rows: int = 5, top: float | None = None) -> list[str]:
    """The bin weights by quantile, best answers left; the scale on the left in multiples of the average."""
    scale = 7
    weight_n = spectrum.weights(_bins(width))
    highest = float(weight_n.max()) if top is None else top
    labels = [f"{highest:.3g}×", *[""] * (rows - 2), ""]
    lines = [
        f"{label:>{scale}}┤{line}".rstrip()
        for label, line in zip(labels, columns(weight_n, rows, highest), strict=True)
    ]
    return [*lines, f"{'0':>{scale}}┼{'─' * weight_n.size}", _axis(scale + 1, weight_n.size)]


def highest_weight(spectra: Iterable[Spectrum], width: int) -> float:
    """The largest bin weight of several pictures, for a scale in common."""
    return max(float(spectrum.weights(_bins(width)).max()) for spectrum in spectra)


def tail_lines(spectrum: Spectrum, width: int) -> list[str]:
    """The share of the weight on the worst 1, 5 and 10 %, each with its bar."""
    lines = []
    for tail in TAILS:
        share = share_on_worst(spectrum, tail)
        head = f"worst {tail:2d} % of answers  {percent(share):>7} "
        lines.append(f"{head}{bar(share, max(width - len(head), 1))}".rstrip())
    return lines


def histogram(value_b: ArrayLike, width: int, rows: int, marks: Sequence[tuple[float, str]]) -> list[str]:
    """How many values fall into each column, an axis with both ends, and a line a mark below it.

    A few far values would squeeze all others into one column; the last columns then hold what lies beyond,
    and the axis says so: `15.3 … 181`.

    Args:
        value_b: finite, not all equal, shape (B,).
        marks: (value, text); a mark outside the axis stands at its end.
    """
    values = np.asarray(value_b, dtype=np.float64)
    low, high = ends(values, [value for value, _ in marks])
    count_n, _ = np.histogram(np.clip(values, low, high), bins=width, range=(low, high))
    left, right = f"{low:.3g}", f"{high:.3g}"
    least, greatest = float(values.min()), float(values.max())
    left = f"{least:.3g} … {left}" if least < low else left
    right = f"{right} … {greatest:.3g}" if greatest > high else right
    lines = [line.rstrip() for line in columns(count_n, rows)]
    lines += ["─" * width, f"{left}{right:>{width - len(left)}}"]
    for value, text in marks:
        lines += _mark(int(np.clip((value - low) / (high - low) * width, 0, width - 1)), text, width)
    return lines


def _mark(column: int, text: str, width: int) -> list[str]:
    """An arrow up at a column with its text beside it, right of it if there is room."""
    if column + 2 + len(text) <= width:
        return [f"{' ' * column}▲ {text}"]
    if len(text) + 1 <= column:
        return [f"{text} ▲".rjust(column + 1)]
    return [" " * column + "▲", text[:width].rjust(width)]


def ends(value_b: NDArray[np.float64], marks: Sequence[float]) -> tuple[float, float]:
    """The axis: all values but far ones, and the marks as far as they lie within one range of them."""
    low, high = float(value_b.min()), float(value_b.max())
    inner = [float(end) for end in np.quantile(value_b, [0.005, 0.995])]
    if high - low > _FAR * (inner[1] - inner[0]) > 0:
        low, high = inner
    near = [mark for mark in marks if low - (high - low) <= mark <= high + (high - low)]
    return min([low, *near]), max([high, *near])


def _bins(width: int) -> int:
    """The bins of a weight picture: tens where they fit, so that α = 0.9 falls between two columns."""
    room = width - 8
    return room // 10 * 10 if room >= 20 else max(room, 5)


def _axis(indent: int, width: int) -> str:
    left, right = "best answers", "worst"
    return " " * indent + left + right.rjust(width - len(left))
