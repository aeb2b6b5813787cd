"""A release gate: whether blue is surely better than red, in one sentence and one exit code.

Two rules, of which one or both must hold:

* risk: the spectral risk of blue lies at least ε below red's;
* quantiles: no quantile of blue within a range of levels lies more than τ above red's.

A release passes only when **all** rules, in all segments that are asked for, pass each at level α. That is an
intersection–union test (Berger 1982): if some rule is false, passing needs that rule to pass, which happens
with probability at most α. So nothing is corrected for the number of rules, segments or quantile levels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from openrlhf_rad.evaluation import compare
from openrlhf_rad.evaluation.compare import RANGE
from openrlhf_rad.method.particles import ceiling, saturation
from openrlhf_rad.method.spectrum import Spectrum
from openrlhf_rad.statistics.answers import Panel
from openrlhf_rad.statistics.curves import EXPECTED, Difference, difference, quantile_levels
from openrlhf_rad.statistics.inference import (
    DOMINANT,
    GATE,
    INFINITE_VARIANCE,
    Inference,
    fall,
    prompts_needed,
)
from openrlhf_rad.words import number

Array = NDArray[np.float64]
#: The chance of passing that the number of prompts asked for would give, if the estimate is right.
POWER = 0.8


class Outcome(Enum):
    """What a gate says, with its exit code."""

    PASS = 0
    FAIL = 1
    UNKNOWN = 2


@dataclass(frozen=True)
class Ruling:
    """What a rule says of one group of prompts.

    Attributes:
        value, bound: the estimate and its one-sided bound; None where there is none. limit: ε or τ.
        needed: about how many prompts could tell; 0 where that is not the matter, or not known.
    """

    rule: str
    outcome: Outcome
    value: float | None
    bound: float | None
    limit: float
    needed: int
    sentence: str
    segment: str = ""
    constraint: str = ""


@dataclass(frozen=True)
class Question:
    """Who is compared, on which answers, and how sure one must be."""

    panel: Panel
    red: str
    blue: str
    spectrum: Spectrum
    confidence: float

    @property
    def costs(self) -> tuple[Array, Array]:
        """Of red, and of blue."""
        return self.panel.cost[self.red], self.panel.cost[self.blue]

    @property
    def sure(self) -> str:
        """The confidence in words."""
        return f"{100 * self.confidence:g} % confidence"


def risk_rule(asked: Question, limit: float) -> Ruling:
    """Whether ρ of blue is at least ``limit`` below red's."""
    if same := saturation(asked.spectrum, *asked.costs):
        text = f"{asked.spectrum} cannot tell {asked.blue} from {asked.red}: {compare.saturated(same)}"
        return Ruling("risk", Outcome.UNKNOWN, 0.0, None, limit, 0, text)
    found = fall(asked.panel, asked.spectrum, *asked.costs)
    way = "below" if found.value >= 0 else "above"
    words = f"{asked.spectrum} of {asked.blue} is {number(abs(found.value))} {way} that of {asked.red}"
    bound = found.cautious(asked.confidence)
    outcome, needed, text = _risk_outcome(found, bound, limit, asked)
    if bound is not None:
        words += f", by at least {number(bound)} with {asked.sure}; {number(limit)} is asked for"
    return Ruling("risk", outcome, found.value, bound, limit, needed, words + text)


def _risk_outcome(
    found: Inference, bound: float | None, limit: float, asked: Question
) -> tuple[Outcome, int, str]:
    """Outcome, prompts needed, and what to add to the sentence."""
    if not found.rests_on(GATE):
        least = prompts_needed(found, asked.spectrum, GATE)
        rests = f", which rests on {found.effective:.0f} independent answers; it must rest on {GATE}"
        return Outcome.UNKNOWN, least, f"{rests}, so on about {least} prompts, not {found.prompts}"
    if found.value <= limit:
        return Outcome.FAIL, 0, "" if found.error else ": no prompt tells them apart"
    if bound is None:
        return Outcome.UNKNOWN, *_unbounded(found)
    if bound >= limit:
        return Outcome.PASS, 0, ""
    ratio = (found.value - bound) / (found.value - limit)
    needed = _needed(found.prompts, ratio, (1 - asked.confidence) / 2)
    return Outcome.UNKNOWN, needed, _more(needed, found.prompts)


def _unbounded(found: Inference) -> tuple[int, str]:
    """Prompts needed, and why an estimate on answers enough has no bound."""
    if not found.error:
        return 0, " by the same amount for every prompt; check the costs"
    if found.largest > DOMINANT:
        text = f", but one prompt makes up {found.largest:.0%} of the variance; use more prompts"
        return 2 * found.prompts, text
    return 0, f", but {INFINITE_VARIANCE.format(1 / found.index)}"


