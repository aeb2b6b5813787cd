"""Which of a run's models ships: the one of highest reward that surely meets the profile's constraints.

A candidate's answers to held-out prompts are compared with those from before training, by the forms of
:mod:`openrlhf_rad.method.constraint` and the bounds of ``rad eval``, one-sided with the profile's confidence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from openrlhf_rad.errors import ReferenceCostError
from openrlhf_rad.evaluation.constraints import Part, parts
from openrlhf_rad.evaluation.pairing import AFTER, BEFORE, Rows, paired
from openrlhf_rad.method.reference import Ask, resolve
from openrlhf_rad.profile import RiskProfile
from openrlhf_rad.statistics.curves import difference
from openrlhf_rad.statistics.dominance import gaps
from openrlhf_rad.statistics.inference import average, fall
from openrlhf_rad.words import number


@dataclass(frozen=True)
class Violation:
    """How far a candidate is from meeting a constraint, in spreads of the costs from before training.

    Attributes:
        violation: positive where it is violated; None where no held-out prompt is under the constraint.
        bound: its upper bound; None where the answers are too few for one.
    """

    constraint: str
    violation: float | None
    bound: float | None


@dataclass(frozen=True)
class Candidate:
    """The model of a step, judged; ``reward`` is the mean of its held-out answers."""

    step: int
    reward: float
    violations: Sequence[Violation]

    @property
    def feasible(self) -> bool:
        """Whether it surely meets every constraint."""
        return all(one.bound is not None and one.bound <= 0 for one in self.violations)

    @property
    def rank(self) -> tuple[bool, bool, float, float]:
        """The greatest ships: surely feasible, else by the estimate; of those by reward, else the nearest."""
        known = [one.violation for one in self.violations if one.violation is not None]
        worst = max(known, default=0.0)
        met = worst <= 0
        return self.feasible, met, self.reward if met else 0.0, 0.0 if met else -worst


def judge(profile: RiskProfile, step: int, before: Rows, after: Rows, seed: int = 0) -> Candidate:
    """A candidate by its answers to the held-out prompts, in the order of those from before training."""
    panel = paired(before, after, profile)
    violations = [_violation(part, profile, seed) for part in parts(profile, panel)]
    return Candidate(step, float(np.mean([row["reward"] for row in after])), violations)


def _violation(part: Part, profile: RiskProfile, seed: int) -> Violation:
    one = part.constraint
    if not part.panel.prompts:
        return Violation(one.name, None, None)
    baseline_b = part.panel.cost[BEFORE]
    try:
        ask = resolve(one.settings, one.risk, baseline_b)
    except ReferenceCostError:  # a held-out answer below the floor: nothing is sure
        return Violation(one.name, None, None)
    spread = float(baseline_b.std()) or 1.0
    value, bound = _excess(part, ask, 1 - profile.evaluate.confidence, profile.evaluate.resamples, seed)
    return Violation(one.name, value / spread, None if bound is None else bound / spread)


def _excess(part: Part, ask: Ask, tail: float, draws: int, seed: int) -> tuple[float, float | None]:
    """How far a constraint is from being met and the bound above it, in the cost's own units."""
    panel, risk, form = part.panel, ask.risk, ask.form
    baseline_b, candidate_b = panel.cost[BEFORE], panel.cost[AFTER]
    if not form.weighted:
        mean = average(panel, candidate_b)
        return mean.value - ask.level, mean.upper(tail) - ask.level if mean.certain else None
    if not form.pairs:
        less = fall(panel, risk, baseline_b, candidate_b)
        return ask.level - less.value, ask.level - less.lower(tail) if less.certain else None
    moved_b = form.shifted(baseline_b, ask.shift, ask.least)
    moved = difference(panel, moved_b, candidate_b, draws=draws, seed=seed)
    costs = moved_b, candidate_b
    found = gaps(risk, costs, moved, fall(panel, risk, *costs), 1 - 2 * tail)
    if form.upper_bound:
        high = found.above.high
        return found.above.value - ask.level, None if high is None else high - ask.level
    asked, low = ask.level + ask.shift, found.below.low
    return asked - found.below.value, None if low is None else asked - low


def reason(candidates: Sequence[Candidate], chosen: Candidate, confidence: float) -> str:
    """Which step ships and why, in a sentence or two."""
    sure = f"with {100 * confidence:g} % confidence on held-out answers"
    if not chosen.feasible:
        met = all((one.violation or 0) <= 0 for one in chosen.violations)
        best = "" if len(candidates) == 1 else f", the {'best by the estimate' if met else 'nearest'}"
        told = "; ".join(_told(one) for one in chosen.violations if one.bound is None or one.bound > 0)
        return (
            f"No candidate ({_steps(candidates)}) is shown to meet its constraint {sure}. model/ is of step"
            f" {chosen.step}{best}: {told}."
        )
    text = f"model/ is of step {chosen.step}: it meets its constraint {sure}"
    others = [one for one in candidates if one.feasible]
    if len(candidates) == 1:
        return f"{text}."
    if len(others) == 1:
        return f"{text}, the only candidate that does (candidates: {_steps(candidates)})."
    return (
        f"{text}; of those that do ({_steps(others)}) it has the highest reward, {number(chosen.reward)}"
        f" (candidates: {_steps(candidates)})."
    )


def _steps(candidates: Sequence[Candidate]) -> str:
    steps = sorted(one.step for one in candidates)
    return f"step{'s' if len(steps) > 1 else ''} {', '.join(map(str, steps))}"


def _told(one: Violation) -> str:
    """Why a constraint is not shown to be met."""
    if one.violation is None:
        return f"no held-out prompt is under constraint {one.constraint}"
    spreads = f"{number(abs(one.violation))} spreads"
    says = f"is violated by {spreads}" if one.violation > 0 else f"holds with {spreads} to spare"
    worst = "and the answers are too few for a bound"
    if one.bound is not None:
        worst = f"at worst {'' if one.violation > 0 else 'it is violated '}by {number(one.bound)}"
    return f"constraint {one.constraint} {says} by the estimate, {worst}"
