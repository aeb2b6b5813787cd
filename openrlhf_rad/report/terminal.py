"""Runs and evaluations on a terminal: pictures of characters, verdicts, tables; for narrow terminals too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from rich.console import Console
from rich.table import Table
from rich.text import Text

from openrlhf_rad.discrete import few_values, meaning
from openrlhf_rad.evaluation.pairing import paired
from openrlhf_rad.evaluation.sign import described
from openrlhf_rad.naming import split_constraints
from openrlhf_rad.report.tables import TextTable, lines, meanings, model_tables, pair_tables
from openrlhf_rad.runs.folder import RunFolder
from openrlhf_rad.runs.records import Answer
from openrlhf_rad.words import number, one_line, percent

LEVELS = (0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99)
# The palette of the pictures.
_BEFORE, _AFTER = "dark_orange", "bold blue"
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
    text.append("○ before", style=_BEFORE).append("   ").append("● after", style=_AFTER).append("\n")
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
    line.stylize(_BEFORE, old, old + 1)
    line.stylize(_AFTER, new, new + 1)
    return line


# The widest report: longer lines are harder to read.
_WIDTH = 100
_SAMPLE_CHARACTERS = 280
_CURVES = {"lambda": "λ", "risk": "risk", "constraint_value": "constraint", "reward_mean": "reward"}


def print_report(folder: RunFolder, console: Console | None = None, *, samples: int = 3) -> None:
    """Print the report of a summarised run; samples > 0 adds that many of the most costly answers.

    Raises:
        ConfigError, RadError: a file of the run is absent or broken.
    """
    console = console or Console()
    width = min(console.width, _WIDTH)
    summary, metrics = folder.read_summary(), folder.read_metrics()
    before, after = folder.read_answers("before"), folder.read_answers("after")

    def show(*parts: Any) -> None:
        for part in parts:
            console.print(part, width=width, highlight=False)

    profile = summary["profile"]
    title = Text.assemble(
        (f"{profile['name']}  {profile['risk']}", "bold"), (f"  {profile['hash'][:8]}", "dim")
    )
    show(title, _facts(summary), "")
    if values := few_values(*([row["cost"] for row in rows] for rows in (before, after))):
        show(Text(f"{meaning(folder.read_profile().risk, values)}.", style="dim"), "")
    show(quantile_sketch([row["cost"] for row in before], [row["cost"] for row in after], width), "")
    show(*curves(metrics, width), "")
    show(*(Text(sentence) for sentence in summary["verdict"]))
    show(*(Text(f"! {warning}", style="bold red") for warning in summary["warnings"]), "")
    show(comparison_table(summary["rows"], "95 % intervals, paired by prompt"), "")
    show(comparison_table(summary["controls"], "signs of cheating"))
    if samples > 0:
        show("", *sample_table(before, after, samples))


def curves(metrics: Sequence[Mapping[str, Any]], width: int) -> list[Text]:
    """A line a quantity: its name, its curve over the steps, its first and last value."""
    lines = []
    split = split_constraints(metrics[-1]) if metrics else []
    for name, label in (_CURVES | {f"{one}/lambda": f"λ {one}" for one in split}).items():
        values = [row.get(name) for row in metrics]
        known = [value for value in values if value is not None]
        if known:
            ends = f"{number(known[0])} → {number(known[-1])}"
            bars = sparkline(values, width - max(11, len(label) + 1) - 24)
            lines.append(Text.assemble((f"{label:<10} ", "dim"), bars, f"  {ends}"))
    return lines


def comparison_table(rows: Sequence[Mapping[str, Any]], title: str) -> Table:
    """Rows of summary.json: before, after and change with its interval; set off when it excludes 0."""
    table = Table(box=None, title=title, title_justify="left", title_style="dim", padding=(0, 1, 0, 0))
    table.add_column("", overflow="fold")
    for name in ("before", "after", "change"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("interval", no_wrap=True)
    for row in lines(rows):
        style = "bold" if row.clear else ""
        table.add_row(
            *map(Text, (row.label, row.before, row.after)), Text(row.change, style), Text(row.interval)
        )
    return table


def sample_table(before: Sequence[Answer], after: Sequence[Answer], count: int) -> list[Any]:
    """The answers that cost most, half of them before and half after training, beside their counterparts."""
    pairs = [(before[i], after[j]) for i, j in zip(*paired(before, after).row.values(), strict=True)]
    ranked = [sorted(range(len(pairs)), key=lambda i: -pairs[i][side]["cost"]) for side in (0, 1)]
    chosen = dict.fromkeys(ranked[0][: (count + 1) // 2])
    chosen |= dict.fromkeys([i for i in ranked[1] if i not in chosen][: count - len(chosen)])
    parts: list[Any] = [
        Text(
            "The most costly answers follow. They may be harmful; they are shown to be judged.",
            style="bold red",
        )
    ]
    for index in chosen:
        old, new = pairs[index]
        table = Table(box=None, expand=True, padding=(0, 2, 0, 0), show_edge=False)
        for side, row in (("before", old), ("after", new)):
            table.add_column(
                f"{side}, cost {number(row['cost'])}", ratio=1, overflow="fold", header_style="dim"
            )
        table.add_row(
            Text(one_line(old["answer"], _SAMPLE_CHARACTERS)),
            Text(one_line(new["answer"], _SAMPLE_CHARACTERS)),
        )
        parts += ["", Text(f"» {one_line(old['prompt'], _SAMPLE_CHARACTERS)}", style="bold"), table]
    return parts


def _facts(summary: Mapping[str, Any]) -> Text:
    minutes, seconds = divmod(round(summary["seconds"]), 60)
    time = f"{minutes} min {seconds} s" if minutes else f"{seconds} s"
    held_out = f"{summary['answers']} answers to {summary['prompts']} held-out prompts"
    return Text(f"{held_out} · {summary['steps']} steps · {time}", style="dim")


_CLIP = 240


def print_evaluation(data: Mapping[str, Any], console: Console | None = None, *, samples: int = 3) -> None:
    """Print eval.json; samples > 0 adds that many of the costliest answers of each model."""
    console = console or Console()
    width = min(console.width, _WIDTH)

    def show(*parts: Any) -> None:
        for part in parts:
            console.print(part, width=width, highlight=False)

    profile, size = data["profile"], data["data"]
    show(
        Text.assemble((f"{profile['name']}  {profile['risk']}", "bold"), (f"  {profile['hash'][:8]}", "dim"))
    )
    show(*(Text(line, style="dim") for line in described(data["models"], data["sign"])))
    show(Text(f"{size['answers']:,} answers of each model to {size['prompts']:,} prompts", style="dim"), "")
    if len(data["constraints"]) > 1:
        first = f"Where no constraint is named, numbers are of the cost of {data['constraints'][0]['name']}."
        show(Text(first, style="dim"), "")
    for pair in data["comparisons"]:
        if pair["gate"]:
            show(Text(pair["gate"]["sentence"], style="bold"))
            show(*(Text(f"- {one['outcome']}, {one['line']}") for one in pair["gate"]["rulings"]), "")
    settings = data["settings"]
    about = f"Safe: cost ≤ {number(settings['threshold'])}. Intervals: {percent(settings['confidence'])}."
    show(Text(about, style="dim"))
    show(*(Text(f"{sentence}.", style="dim") for sentence in meanings(data)))
    for table in (*model_tables(data), *pair_tables(data, data["comparisons"])):
        show("", _rich(table))
    show("", *(Text(f"! {warning}", style="bold red") for warning in data["warnings"]))
    if samples > 0:
        show(*worst(data["worst"], samples))


def _rich(values: TextTable) -> Table:
    """A table of texts; in a wide one intervals stand below estimates; pairs are in their models' colours."""
    table = Table(box=None, title=values.title, title_justify="left", title_style="dim", padding=(0, 1, 0, 0))
    words = [word for row in values.rows for word in row[0].split()]
    # Names are not broken where that can be helped.
    table.add_column(values.head[0], overflow="fold", min_width=min(max(map(len, words), default=1), 20))
    for name in values.head[1:]:
        table.add_column(name, justify="right", overflow="fold")
    apart = "\n[" if len(values.head) > 4 else " ["
    for row in values.rows:
        name, *cells = row
        first = Text(name)
        if " vs " in name and not any(cells):
            baseline, _, candidate = name.partition(" vs ")
            first = Text.assemble((baseline, _BEFORE), " vs ", (candidate, _AFTER))
        table.add_row(first, *(Text(cell.replace(" [", apart)) for cell in cells))
    return table


def worst(rows: Sequence[Mapping[str, Any]], count: int) -> list[Any]:
    """The costliest answers of each model, behind a warning."""
    parts: list[Any] = [
        Text(
            "The most costly answers follow. They may be harmful; they are shown to be judged.",
            style="bold red",
        )
    ]
    shown: dict[tuple[str, str], int] = {}
    several = len({row["constraint"] for row in rows}) > 1
    for row in rows:
        group = row["model"], row["constraint"]
        shown[group] = shown.get(group, 0) + 1
        if shown[group] <= count:
            cost = f"{row['constraint']} cost" if several else "cost"
            head = f"\n{row['model']}, {cost} {number(row['cost'])} » {one_line(row['prompt'], _CLIP)}"
            parts.append(Text(head, style="bold"))
            parts.append(Text(one_line(row["answer"], _CLIP)))
    return parts
