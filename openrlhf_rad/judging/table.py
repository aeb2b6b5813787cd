"""A judging on a terminal: the sentence first, then the table, then what must be known beside it."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from openrlhf_rad.judging.intervals import Share
from openrlhf_rad.judging.results import Result
from openrlhf_rad.judging.tally import RESULTS, Tally

_CHARACTERS = 240


def print_result(result: Result, console: Console | None = None) -> None:
    """Print the table and its warnings, or why there is none; malformed replies in either case."""
    console = console or Console()

    def show(*parts: Any) -> None:
        for part in parts:
            console.print(part, highlight=False, soft_wrap=isinstance(part, Text))

    malformed = result.summary["malformed"]
    if result.tally is None:
        show(Text(too_many(malformed), style="bold red"))
    else:
        show(Text(verdict(result.tally, result.sides.red, result.sides.blue)), "")
        show(_table(result), "")
        show(*_notes(result.tally))
    if malformed["count"]:
        show("", *examples(malformed))


def too_many(malformed: dict[str, Any]) -> str:
    """Why there is no table."""
    fix = "look at the replies, and mend the judging prompt or take another judge or --form"
    if malformed["count"] <= malformed["limit"] * malformed["calls"]:
        return (
            f"{malformed['count']} of {malformed['answered']} replies have no verdict, and so no pair"
            f" has one in both orders; nothing is claimed; {fix}"
        )
    return (
        f"{malformed['count']} of {malformed['answered']} replies have no verdict; at most"
        f" {malformed['limit']:.1%} of {malformed['calls']} may be malformed, so nothing is claimed; {fix}"
    )


def verdict(counted: Tally, red: str, blue: str) -> str:
    """Who is judged less harmful, in one sentence, with what it rests on."""
    held = counted.preferred
    if not held.count:
        return f"{blue} and {red} are judged equally harmful: every pair is a tie."
    rest = f"of {held.count} pairs that are no tie {blue} has {_with_interval(held)}"
    if held.low is None:
        return f"Too few prompts to say who is less harmful: {rest}."
    if held.above or held.below:
        better, worse = (blue, red) if held.above else (red, blue)
        return f"{better} is judged less harmful than {worse}: {rest}."
    return f"It is not shown who is less harmful: {rest}."


def _table(result: Result) -> Table:
    counted = result.tally
    assert counted is not None
    title = f"{result.sides.blue} (blue) against {result.sides.red} (red)"
    table = Table(box=None, title=title, title_justify="left", title_style="dim", padding=(0, 2, 0, 0))
    table.add_column("", no_wrap=True)
    for name in ("blue wins", "tie", "blue loses", "pairs"):
        table.add_column(name, justify="right", no_wrap=True)
    if len(counted.seeds) > 1:
        for seed in counted.seeds:
            shares = [_percent(seed.share(name)) for name in RESULTS]
            table.add_row(f"seed {seed.seed}", *shares, str(seed.pairs))
        spread = [counted.spread[name] for name in RESULTS]
        table.add_row("mean ± std", *(f"{_percent(mean)} ± {_percent(std)}" for mean, std in spread), "")
    held = [counted.share[name] for name in RESULTS]
    pairs = sum(seed.pairs for seed in counted.seeds)
    table.add_row("all", *(_percent(one.value) for one in held), str(pairs))
    table.add_row("95 % interval", *(_interval(one) for one in held), "")
    return table


def _notes(counted: Tally) -> list[Text]:
    position = counted.position
    equal = f" ({counted.equal_answers} pairs of equal answers, not asked)" if counted.equal_answers else ""
    lines = [
        Text(
            f"A win or a loss needs the same verdict in both orders; all else is a tie{equal}."
            " Intervals are over prompts.",
            style="dim",
        )
    ]
    if position.followed.count:
        share = _with_interval(position.followed)
        count = position.followed.count
        text = f"Position: {share} of {count} preferences changed with the order of the answers"
        first = (
            f"; {_percent(position.first.value)} of these preferred the first" if position.first.count else ""
        )
        lines.append(Text(f"{text}{first}.", style="dim"))
    without = sum(seed.without_verdict for seed in counted.seeds)
    if without:
        lines.append(Text(f"{without} pairs have no verdict and are in no share.", style="dim"))
    if position.warning:
        lines.append(Text(f"! {position.warning}", style="bold red"))
    return lines


def examples(malformed: dict[str, Any]) -> list[Text]:
    """The reasons and some of the malformed replies."""
    reasons = "; ".join(f"{reason}: {count}" for reason, count in malformed["reasons"].items())
    lines = [Text(f"Malformed: {malformed['count']} of {malformed['calls']} calls ({reasons})")]
    for example in malformed["examples"]:
        reply = "no reply" if example["reply"] is None else f"» {_clip(example['reply'])}"
        lines.append(Text(f"  {reply}", style="dim"))
    return lines


def _with_interval(held: Share) -> str:
    return _percent(held.value) + ("" if held.low is None else f" {_interval(held)}")


def _interval(held: Share) -> str:
    if held.low is None or held.high is None:
        return "none"
    return f"[{100 * held.low:.1f}, {100 * held.high:.1f}]"


def _percent(value: float | None) -> str:
    return "none" if value is None else f"{100 * value:.1f} %"


def _clip(content: str) -> str:
    """One line, shortened, without the control characters that could steer a terminal."""
    plain = " ".join("".join(char if char.isprintable() else " " for char in content).split()) or "(empty)"
    return plain if len(plain) <= _CHARACTERS else f"{plain[: _CHARACTERS - 1]}…"
