"""What a constraint asks of the reference, how much could be reached, and what a rollout would see of it.

All in reference spreads. The fall δ is by how much the risk must lie below the reference's (for `expected`
the mean): the violation at the start of training, when the policy still is the reference.

| form        | δ                | level from δ     |
|-------------|------------------|------------------|
| no_worse    | m − τ            | τ, with m = δ + τ |
| improvement | ε                | ε = δ            |
| spectral    | ε                | ε = δ            |
| expected    | E[C_0] − d       | d = E[C_0] − δ   |
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from openrlhf_rad.method import reference
from openrlhf_rad.method.constraint import TransportOptions, evaluate
from openrlhf_rad.method.particles import empirical_quantiles
from openrlhf_rad.method.spectrum import Spectrum
from openrlhf_rad.profile import Constraint

Array = NDArray[np.float64]

_EXACT = TransportOptions(indicator="exact")

_ROLLOUTS = 300
_MOST_DRAWN = 5_000_000


@dataclass(frozen=True)
class Ask:
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


def resolve(part: Constraint, cost_b: Array) -> Ask:
    """What the profile asks of a sample.

    Raises:
        ReferenceCostError: a share of a risk ≤ 0, or a cost below `constraint.floor`.
    """
    found, spread = reference.resolve(part.settings, part.risk, cost_b), float(cost_b.std())
    slack = found.margin - found.fall if part.settings.form == "no_worse" else 0.0
    return Ask(slack / spread, found.margin / spread, found.fall / spread, found.shift / spread)


def reachable_fall(part: Constraint, cost_b: Array) -> float:
    """R: the greatest δ, in spreads, that a policy could meet whose every answer costs the least."""
    present = float(cost_b.mean()) if part.settings.form == "expected" else part.risk.risk(cost_b)
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
        found = evaluate(
            part.settings.form,
            particle_n,
            reference_n,
            weight_n,
            level=0.0,
            margin=shift,
            floor=floor,
            options=_EXACT,
        )
        gaps.append(found.gap_reverse)
        values.append(found.value)
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
