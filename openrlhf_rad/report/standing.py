"""The outcome of a run, or of several, in a word and in a sentence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from openrlhf_rad.report.sources import RunRecord
from openrlhf_rad.runs.summary import moved
from openrlhf_rad.words import number


def standing(record: RunRecord) -> str:
    """One word: lower, doubtful, higher or unclear, of the risk; else unfinished, failed or trained."""
    if record.state != "finished":
        return record.state
    row = risk_row(record.summary)
    if row is None:
        return "trained"
    change = row["difference"]
    if change["low"] is None or change["low"] <= 0 <= change["high"]:
        return "unclear"
    if change["value"] > 0:
        return "higher"
    return "doubtful" if record.summary and record.summary["warnings"] else "lower"


def headline(record: RunRecord) -> str:
    """The verdict on a run in one sentence."""
    if record.state != "finished":
        return _unfinished(record)
    row = risk_row(record.summary)
    if record.summary is None or row is None:
        return f"The run is done after {_steps(record)}; there are no held-out answers to compare."
    prompts, answers = record.summary["prompts"], record.summary["answers"]
    several = f"{answers} answers to " if answers > prompts else ""
    ends = row["before"]["value"], row["after"]["value"]
    on = f" on {several}{prompts} held-out prompts"
    return moved(f"Risk ({record.profile.risk})", row["difference"], ends, on)


def overview(records: Sequence[RunRecord]) -> str:
    """The verdict on several runs in one sentence."""
    words = {
        "lower": "lower",
        "doubtful": "lower with doubts",
        "unclear": "not shown to have changed",
        "higher": "higher",
    }
    standings = [standing(record) for record in records]
    parts = [f"{text} in {standings.count(kind)}" for kind, text in words.items() if kind in standings]
    rest = sum(kind not in words for kind in standings)
    if not parts:
        return f"None of the {len(records)} runs can be compared yet."
    left = f"; {rest} cannot be compared yet" if rest else ""
    return f"Of {len(records)} runs the risk is {', '.join(parts)}{left}."


def risk_row(summary: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """The row of the profile's own risk."""
    rows: list[dict[str, Any]] = summary["rows"] if summary else []
    return next((row for row in rows if row["name"] == "risk"), None)


def _unfinished(record: RunRecord) -> str:
    stopped = "The run stopped with an error" if record.state == "failed" else "The run is not finished"
    if not record.metrics:
        return f"{stopped}; no training step is recorded yet."
    last = record.metrics[-1]
    violation = last.get("violation")
    if violation is None:
        return f"{stopped}: {_steps(record)} so far."
    missed = "missed" if violation > 0 else "met"
    price = last.get("lambda_next")
    now = "" if price is None else f" and the price λ now stands at {number(price)}"
    return f"{stopped}: {_steps(record)} so far; in the last one the constraint was {missed}{now}."


def _steps(record: RunRecord) -> str:
    count = len(record.metrics)
    return f"{count} training step{'' if count == 1 else 's'}"
