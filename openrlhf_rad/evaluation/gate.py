"""A release gate: whether a candidate may replace a baseline, a line a rule and segment, and one exit code.

Two rules, of which one or both must hold:

* risk: the spectral risk of the candidate lies at least ε below the baseline's; or, where a worsening δ is
  allowed (non-inferiority), less than δ above it;
* quantiles: no quantile of the candidate within a range of levels lies more than τ above the baseline's.

A release passes only when **all** rules, in all segments that are asked for, pass each at level α. That is an
intersection–union test (Berger 1982): if some rule is false, passing needs that rule to pass, which happens
with probability at most α. So nothing is corrected for the number of rules, segments or quantile levels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from openrlhf_rad.evaluation.compare import RANGE, saturated
from openrlhf_rad.evaluation.constraints import Part, parts, without_prompts
from openrlhf_rad.method.particles import ceiling, saturation
from openrlhf_rad.method.settings import Level
from openrlhf_rad.method.spectrum import Spectrum
from openrlhf_rad.profile import EvaluateSettings, RiskProfile
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
from openrlhf_rad.words import apart, number, percent

Array = NDArray[np.float64]
#: The chance of passing that the number of prompts asked for would give, if the estimate is right.
POWER = 0.8
RULES = ("risk", "quantiles")


class Outcome(Enum):
    """What a gate says, with its exit code."""

    PASS = 0
    FAIL = 1
    INCONCLUSIVE = 2

    def __str__(self) -> str:
        return self.name.lower()


@dataclass(frozen=True)
class Ruling:
    """What a rule says of one group of prompts.

    Attributes:
        measure: what is compared: a risk, or a range of quantiles.
        change: candidate less baseline, of quantiles the largest; None where there is no estimate.
        low, high: the ends of its interval; of quantiles the upper alone; None where none would hold.
        limit: what the change may be at most: −ε, δ or τ. needed: about how many prompts could tell; 0 where
            that is not the matter, or not known.
        reason: why the data cannot tell, where it is not the interval.
    """

    rule: str
    measure: str
    outcome: Outcome
    limit: float
    confidence: float
    prompts: int
    change: float | None = None
    low: float | None = None
    high: float | None = None
    needed: int = 0
    reason: str = ""
    segment: str = ""
    constraint: str = ""

    @property
    def asked(self) -> str:
        """What is required, in words."""
        if self.rule == "quantiles":
            return f"at most {number(self.limit)} above is allowed"
        if self.limit > 0:
            return f"not worse by more than {number(self.limit)} is required"
        return f"a fall of {number(-self.limit)} is required"

    @property
    def line(self) -> str:
        """Estimate, interval and what is required, in one line."""
        named = (("constraint", self.constraint), ("segment", self.segment))
        where = "".join(f", {what} {name}" for what, name in named if name)
        if self.change is None:
            return f"{self.measure}{where}: {self.reason}"
        told = _at_most if self.rule == "quantiles" else apart
        words = f"{self.measure}{where}: {told(self.change)}"
        if self.high is not None:
            low = "" if self.low is None else f"{told(self.low)} to "
            words += f" ({percent(self.confidence)}: {low}{told(self.high)})"
        return f"{words}; {self.asked}" + (f"; {self.reason}" if self.reason else "")

    def data(self) -> dict[str, Any]:
        """The ruling as plain data."""
        return asdict(self) | {"outcome": str(self.outcome), "asked": self.asked, "line": self.line}


def _at_most(change: float) -> str:
    """The largest of several changes in words."""
    return (
        f"at {'least' if change < 0 else 'most'} {number(abs(change))} {'below' if change < 0 else 'above'}"
    )


@dataclass(frozen=True)
class GateVerdict:
    """All rulings of a gate on one pair; reasons: why nothing could be judged, where nothing could."""

    baseline: str
    candidate: str
    rulings: Sequence[Ruling] = ()
    reasons: Sequence[str] = ()

    @property
    def outcome(self) -> Outcome:
        """Pass only when every rule does; a rule that fails decides before one that is inconclusive."""
        outcomes = {ruling.outcome for ruling in self.rulings}
        if self.reasons or not outcomes:
            return Outcome.INCONCLUSIVE
        if outcomes == {Outcome.PASS}:
            return Outcome.PASS
        return Outcome.FAIL if Outcome.FAIL in outcomes else Outcome.INCONCLUSIVE

    @property
    def needed(self) -> int:
        """How many prompts would do for every rule; 0 where they are not the matter, or it is not known."""
        open_ = [ruling for ruling in self.rulings if ruling.outcome is Outcome.INCONCLUSIVE]
        if self.outcome is not Outcome.INCONCLUSIVE or not all(ruling.needed for ruling in open_):
            return 0
        # A segment's prompts are a part of all.
        whole = max((ruling.prompts for ruling in self.rulings), default=0)
        return max((math.ceil(one.needed * whole / max(one.prompts, 1)) for one in open_), default=0)

    @property
    def sentence(self) -> str:
        """The verdict in one line."""
        words = f"{self.outcome.name}: {self.candidate} against {self.baseline}"
        if self.reasons:
            return f"{words}: {'; '.join(self.reasons)}"
        if self.needed:
            whole = max(ruling.prompts for ruling in self.rulings)
            words += f"; about {self.needed:,} prompts would do, not {whole:,}"
        return f"{words}."

    @property
    def lines(self) -> list[str]:
        """The verdict and each ruling, a line each."""
        return [self.sentence, *(f"- {ruling.outcome}, {ruling.line}" for ruling in self.rulings)]

    def data(self) -> dict[str, Any]:
        """The verdict as plain data."""
        said = {"outcome": str(self.outcome), "sentence": self.sentence, "needed": self.needed}
        return said | {"reasons": list(self.reasons), "rulings": [one.data() for one in self.rulings]}


def risk_rule(
    panel: Panel, costs: tuple[Array, Array], spectrum: Spectrum, limit: float, confidence: float
) -> Ruling:
    """Whether ρ of the candidate, less the baseline's, lies surely below ``limit``: −ε, or δ.

    Args:
        costs: of the baseline and of the candidate, shape (B,) each.
    """
    ruling = Ruling("risk", str(spectrum), Outcome.INCONCLUSIVE, limit, confidence, panel.prompts)
    if same := saturation(spectrum, *costs):
        return replace(ruling, reason=saturated(same))
    found = fall(panel, spectrum, *costs)
    ruling = replace(ruling, change=-found.value)
    if not found.rests_on(GATE):
        least = prompts_needed(found, spectrum, GATE)
        rests = f"it rests on {found.effective:.0f} independent answers and must rest on {GATE}"
        return replace(ruling, needed=least, reason=f"{rests}, so on about {least:,} prompts")
    if ends := found.cautious(confidence):
        ruling = replace(ruling, low=-ends[1], high=-ends[0])
    if -found.value >= limit:
        told = "" if found.error else "no prompt tells them apart"
        return replace(ruling, outcome=Outcome.FAIL, reason=told)
    if ruling.high is None:
        needed, reason = _unbounded(found)
        return replace(ruling, needed=needed, reason=reason)
    if ruling.high <= limit:
        return replace(ruling, outcome=Outcome.PASS)
    reach = (ruling.high + found.value) / (limit + found.value)
    return replace(ruling, needed=_needed(found.prompts, reach, (1 - confidence) / 2))


def _unbounded(found: Inference) -> tuple[int, str]:
    """Prompts needed, and why an estimate on answers enough has no bound."""
    if not found.error:
        return 0, "it is the same for every prompt; check the costs"
    if found.largest > DOMINANT:
        share = percent(round(found.largest, 2))
        return 2 * found.prompts, f"one prompt makes up {share} of the variance; use more prompts"
    return 0, INFINITE_VARIANCE.format(1 / found.index)


def quantile_rule(
    panel: Panel,
    costs: tuple[Array, Array],
    levels: tuple[float, float],
    limit: float,
    confidence: float,
    *,
    draws: int,
    seed: int,
) -> Ruling:
    """Whether no quantile of the candidate lies more than ``limit`` above the baseline's."""
    (low, high), prompts = levels, panel.prompts
    name = f"quantiles {low:g} to {high:g}"
    ruling = Ruling("quantiles", name, Outcome.INCONCLUSIVE, limit, confidence, prompts)
    least = math.ceil(round(EXPECTED / min(low, 1 - high), 6))
    if prompts < least:
        return replace(ruling, needed=least, reason=f"they need {least:,} prompts, not {prompts:,}")
    if same := ceiling(low, *costs):
        return replace(ruling, reason=saturated(same))
    level_k = np.unique(np.concatenate([quantile_levels(prompts, low, high), [low, high]]))
    moved = difference(panel, *costs, level_k, draws=draws, seed=seed)
    change, bound_k = float(moved.value_k.max()), moved.upper(confidence)
    bound = float(bound_k.max())
    ruling = replace(ruling, change=change, high=bound if math.isfinite(bound) else None)
    if change > limit:
        at = f"{level_k[int(moved.value_k.argmax())]:g}"
        return replace(ruling, outcome=Outcome.FAIL, reason=f"most at the {at} quantile")
    if bound <= limit:
        return replace(ruling, outcome=Outcome.PASS)
    unbound = (
        "" if ruling.high is not None else f"the {level_k[int(bound_k.argmax())]:g} quantile has no bound"
    )
    return replace(ruling, needed=_prompts_for(moved, panel.prompts, limit, confidence), reason=unbound)


