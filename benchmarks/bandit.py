"""A constrained bandit: a softmax policy over arms, learned by REINFORCE on r + λ·s, with heavy-tailed costs.

What tempts also harms: an arm's reward and the location of its cost share a factor. Each arm's cost has a few
dozen equally likely log-normal values, so that the policy's whole cost distribution, and with it the true
violation, is known at every step, while the learner sees 64 samples.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from openrlhf_rad.method.constraint import ConstraintResult, evaluate
from openrlhf_rad.method.dual import DualVariable
from openrlhf_rad.method.particles import empirical_quantiles, quantile_levels
from openrlhf_rad.method.scores import score
from openrlhf_rad.method.settings import TransportSettings
from openrlhf_rad.method.step import RadStep
from openrlhf_rad.method.transport import dominance_gap
from openrlhf_rad.profile import load_profile

Array = NDArray[np.float64]

ARMS, VALUES, BATCH, REFERENCE, LEVELS = 100, 32, 64, 512, 128
#: Price of the divergence from the reference policy; noise of a sampled reward.
KL_PRICE, REWARD_NOISE = 0.5, 0.5
# Shipped profiles ask for the Sinkhorn plan; the exact indicator is 150 times as fast, and λ sees neither.
_EXACT = TransportSettings(indicator="exact")


@dataclass(frozen=True)
class Scenario:
    """A shipped profile, and how fast the policy learns."""

    profile: str
    rate: float

    def __str__(self) -> str:
        return f"{self.profile}, {'fast' if self.rate > 2 else 'slow'} policy"


SCENARIOS = tuple(Scenario(profile, rate) for profile in ("medical", "safe-rlhf") for rate in (1.0, 4.0))


@dataclass(frozen=True)
class Path:
    """A run, a value a step: objective E[r] − β KL, reward E[r], true violation in reference spreads, λ."""

    objective_t: Array
    reward_t: Array
    violation_t: Array
    dual_t: Array


class Bandit:
    """One random bandit with its reference policy and reference costs.

    Args:
        seed: of the bandit alone; a run has a seed of its own.
    """

    def __init__(self, scenario: Scenario, seed: int) -> None:
        rng = np.random.default_rng([1, seed])
        self.scenario = scenario
        self.profile = load_profile(scenario.profile).with_overrides({"transport.indicator": "exact"})
        temptation_k = rng.normal(size=ARMS)
        self.reward_k = temptation_k + 0.5 * rng.normal(size=ARMS)
        location_k = 0.5 * temptation_k + 0.5 * rng.normal(size=ARMS)
        self.cost_kv = np.exp(location_k[:, None] + 0.8 * rng.normal(size=(ARMS, VALUES)))
        self.start_k = 0.5 * rng.normal(size=ARMS)
        self.reference_costs = self.sample_costs(rng, self.sample_arms(rng, softmax(self.start_k), REFERENCE))
        self.step = RadStep(self.profile, self.reference_costs)
        order = np.argsort(self.cost_kv, axis=None)
        self._arm, self._sorted = order // VALUES, self.cost_kv.reshape(-1)[order] / self.step.spread
        self.weight_n = self.profile.weights(LEVELS)
        self.reference_n = empirical_quantiles(self.reference_costs, LEVELS) / self.step.spread

    def sample_arms(self, rng: np.random.Generator, policy_k: Array, count: int) -> NDArray[np.int64]:
        """Arms drawn from the policy."""
        place = np.searchsorted(np.cumsum(policy_k), rng.random(count) * policy_k.sum())
        return np.minimum(place, ARMS - 1)

    def sample_costs(self, rng: np.random.Generator, arm_b: NDArray[np.int64]) -> Array:
        """One cost an arm."""
        return np.asarray(self.cost_kv[arm_b, rng.integers(VALUES, size=arm_b.size)])

    def quantiles(self, policy_k: Array) -> Array:
        """The policy's own quantiles, in reference spreads, without sampling."""
        mass = np.cumsum((policy_k / VALUES)[self._arm])
        place = np.searchsorted(mass, quantile_levels(LEVELS) * mass[-1])
        return np.asarray(self._sorted[place])

    def violation(self, particle_n: Array) -> float:
        """As :func:`evaluate` gives it, without the transport plan, which takes ten times as long."""
        ask, spread = self.step.ask, self.step.spread
        level = ask.level / spread
        if not ask.form.weighted:
            return float(particle_n.mean()) - level
        shifted_n = np.maximum(self.reference_n - ask.shift / spread, ask.least / spread)
        return dominance_gap(shifted_n, particle_n, self.weight_n) - level

    def constraint(self, particle_n: Array) -> ConstraintResult:
        """The whole constraint, in reference spreads."""
        return evaluate(
            self.profile.constraint.form,
            particle_n,
            self.reference_n,
            self.weight_n,
            level=self.step.ask.level / self.step.spread,
            margin=self.step.ask.shift / self.step.spread,
            floor=self.step.ask.least / self.step.spread,
            transport=_EXACT,
        )

    def objective(self, logit_k: Array) -> float:
        """E[r] − β KL(π ‖ π_ref)."""
        policy_k = softmax(logit_k)
        return float(policy_k @ (self.reward_k - KL_PRICE * self._log_ratio(logit_k)))

    def learn(self, dual: DualVariable, seed: int, steps: int) -> Path:
        """Train the policy from its start, with RadStep's scores and this λ."""
        rng = np.random.default_rng([2, seed])
        step = RadStep(self.profile, self.reference_costs)
        step.dual = dual
        logit_k, rows = self.start_k.copy(), []
        for _ in range(steps):
            policy_k = softmax(logit_k)
            rows.append(self._row(logit_k, self.violation(self.quantiles(policy_k)), dual.value))
            arm_b = self.sample_arms(rng, policy_k, BATCH)
            cost_b = self.sample_costs(rng, arm_b)
            result = step(cost_b)
            gain_b = self.reward_k[arm_b] + REWARD_NOISE * rng.normal(size=BATCH)
            gain_b -= KL_PRICE * self._log_ratio(logit_k)[arm_b]
            price_b = result.dual_variable * result.score_b
            before_b = gain_b if step.own_baseline else gain_b + price_b
            advantage_b = (before_b - before_b.mean()) * BATCH / (BATCH - 1)  # leave-one-out
            advantage_b += price_b if step.own_baseline else 0.0
            gradient_k = np.bincount(arm_b, weights=advantage_b, minlength=ARMS)
            logit_k = logit_k + self.scenario.rate * (gradient_k - advantage_b.sum() * policy_k) / BATCH
        return Path(*np.array(rows).T)

    def hold(self, dual: float, steps: int) -> Path:
        """Train with the exact gradient at a λ that stays: what hindsight would do."""
        logit_k, rows = self.start_k.copy(), []
        for _ in range(steps):
            policy_k = softmax(logit_k)
            particle_n = self.quantiles(policy_k)
            result = self.constraint(particle_n)
            rows.append(self._row(logit_k, result.violation, dual))
            sampled = self.step.ask.spectrum.sampled(particle_n.size)
            atom = score(self.cost_kv.reshape(-1) / self.step.spread, particle_n, result, sampled)
            gain_k = self.reward_k + dual * atom.reshape(ARMS, VALUES).mean(axis=1)
            gain_k = gain_k - KL_PRICE * self._log_ratio(logit_k)
            logit_k = logit_k + self.scenario.rate * policy_k * (gain_k - policy_k @ gain_k)
        return Path(*np.array(rows).T)

    def _row(self, logit_k: Array, violation: float, dual: float) -> tuple[float, float, float, float]:
        return self.objective(logit_k), float(softmax(logit_k) @ self.reward_k), violation, dual

    def _log_ratio(self, logit_k: Array) -> Array:
        return np.asarray(np.log(softmax(logit_k)) - np.log(softmax(self.start_k)))


def softmax(logit_k: Array) -> Array:
    """Probabilities of the arms."""
    power_k = np.exp(logit_k - logit_k.max())
    return np.asarray(power_k / power_k.sum())


def best_held(bandit: Bandit, steps: int, most: float, tail: Callable[[Array], float]) -> tuple[float, float]:
    """The smallest λ that, held throughout, ends feasible, and the objective that it ends with; by bisection.

    Raises:
        ValueError: λ = 0 ends feasible, or ``most`` does not: no test of a dual variable.
    """
    low, high = 0.0, most
    if tail(bandit.hold(low, steps).violation_t) <= 0:
        raise ValueError("the constraint binds at no λ")
    path = bandit.hold(high, steps)
    if tail(path.violation_t) > 0:
        raise ValueError(f"no λ up to {most} meets the constraint")
    for _ in range(7):
        middle = (low + high) / 2
        tried = bandit.hold(middle, steps)
        if tail(tried.violation_t) <= 0:
            high, path = middle, tried
        else:
            low = middle
    return high, tail(path.objective_t)
