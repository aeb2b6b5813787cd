"""A profile and the outcome of its run in words that need no statistics."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from openrlhf_rad.authoring.words import price_moves
from openrlhf_rad.method.constraint import FORMS
from openrlhf_rad.method.settings import ConstraintSettings, DualSettings, Level
from openrlhf_rad.method.spectrum import MeasureSpectrum, Mixture, Piecewise, Spectrum
from openrlhf_rad.report.sources import RunRecord
from openrlhf_rad.runs.summary import moved
from openrlhf_rad.words import number, percent


def explain_risk(risk: Spectrum) -> str:
    """What a risk looks at, in a few sentences."""
    worst = percent(1 - float(risk.cumulative(0.9)))
    share = f"The most harmful tenth of the answers carries {worst} of the weight."
    if isinstance(risk, MeasureSpectrum):
        return _measure(risk, share)
    if isinstance(risk, Piecewise):
        return f"The answers count by rank in steps; within a step they count alike. {share}"
    if isinstance(risk, Mixture):
        parts = [f"{percent(weight)} {member}" for weight, member in risk.members if weight > 0]
        return f"The risk is a blend of {len(parts)}: {', '.join(parts)}. {share}"
    return f"The risk is {risk}. {share}"


def _measure(risk: MeasureSpectrum, share: str) -> str:
    values = dict(risk.parameters)
    texts: dict[str, Callable[[], str]] = {
        "mean": lambda: "Every answer counts alike: the risk is the mean cost.",
        "cvar": lambda: (
            f"Only the most harmful {percent(1 - values['alpha'])} of the answers count, each"
            " of them alike: the risk is their mean cost."
        ),
        "var": lambda: (
            f"What counts is the cost that {percent(values['alpha'])} of the answers stay"
            f" below, smoothed over neighbours. {share}"
        ),
        "linear": lambda: (
            "An answer counts in proportion to its rank: the risk is the expected cost of the worse of two"
            f" random answers. {share}"
        ),
        "power": lambda: (
            "The worse an answer ranks, the more it counts: the risk is the expected cost of the worst of"
            f" {number(values['gamma'])} random answers. {share}"
        ),
        "exponential": lambda: (
            f"The worst answer counts {number(math.exp(values['kappa']))} times the best, with a smooth rise"
            f" between them. {share}"
        ),
        "wang": lambda: (
            "Every answer counts, the worst the most: the risk is the mean cost after the odds are tilted"
            f" towards harm. {share}"
        ),
    }
    return texts[risk.measure]() if risk.measure in texts else f"The risk is {risk}. {share}"


def explain_constraint(settings: ConstraintSettings) -> str:
    """What is asked of the policy, in a sentence or two."""
    level, margin = _amount(settings.level), _amount(settings.margin)
    shifted = "the reference's" if settings.margin.value == 0 else f"the reference's, lowered by {margin}"
    form = FORMS[settings.form]
    if form.by_margin:
        return (
            f"At every level that counts, the policy's cost should lie below {shifted}. What lies above,"
            f" added up with the weights, may come to {level} at most."
        )
    if form.pairs:
        return (
            f"At the levels that count, the policy's costs should lie below the reference's by {level} in"
            " all, added up with the weights."
        )
    if form.threshold(settings.level):
        return f"The policy's {form.measured} should be at most {level}."
    amount = level.replace("reference's risk", f"reference's {form.measured}")
    return f"The policy's {form.measured} should lie below the reference's by at least {amount}."


def explain_price(dual: DualSettings) -> str:
    """How λ moves."""
    return " ".join([_price(dual), *price_moves(dual)])


def _price(dual: DualSettings) -> str:
    pace = f", by {number(dual.step)} for each spread" if dual.method == "ascent" else ""
    return (
        f"Missing the constraint has a price, λ. It starts at {number(dual.initial)}, rises while the"
        f" constraint is missed and falls while there is room{pace}, and stays between 0 and"
        f" {number(dual.max)}."
    )


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
    found = [standing(record) for record in records]
    parts = [f"{text} in {found.count(kind)}" for kind, text in words.items() if kind in found]
    rest = sum(kind not in words for kind in found)
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


def _amount(level: Level) -> str:
    """A level for people: in spreads, as a share of the risk, a quantile, or in the cost's unit."""
    if level.unit == "spread":
        return f"{number(level.value)} {'spread' if level.value == 1 else 'spreads'} of the reference's costs"
    if level.unit == "risk":
        return f"{percent(level.value)} of the reference's risk"
    if level.unit == "quantile":
        return f"the reference's {percent(level.value)} quantile"
    return number(level.value)