def weighed(spectrum: Spectrum) -> tuple[float, float]:
    """The levels of RANGE that a risk weighs, but for the lowest 1 % of its weight."""
    level_k = np.arange(1, 1000) / 1000
    low = float(level_k[np.searchsorted(spectrum.cumulative(level_k), 0.01)])
    return min(max(RANGE[0], low), 0.9), RANGE[1]


def _prompts_for(moved: Difference, prompts: int, limit: float, confidence: float) -> int:
    """Prompts at which every level's bound would come within the limit."""
    reach_k, room_k = moved.upper(confidence) - moved.value_k, limit - moved.value_k
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = float(np.max(np.where(reach_k > room_k, reach_k / room_k, 0.0)))
    return _needed(prompts, ratio, 1 - confidence)


def _needed(prompts: int, ratio: float, tail: float) -> int:
    """Prompts at which a bound that reaches ``ratio`` times too far now would fit with probability POWER."""
    from scipy.special import ndtri  # noqa: PLC0415 - see Spectrum

    quantile = float(ndtri(1 - tail))
    raw = prompts * (ratio * (quantile + float(ndtri(POWER))) / quantile) ** 2
    if not math.isfinite(raw) or raw > 1e9:
        return 0
    unit = int(10 ** max(0, len(str(int(raw))) - 2))  # two figures, rounded up: it is an estimate
    return max(prompts + 1, math.ceil(raw / unit) * unit)


