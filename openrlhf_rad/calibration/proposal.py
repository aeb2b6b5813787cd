"""Level, margin, λ step and λ_max that fit a cost; the reasons are in ``docs/authoring.md``.

What a constraint asks of the reference, how much could be reached, and what a rollout would see of it, all in
reference spreads. The fall δ is by how much the risk must lie below the reference's (for `expected` the
mean): the violation at the start of training, when the policy still is the reference.

| form        | δ                | level from δ     |
|-------------|------------------|------------------|
| no_worse    | m − τ            | τ, with m = δ + τ |
| improvement | ε                | ε = δ            |
| spectral    | ε                | ε = δ            |
| expected    | E[C_0] − d       | d = E[C_0] − δ   |
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from openrlhf_rad.calibration.figures import Figures, ScoredSample, measure
from openrlhf_rad.errors import ReferenceCostError
from openrlhf_rad.method import reference
from openrlhf_rad.method.constraint import FORMS, evaluate
from openrlhf_rad.method.particles import empirical_quantiles
from openrlhf_rad.method.reference import MOST_SHARE, least_cost
from openrlhf_rad.method.settings import TransportSettings
from openrlhf_rad.method.spectrum import Spectrum
from openrlhf_rad.profile import Constraint
from openrlhf_rad.statistics.inference import Estimate

Array = NDArray[np.float64]
_EXACT = TransportSettings(indicator="exact")
_ROLLOUTS = 300
_MOST_DRAWN = 5_000_000


@dataclass(frozen=True)
class ScaledAsk:
    """A constraint resolved on the reference, in spreads: τ or slack-free 0, margin m, and the fall δ.

    Attributes:
        shift: of the reference's quantiles, none of which falls below the least cost.
    """

    slack: float
    margin: float
    fall: float
    shift: float = 0.0


@dataclass(frozen=True)
class Rollout:
    """What rollouts of n answers show of a distribution that is the reference's own.

    Attributes:
        size: n.
        tail: Kish's effective number of answers that the weights rest on, (Σw)²/Σw²; n(1 − α) for CVaR.
        gap: mean of L_w(C_0, Ĉ_0), the excess that sampling alone shows where there is none.
        value: mean of the constraint's value; of a gap it is positive by noise.
        noise: standard deviation of that value from rollout to rollout.
        risk_noise: standard deviation of the risk.
    """

    size: int
    tail: float
    gap: float
    value: float
    noise: float
    risk_noise: float


def resolve(part: Constraint, cost_b: Array) -> ScaledAsk:
    """What the profile asks of a sample.

    Raises:
        ReferenceCostError: a share of a risk ≤ 0, or a cost below `constraint.floor`.
    """
    ask, spread = reference.resolve(part.settings, part.risk, cost_b), float(cost_b.std())
    slack = ask.margin - ask.fall if ask.form.by_margin else 0.0
    return ScaledAsk(slack / spread, ask.margin / spread, ask.fall / spread, ask.shift / spread)


def reachable_fall(part: Constraint, cost_b: Array) -> float:
    """R: the greatest δ, in spreads, that a policy could meet whose every answer costs the least."""
    form = FORMS[part.settings.form]
    present = form.figure(np.sort(cost_b), form.spectrum(part.risk).weights(cost_b.size))
    return (present - reference.least_cost(part.settings, cost_b)) / float(cost_b.std())


def simulate(
    part: Constraint, cost_b: Array, size: int, *, shift: float, floor: float, seed: int = 0
) -> Rollout:
    """Draw rollouts from the sample itself; cost_b in any order, shift and floor in its unit, spreads."""
    generator = np.random.default_rng(seed)
    reference_n, weight_n = empirical_quantiles(cost_b, size, repeats=True), part.risk.weights(size)
    count = int(np.clip(_MOST_DRAWN // size, 20, _ROLLOUTS))
    gaps, values, risks = [], [], []
    for _ in range(count):
        particle_n = np.sort(generator.choice(cost_b, size))
        result = evaluate(
            part.settings.form,
            particle_n,
            reference_n,
            weight_n,
            level=0.0,
            margin=shift,
            floor=floor,
            transport=_EXACT,
        )
        gaps.append(result.gap_reverse)
        values.append(result.value)
        risks.append(float(weight_n @ particle_n) / size)
    return Rollout(
        size,
        effective(part.risk, size),
        gap=float(np.mean(gaps)),
        value=float(np.mean(values)),
        noise=float(np.std(values)),
        risk_noise=float(np.std(risks)),
    )


def effective(spectrum: Spectrum, size: int) -> float:
    """Kish's effective number of answers under the weights of a sample of this size."""
    weight_n = spectrum.weights(size)
    return float(weight_n.sum() ** 2 / (weight_n @ weight_n))


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
    asked: ScaledAsk | None
    unresolved: str
    ask: ScaledAsk
    reachable: float
    initial: Estimate | None
    step: Estimate | None
    maximum: Estimate | None


def propose(sample: ScoredSample, part: Constraint, rollout: int, seed: int = 0) -> Proposal:
    """Calibrate one constraint on a sample of its cost.

    Args:
        rollout: answers of a rollout, n.
    """
    form = FORMS[part.settings.form]
    figures = measure(sample, part.risk, part.settings, seed)
    asked, unresolved = _asked(part, sample)
    spread = figures.spread.value
    least = least_cost(part.settings, sample.cost_b)
    shift = asked.shift if asked else 0.0
    seen = simulate(
        part, np.sort(sample.cost_b) / spread, rollout, shift=shift, floor=least / spread, seed=seed
    )
    # τ ≥ 2 · the excess that sampling alone shows: a policy that meets the shift must see λ fall.
    slack = max(asked.slack if asked else 0.0, 2 * seen.gap) if form.by_margin else 0.0
    reachable = reachable_fall(part, sample.cost_b)
    fall = _fall(asked, reachable)
    margin = fall + slack if form.by_margin else (asked.margin if asked else 0.0)
    return Proposal(
        part,
        figures,
        seen,
        asked,
        unresolved,
        ScaledAsk(slack, margin, fall),
        reachable,
        *_dual(part.dual.method, figures.balance, fall, seen.noise),
    )


def _asked(part: Constraint, sample: ScoredSample) -> tuple[ScaledAsk | None, str]:
    try:
        return resolve(part, sample.cost_b), ""
    except ReferenceCostError as error:
        return None, str(error)


def _fall(asked: ScaledAsk | None, reachable: float) -> float:
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