def quantile_rule(
    asked: Question, limit: float, levels: tuple[float, float] | None, *, draws: int, seed: int
) -> Ruling:
    """Whether no quantile of blue lies more than ``limit`` above red's, at a grid of levels and its ends."""
    low, high = levels or weighed(asked.spectrum)
    prompts = asked.panel.prompts
    least = math.ceil(round(EXPECTED / min(low, 1 - high), 6))
    if prompts < least:
        text = f"{prompts} prompts; quantiles from {low:g} to {high:g} need {least}"
        return Ruling("quantiles", Outcome.UNKNOWN, None, None, limit, least, text)
    if same := ceiling(low, *asked.costs):
        between = f"quantiles from {low:g} to {high:g} cannot tell {asked.blue} from {asked.red}"
        text = f"{between}: {compare.saturated(same)}"
        return Ruling("quantiles", Outcome.UNKNOWN, 0.0, None, limit, 0, text)
    level_k = np.unique(np.concatenate([quantile_levels(prompts, low, high), [low, high]]))
    moved = difference(asked.panel, *asked.costs, level_k, draws=draws, seed=seed)
    bound_k = moved.upper(asked.confidence)
    value, bound = float(moved.value_k.max()), float(bound_k.max())
    allowed = f"{number(limit)} is allowed"
    text = f"the {level_k[int(bound_k.argmax())]:g} quantile of {asked.blue} has no bound; {allowed}"
    if math.isfinite(bound):
        text = f"no quantile of {asked.blue} from {low:g} to {high:g} is more than {number(bound)} above that"
        text += f" of {asked.red} with {asked.sure}; {allowed}"
    outcome, needed = Outcome.PASS, 0
    if value > limit:
        at = f"{level_k[int(moved.value_k.argmax())]:g}"
        outcome = Outcome.FAIL
        text = f"the {at} quantile of {asked.blue} is {number(value)} above that of {asked.red}; {allowed}"
    elif bound > limit:
        outcome, needed = Outcome.UNKNOWN, _prompts_for(moved, asked, limit)
        text += _more(needed, prompts)
    finite = bound if math.isfinite(bound) else None
    return Ruling("quantiles", outcome, value, finite, limit, needed, text)


def weighed(spectrum: Spectrum) -> tuple[float, float]:
    """The levels of RANGE that a risk weighs, but for the lowest 1 % of its weight."""
    level_k = np.arange(1, 1000) / 1000
    low = float(level_k[np.searchsorted(spectrum.cumulative(level_k), 0.01)])
    return min(max(RANGE[0], low), 0.9), RANGE[1]


def _prompts_for(moved: Difference, asked: Question, limit: float) -> int:
    """Prompts at which every level's bound would come within the limit."""
    reach_k, room_k = moved.upper(asked.confidence) - moved.value_k, limit - moved.value_k
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = float(np.max(np.where(reach_k > room_k, reach_k / room_k, 0.0)))
    return _needed(asked.panel.prompts, ratio, 1 - asked.confidence)


def _needed(prompts: int, ratio: float, tail: float) -> int:
    """Prompts at which a bound that reaches ``ratio`` times too far now would fit with probability POWER."""
    from scipy.special import ndtri  # noqa: PLC0415 - see Spectrum

    quantile = float(ndtri(1 - tail))
    raw = prompts * (ratio * (quantile + float(ndtri(POWER))) / quantile) ** 2
    if not math.isfinite(raw) or raw > 1e9:
        return 0
    unit = int(10 ** max(0, len(str(int(raw))) - 2))  # two figures, rounded up: it is an estimate
    return max(prompts + 1, math.ceil(raw / unit) * unit)


def _more(needed: int, prompts: int) -> str:
    return f"; about {needed} prompts could tell, not {prompts}" if needed else "; use more prompts"


@dataclass(frozen=True)
class Gate:
    """The rules of a gate, in the cost's own units; a rule that is None is not asked.

    Attributes:
        improvement: ε. tolerance: τ.
        levels: the range of quantile levels of the second rule; by default those that the risk weighs.
        segments: groups of prompts that must pass each, besides all prompts together.
    """

    spectrum: Spectrum
    improvement: float | None
    tolerance: float | None
    confidence: float = 0.95
    levels: tuple[float, float] | None = None
    draws: int = 2000
    seed: int = 0
    segments: Sequence[str] = field(default_factory=tuple)

    def decide(self, panel: Panel, red: str, blue: str) -> list[Ruling]:
        """Every rule for all prompts, then for each segment."""
        parts = [("", panel)]
        parts += [(name, panel.segment(panel.segments.index(name))) for name in self.segments]
        rulings: list[Ruling] = []
        for name, part in parts:
            asked = Question(part, red, blue, self.spectrum, self.confidence)
            if self.improvement is not None:
                rulings.append(replace(risk_rule(asked, self.improvement), segment=name))
            if self.tolerance is not None:
                found = quantile_rule(asked, self.tolerance, self.levels, draws=self.draws, seed=self.seed)
                rulings.append(replace(found, segment=name))
        return rulings


def overall(rulings: Sequence[Ruling]) -> Outcome:
    """Pass only when all do; a rule that fails decides before one that cannot say."""
    outcomes = {ruling.outcome for ruling in rulings}
    if outcomes == {Outcome.PASS}:
        return Outcome.PASS
    return Outcome.FAIL if Outcome.FAIL in outcomes else Outcome.UNKNOWN


def sentence(rulings: Sequence[Ruling]) -> str:
    """The verdict and the rules that decided it, in one line."""
    outcome = overall(rulings)
    words = {Outcome.PASS: "PASS", Outcome.FAIL: "FAIL", Outcome.UNKNOWN: "CANNOT SAY"}
    told = [one for one in rulings if one.outcome is outcome]
    return f"{words[outcome]}: {'; '.join(_where(one) + one.sentence for one in told)}."


def _where(ruling: Ruling) -> str:
    """Of which constraint and segment a ruling speaks; of the only one nothing."""
    named = (("constraint", ruling.constraint), ("segment", ruling.segment))
    words = [f"{what} {name}" for what, name in named if name]
    return f"{', '.join(words)}: " if words else ""
