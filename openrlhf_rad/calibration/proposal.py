"""Level, margin, λ step and λ_max that fit a cost; the reasons are in ``docs/authoring.md``."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from openrlhf_rad.calibration import asking
from openrlhf_rad.calibration.asking import Ask, Rollout
from openrlhf_rad.calibration.figures import Figures, measure
from openrlhf_rad.calibration.sample import Sample
from openrlhf_rad.errors import ReferenceCostError
from openrlhf_rad.evaluation.interval import Estimate
from openrlhf_rad.method.reference import MOST_SHARE, least_cost
from openrlhf_rad.profile import Constraint

#: The fall that is proposed where the profile asks for none, in spreads: what the defaults ask for.
USUAL_FALL = 0.4
#: A profile that asks for less than this, in spreads, asks for nothing that a rollout could show.
LEAST_FALL = 0.05
#: λ_max and the time to reach λ_eq, in λ_eq and in rollouts: a tenfold say, and ten rollouts.
OVERWEIGHT, ROLLOUTS = 10.0, 10.0
#: Methods of `dual` whose step is a rate: no violation times it is the move of λ.
STEPLESS = ("log", "adam")


@dataclass(frozen=True)
class Proposal:
    """What is proposed, in reference spreads, and what it rests on.

    Attributes:
        asked: the profile's own ask; None where it does not resolve on these costs.
        unresolved: why it does not.
        ask: the proposed one.
        reachable: the greatest fall that there can be, to the least cost.
        initial, step, maximum: of λ, per spread; None where the score is flat, and the step of a method whose
            step is no pace per violation.
    """

    part: Constraint
    figures: Figures
    rollout: Rollout
    asked: Ask | None
    unresolved: str
    ask: Ask
    reachable: float
    initial: Estimate | None
    step: Estimate | None
    maximum: Estimate | None


def propose(sample: Sample, part: Constraint, rollout: int, seed: int = 0) -> Proposal:
    """Calibrate one constraint on a sample of its cost.

    Args:
        rollout: answers of a rollout, n.
    """
    form = part.settings.form
    figures = measure(sample, part.risk, part.settings, seed)
    asked, unresolved = _asked(part, sample)
    spread = figures.spread.value
    least = least_cost(part.settings, sample.cost_b)
    shift = asked.shift if asked else 0.0
    seen = asking.simulate(
        part, np.sort(sample.cost_b) / spread, rollout, shift=shift, floor=least / spread, seed=seed
    )
    slack = _slack(form, asked, seen)
    reachable = asking.reachable_fall(part, sample.cost_b)
    fall = _fall(asked, reachable)
    margin = fall + slack if form == "no_worse" else (asked.margin if asked else 0.0)
    return Proposal(
        part,
        figures,
        seen,
        asked,
        unresolved,
        Ask(slack, margin, fall),
        reachable,
        *_dual(part.dual.method, figures.balance, fall, seen.noise),
    )


def _asked(part: Constraint, sample: Sample) -> tuple[Ask | None, str]:
    try:
        return asking.resolve(part, sample.cost_b), ""
    except ReferenceCostError as error:
        return None, str(error)


def _slack(form: str, asked: Ask | None, seen: Rollout) -> float:
    """τ ≥ 2 · the excess that sampling alone shows: a policy that meets the shift must see λ fall."""
    if form != "no_worse":
        return 0.0
    return max(asked.slack if asked else 0.0, 2 * seen.gap)


def _fall(asked: Ask | None, reachable: float) -> float:
    """The profile's own fall where it asks for something that can be reached."""
    fall = asked.fall if asked is not None and asked.fall >= LEAST_FALL else USUAL_FALL
    return fall if fall <= MOST_SHARE * reachable else reachable / 2


def _dual(
    method: str, balance: Estimate, fall: float, noise: float
) -> tuple[Estimate | None, Estimate | None, Estimate | None]:
    """λ_eq; λ_eq / (10 · max(δ, 2 s_v/√10)); 10 λ_eq."""
    pace = max(fall, 2 * noise / math.sqrt(ROLLOUTS))
    if not math.isfinite(balance.value) or pace <= 0:
        return None, None, None
    step = None if method in STEPLESS else _times(balance, 1 / (ROLLOUTS * pace))
    return balance, step, _times(balance, OVERWEIGHT)


def _times(estimate: Estimate, factor: float) -> Estimate:
    low, high = (None if end is None else end * factor for end in (estimate.low, estimate.high))
    return Estimate(estimate.value * factor, low, high)
