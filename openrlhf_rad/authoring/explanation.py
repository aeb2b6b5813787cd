"""A profile in plain English, for a reviewer who knows the product and no statistics."""

from __future__ import annotations

from collections.abc import Iterator

from openrlhf_rad.authoring import words
from openrlhf_rad.authoring.reading import parts
from openrlhf_rad.profile import Constraint, CostSource, RiskProfile

#: A heading and its paragraphs.
Section = tuple[str, list[str]]


def explain(profile: RiskProfile) -> Iterator[Section]:
    """The sections from what is bounded to what is not promised."""
    several = parts(profile)
    for part in several:
        suffix = f" ({part.name})" if len(several) > 1 else ""
        yield f"What is bounded{suffix}", [_what(part)]
        yield f"On which prompts{suffix}", [_where(part)]
        yield f"How strictly{suffix}", _how(part)
    yield "Against what", [_reference(profile)]
    yield "What it does not promise", [f"- {text}" for text in _limits(several)]


def _reference(profile: RiskProfile) -> str:
    how = "read from a file" if profile.reference.file else "measured"
    return (
        "Against the reference: the model as it is before training. Its costs on"
        f" {profile.reference_samples} answers are {how} first, and everything is compared with them."
    )


def _what(part: Constraint) -> str:
    who = _source(part.cost) if part.cost else "a cost source"
    return (
        f"{_sentence(words.bounded(part.risk))} The cost is a number that {who} gives to each answer; higher"
        " is more harmful."
    )


def _source(cost: CostSource) -> str:
    kinds = {"model": "the cost model", "function": "the program", "remote_url": "the server"}
    return f"{kinds[cost.kind]} {cost.location}"


def _where(part: Constraint) -> str:
    if part.segment:
        return f"Only prompts that carry the label {part.segment}."
    if part.excluded:
        return f"All prompts but those labelled {_listed(part.excluded)}, which have limits of their own."
    return "All prompts of the training data together, not each prompt by itself."


def _how(part: Constraint) -> list[str]:
    found = _rule(part)
    asked = words.asked_reduction(part.settings)
    if asked is not None and part.settings.form == "no_worse":
        found.append(f"Once that holds, the bounded figure is lower by at least {words.amount(asked)}.")
    if "spread" in (part.settings.level.unit, part.settings.margin.unit):
        found.append("A spread is the typical distance of the reference's costs from their average.")
    dual = part.dual
    found.append(
        f"While this fails, breaking it becomes dearer with each round (price {dual.initial:g} at first,"
        f" {dual.max:g} at most); while it holds, the price falls."
    )
    return found + words.price_moves(dual)


def _listed(words_: tuple[str, ...]) -> str:
    return " or ".join(filter(None, [", ".join(words_[:-1]), words_[-1]]))


def _rule(part: Constraint) -> list[str]:
    """What must hold, told with answers lined up rather than with quantiles."""
    settings = part.settings
    level, margin = words.amount(settings.level), words.amount(settings.margin)
    line_up = (
        "Line up the new model's answers from best to worst, and the reference's beside them, and compare"
        " place by place, where answers count."
    )
    if settings.form == "no_worse":
        return [
            line_up,
            f"The new model's answer should cost less by {margin} at every place; what is missing may amount"
            f" to {level} on average.",
        ]
    if settings.form == "improvement":
        return [line_up, f"What the new model's answers cost less must amount to {level} on average."]
    return [_sentence(words.requirement(settings))]


def _limits(several: tuple[Constraint, ...]) -> Iterator[str]:
    """What a reader might take for promised."""
    yield "No single answer is bounded: the figure is an average over many."
    yield "Harm that the cost does not see is not bounded. Have people check the cost on real answers."
    yield "Better than the reference is not yet safe: where the reference is harmful, so may the result be."
    yield "Prompts unlike those of training may fare otherwise. Evaluate on prompts that were held out."
    yield "The limit is approached in training, not guaranteed: read the report of the run."
    for part in several:
        name = f"{part.name}: " if len(several) > 1 else ""
        if part.settings.form == "expected":
            yield f"{name}Only the average is bounded: the worst answers may get worse while it falls."
        elif not part.risk.coherent:
            yield f"{name}Harm beyond this quantile goes unseen, however great."
        else:
            blind = _blind_share(part)
            if blind >= 0.01:
                best = f"The less harmful {words.percent(blind)} of answers"
                yield f"{name}{best} do not count; they may get worse."


def _blind_share(part: Constraint) -> float:
    """The share of answers, from the best up, that carry no weight at all."""
    levels = [step / 1000 for step in range(1001)]
    return max(
        (t for t, g in zip(levels, part.risk.cumulative(levels), strict=True) if g <= 1e-12), default=0.0
    )


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."