@dataclass(frozen=True)
class Gate:
    """The rules of a gate, in the cost's own units; a rule that is None is not asked.

    Attributes:
        risk: what the candidate's risk, less the baseline's, may be at most: −ε, or δ. tolerance: τ.
        levels: the range of quantile levels of the second rule; by default those that the risk weighs.
        segments: groups of prompts that must pass each, besides all prompts together.
    """

    spectrum: Spectrum
    risk: float | None
    tolerance: float | None
    confidence: float = 0.95
    levels: tuple[float, float] | None = None
    draws: int = 2000
    seed: int = 0
    segments: Sequence[str] = field(default_factory=tuple)

    def decide(self, panel: Panel, baseline: str, candidate: str) -> list[Ruling]:
        """Every rule for all prompts, then for each segment."""
        groups = [("", panel)]
        groups += [(name, panel.segment(panel.segments.index(name))) for name in self.segments]
        rulings: list[Ruling] = []
        levels = self.levels or weighed(self.spectrum)
        for name, part in groups:
            costs, sure = (part.cost[baseline], part.cost[candidate]), self.confidence
            if self.risk is not None:
                found = risk_rule(part, costs, self.spectrum, self.risk, sure)
                rulings.append(replace(found, segment=name))
            if self.tolerance is not None:
                found = quantile_rule(
                    part, costs, levels, self.tolerance, sure, draws=self.draws, seed=self.seed
                )
                rulings.append(replace(found, segment=name))
        return rulings


@dataclass(frozen=True)
class Requirements:
    """What is asked in place of the profile's `evaluate`; None: as it says.

    Attributes:
        improvement, worsening: ε, δ; one of them alone decides. segments: names, or all that there are.
    """

    rules: Sequence[str] = RULES
    improvement: Level | None = None
    worsening: Level | None = None
    tolerance: Level | None = None
    confidence: float | None = None
    levels: tuple[float, float] | None = None
    segments: Sequence[str] = ()
    seed: int = 0

    def limit(self, settings: EvaluateSettings) -> tuple[Level, float]:
        """The amount of the risk's rule, and its sign as a change of the risk."""
        if self.worsening is None and self.improvement is not None:
            return self.improvement, -1.0
        worse = self.worsening or settings.worsening
        return (worse, 1.0) if worse.value > 0 else (self.improvement or settings.improvement, -1.0)


def decide(
    profile: RiskProfile, panel: Panel, baseline: str, candidate: str, ask: Requirements = Requirements()
) -> GateVerdict:
    """Every rule under every constraint of a profile, on the prompts that it holds for.

    Raises:
        ReferenceCostError: a share of a risk is asked for that is not positive.
    """
    bounds = parts(profile, panel)
    if empty := [without_prompts(part, panel) for part in bounds if not part.panel.prompts]:
        return GateVerdict(baseline, candidate, reasons=empty)
    found = []
    for part in bounds:
        rulings = _gate(profile.evaluate, part, baseline, ask).decide(part.panel, baseline, candidate)
        name = part.constraint.name if len(bounds) > 1 else ""
        found += [replace(ruling, constraint=name) for ruling in rulings]
    return GateVerdict(baseline, candidate, found)


def _gate(settings: EvaluateSettings, part: Part, baseline: str, ask: Requirements) -> Gate:
    """The rules of one constraint; relative amounts are of the baseline's own costs under it."""
    cost_b, risk = part.panel.cost[baseline], part.constraint.risk
    amount, sign = ask.limit(settings)
    tolerance = ask.tolerance or settings.tolerance
    return Gate(
        risk,
        sign * amount.resolve(cost_b, risk.risk(cost_b)) if "risk" in ask.rules else None,
        tolerance.resolve(cost_b, risk.risk(cost_b)) if "quantiles" in ask.rules else None,
        ask.confidence or settings.confidence,
        ask.levels,
        settings.resamples,
        ask.seed,
        # A segment with a constraint of its own is judged by that one.
        () if part.constraint.segment else tuple(s for s in ask.segments if part.constraint.holds_for(s)),
    )
