"""A profile on a page, its weights as pictures made of characters, and as tables for other programs.

Every line of a picture is plain text of at most the width asked for.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from openrlhf_rad.authoring import words
from openrlhf_rad.authoring.words import TAILS, parts, percent, share_on_worst
from openrlhf_rad.discrete import meaning
from openrlhf_rad.method.constraint import FORMS
from openrlhf_rad.method.particles import quantile_levels
from openrlhf_rad.method.spectrum import Spectrum
from openrlhf_rad.profile import Constraint, RiskProfile, WatchSettings

Format = Literal["csv", "json", "npy"]

_EIGHTHS = " ▁▂▃▄▅▆▇█"
_ACROSS = " ▏▎▍▌▋▊▉█"
# The whole range over that of the middle 99 %, from which on the rest goes into the last columns.
_FAR = 2.0


def page(profile: RiskProfile, width: int) -> Iterator[RenderableType]:
    """What ``rad profile show`` prints, piece by piece, each at most width columns wide."""
    yield Text.assemble((profile.name, "bold"), (f"  hash {profile.hash[:12]}", "dim"))
    if profile.description:
        yield Text(profile.description)
    several = parts(profile)
    for part in several:
        yield Text("")
        if len(several) > 1:
            yield Text(heading(part), style="bold underline")
        yield Text("weight of an answer, as a multiple of the average", style="dim")
        yield from (Text(line, style="cyan") for line in weight_picture(part.risk, width))
        yield Text("")
        yield Text("share of the weight", style="dim")
        yield from (Text(line) for line in tail_lines(part.risk, width))
        yield Text("")
        yield facts(part)
    yield Text("")
    yield common(profile)
    yield from (Text(f"! {warning}", style="yellow") for warning in profile.warnings)


def facts(part: Constraint) -> Table:
    """What one constraint says, a line a fact."""
    settings, dual = part.settings, part.dual
    table = _table()
    table.add_row("measure", str(part.risk))
    table.add_row("formula", part.risk.formula)
    table.add_row("bounds", words.bounded(part.risk))
    table.add_row("constraint", f"{settings.form}: {FORMS[settings.form].formula}")
    table.add_row("level", words.amount(settings.level))
    if settings.margin.value:
        table.add_row("margin", words.amount(settings.margin))
    table.add_row("asks", f"{words.requirement(settings)}{promise(part)}")
    table.add_row("price λ", f"from {dual.initial:g}, at most {dual.max:g}, step {dual.step:g}")
    if moves := words.price_moves(dual):
        table.add_row("moves", " ".join(moves))
    table.add_row("cost", f"{part.cost.kind}: {part.cost.location}" if part.cost else "none named yet")
    if part.values:
        table.add_row("means", meaning(part.risk, part.values))
    return table


def common(profile: RiskProfile) -> Table:
    """What all constraints share."""
    reference, transport = profile.reference, profile.transport
    table = _table()
    table.add_row(
        "reference", f"{profile.reference_samples} answers{f' in {reference.file}' if reference.file else ''}"
    )
    entropy = "none, exact" if transport.indicator == "exact" else f"ε = {transport.epsilon:g} spreads"
    table.add_row("transport", f"{transport.particles or 'auto'} particles; entropy {entropy}")
    usual = asdict(WatchSettings())
    if changed := [f"{key} {value}" for key, value in asdict(profile.watches).items() if value != usual[key]]:
        table.add_row("watches", ", ".join(changed))
    return table


def promise(part: Constraint) -> str:
    """By how much the risk falls once the constraint is met, where the file says it."""
    asked = words.asked_reduction(part.settings)
    if asked is None or not FORMS[part.settings.form].by_margin:
        return ""
    return f". The risk then lies at least {words.amount(asked)} below the reference's"


def heading(part: Constraint) -> str:
    """The name of a constraint and the prompts that it is on."""
    if part.segment:
        where = f", prompts labelled {part.segment}"
    else:
        where = f", prompts not labelled {', '.join(part.excluded)}" if part.excluded else ""
    return f"{part.name}: {part.risk}{where}"


def _table() -> Table:
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    return table


def tabulate(profile: RiskProfile, n: int, form: Format) -> bytes:
    """The weights of n equally probable quantiles, mean 1, from the best answers to the worst.

    CSV has a column for the level t_i = (i − ½)/n and one for each constraint; JSON the same as lists; NPY
    an array of shape (n,), or (constraints, n) where there are several.
    """
    named = {part.name: part.risk.weights(n) for part in parts(profile)}
    if form == "npy":
        buffer = io.BytesIO()
        rows = list(named.values())
        np.save(buffer, rows[0] if len(rows) == 1 else np.stack(rows), allow_pickle=False)
        return buffer.getvalue()
    level_n = quantile_levels(n)
    if form == "json":
        data = {"profile": profile.name, "hash": profile.hash, "n": n, "levels": level_n.tolist()}
        return (json.dumps(data | {"weights": {k: w.tolist() for k, w in named.items()}}) + "\n").encode()
    header = ["level", *(["weight"] if len(named) == 1 else named)]
    lines = [",".join(header)]
    lines += [",".join(repr(float(x)) for x in row) for row in zip(level_n, *named.values(), strict=True)]
    return ("\n".join(lines) + "\n").encode()


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
    best, worst = "best answers", "worst"
    ends = f"{' ' * (scale + 1)}{best}{worst:>{weight_n.size - len(best)}}"
    return [*lines, f"{'0':>{scale}}┼{'─' * weight_n.size}", ends]


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
