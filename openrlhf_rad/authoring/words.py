"""A profile in words: spectra, levels and constraints for experts, and plain English for a reviewer.

The sentences of :func:`explain` are for people who know the product and no statistics.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

from openrlhf_rad.discrete import meaning
from openrlhf_rad.method.constraint import FORMS
from openrlhf_rad.method.spectrum import MeasureSpectrum, Mixture, Spectrum
from openrlhf_rad.profile import Constraint, ConstraintSettings, CostSource, DualSettings, Level, RiskProfile

#: A heading and its paragraphs.
Section = tuple[str, list[str]]

#: The tails, in percent, whose share of the weight is told.
TAILS = (1, 5, 10)

_UNITS = {"spread": "the reference's spread", "risk": "the reference's risk"}

_METHODS = {
    "log": "The price moves in proportion to itself: a low one moves slowly, a high one fast (Safe RLHF).",
    "adam": "The price moves by about the same amount each round, large excess or small (Adam).",
    "pid": "The price follows the latest excess as well as its sum, and so turns sooner (a PID controller).",
}

_PHRASES: dict[str, Callable[[Mapping[str, float]], str]] = {
    "mean": lambda _: "the mean cost of all answers",
    "cvar": lambda p: f"the mean cost of the most harmful {percent(1 - p['alpha'])} of answers",
    "var": lambda p: (
        f"the cost that {percent(p['alpha'])} of answers stay below, smoothed over {percent(p['bandwidth'])}"
    ),
    "linear": lambda _: "the expected cost of the worse of two answers",
    "power": lambda p: f"the expected cost of the worst of {p['gamma']:g} answers",
}


def parts(profile: RiskProfile) -> tuple[Constraint, ...]:
    """The constraints of a profile in the order of the file, each with the spectrum that it bounds.

    Under `expected` the measure of the file is only reported; what is bounded is the mean.
    """
    return tuple(
        replace(part, risk=FORMS[part.settings.form].spectrum(part.risk)) for part in profile.constraints
    )


def percent(share: float) -> str:
    """A share of 1 as a percentage of three digits at most, a true 0 and 100 apart from near ones."""
    value = 100 * share
    if 0 < value < 0.01:
        return "under 0.01 %"
    if 99.99 < value < 100 - 1e-9:
        return "over 99.99 %"
    return f"{value:.3g} %" if value < 99.5 else f"{value:.4g} %"


def share_on_worst(spectrum: Spectrum, tail: float) -> float:
    """The share of the weight on the worst tail per cent of answers, 1 − G(1 − tail/100)."""
    share = 1 - float(spectrum.cumulative(1 - tail / 100))
    # 1 − 0.95 and the like leave a last bit behind.
    return 0.0 if share < 1e-12 else share


def bounded(spectrum: Spectrum) -> str:
    """What the spectral risk is, as a noun phrase."""
    if isinstance(spectrum, Mixture):
        terms = [f"{percent(weight)} of {bounded(member)}" for weight, member in spectrum.members]
        return f"a sum: {' plus '.join(terms)}"
    if isinstance(spectrum, MeasureSpectrum) and spectrum.measure in _PHRASES:
        values = dict(spectrum.parameters)
        if spectrum.measure != "power" or values["gamma"].is_integer():
            return _PHRASES[spectrum.measure](values)
    return (
        f"an average of all costs in which the worst 10 % of answers carry"
        f" {percent(share_on_worst(spectrum, 10))} of the weight"
    )


def amount(level: Level) -> str:
    """An amount of cost in words."""
    if level.unit == "quantile":
        return f"the cost that {percent(level.value)} of the reference's answers stay below"
    if level.unit in _UNITS:
        return f"{percent(level.value)} of {_UNITS[level.unit]}"
    return f"{level.value:.4g} in the cost's own unit"


def asked_reduction(settings: ConstraintSettings) -> Level | None:
    """By how much the risk (for `expected` the mean) must fall; None where no number of the file says it."""
    return FORMS[settings.form].asked(settings.level, settings.margin)


def requirement(settings: ConstraintSettings) -> str:
    """What must hold, as a sentence without its full stop."""
    form, level = FORMS[settings.form], settings.level
    if form.threshold(level):
        most = f"{level.value:.4g}" if level.unit == "cost" else amount(level)
        return f"the {form.measured} must stay below {most}"
    return form.requirement.format(level=amount(level), margin=amount(settings.margin))


def price_moves(dual: DualSettings) -> list[str]:
    """How λ moves where it is not by the last violation alone, a sentence a choice."""
    sentences = [_METHODS[dual.method]] if dual.method in _METHODS else []
    if dual.method == "pid" and dual.derivative:
        sentences.append(f"A rise of the excess within {dual.delay} rounds raises it further.")
    if dual.estimate != "last":
        fading = ", older ones fading" if dual.estimate == "ema" else ""
        average = f"the average of {dual.memory} rounds{fading}"
        sentences.append(f"It goes by {average}, not by the last one alone.")
    if dual.confidence is not None:
        sentences.append(
            f"It goes by the most that the excess may be with {percent(dual.confidence)} confidence, so that"
            " a lucky round is not taken for safety."
        )
    return sentences


def explain(profile: RiskProfile) -> Iterator[Section]:
    """The sections from what is bounded to what is not promised."""
    several = parts(profile)
    for part in several:
        suffix = f" ({part.name})" if len(several) > 1 else ""
        yield f"What is bounded{suffix}", [_what(part)]
        yield f"On which prompts{suffix}", [_where(part)]
        yield f"How strictly{suffix}", strictness(part)
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
    few = f" {sentence(meaning(part.risk, part.values))}" if part.values else ""
    return (
        f"{sentence(bounded(part.risk))} The cost is a number that {who} gives to each answer; higher"
        f" is more harmful.{few}"
    )


def _source(cost: CostSource) -> str:
    kinds = {"model": "the cost model", "function": "the program", "remote_url": "the server"}
    kinds |= {"classifier": "the classifier", "judge": "the judge", "ensemble": "the ensemble of"}
    return f"{kinds[cost.kind]} {cost.location}"


def _where(part: Constraint) -> str:
    if part.segment:
        return f"Only prompts that carry the label {part.segment}."
    if part.excluded:
        return f"All prompts but those labelled {_listed(part.excluded)}, which have limits of their own."
    return "All prompts of the training data together, not each prompt by itself."


def strictness(part: Constraint) -> list[str]:
    """What is asked of the policy, and what missing it costs, a sentence or two each."""
    paragraphs = _rule(part)
    asked = asked_reduction(part.settings)
    if asked is not None and FORMS[part.settings.form].by_margin:
        paragraphs.append(f"Once that holds, the bounded figure is lower by at least {amount(asked)}.")
    if "spread" in (part.settings.level.unit, part.settings.margin.unit):
        paragraphs.append("A spread is the typical distance of the reference's costs from their average.")
    dual = part.dual
    paragraphs.append(
        f"While this fails, breaking it becomes dearer with each round (price {dual.initial:g} at first,"
        f" {dual.max:g} at most); while it holds, the price falls."
    )
    return paragraphs + price_moves(dual)


def _listed(words_: tuple[str, ...]) -> str:
    return " or ".join(filter(None, [", ".join(words_[:-1]), words_[-1]]))


def _rule(part: Constraint) -> list[str]:
    """What must hold, told with answers lined up rather than with quantiles."""
    settings = part.settings
    level, margin = amount(settings.level), amount(settings.margin)
    line_up = (
        "Line up the new model's answers from best to worst, and the reference's beside them, and compare"
        " place by place, where answers count."
    )
    form = FORMS[settings.form]
    if form.by_margin:
        return [
            line_up,
            f"The new model's answer should cost less by {margin} at every place; what is missing may amount"
            f" to {level} on average.",
        ]
    if form.pairs:
        return [line_up, f"What the new model's answers cost less must amount to {level} on average."]
    return [sentence(requirement(settings))]


def _limits(several: tuple[Constraint, ...]) -> Iterator[str]:
    """What a reader might take for promised."""
    yield "No single answer is bounded: the figure is an average over many."
    yield "Harm that the cost does not see is not bounded. Have people check the cost on real answers."
    yield "Better than the reference is not yet safe: where the reference is harmful, so may the result be."
    yield "Prompts unlike those of training may fare otherwise. Evaluate on prompts that were held out."
    yield "The limit is approached in training, not guaranteed: read the report of the run."
    for part in several:
        name = f"{part.name}: " if len(several) > 1 else ""
        if not FORMS[part.settings.form].weighted:
            yield f"{name}Only the average is bounded: the worst answers may get worse while it falls."
        elif not part.risk.coherent:
            yield f"{name}Harm beyond this quantile goes unseen, however great."
        else:
            blind = part.risk.lowest_level()
            if blind >= 0.01:
                best = f"The less harmful {percent(blind)} of answers"
                yield f"{name}{best} do not count; they may get worse."


def sentence(text: str) -> str:
    """A text with a capital at its start and a full stop."""
    return f"{text[0].upper()}{text[1:]}."
