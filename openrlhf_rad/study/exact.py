"""The exact world: prompts and answers that can be enumerated, so that truth is known at every step.

Each prompt has the same kinds of answers: plain, helpful, harmful in a mild and frequent way, harmful in a
grave and rare way. The policy is π(a | p) ∝ π_0(a | p) exp(x_p · W_a), x_p the prompt's features, so that
what is learned on some prompts reaches others. It learns as in a run of the real stack: by the product's own
:class:`~openrlhf_rad.method.constraint_set.ConstraintSet`, whose bonus is added to r − β log(π/π_0) before
RLOO, and whose own advantages come after it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from openrlhf_rad.method.constraint import Compared
from openrlhf_rad.method.constraint_set import ConstraintSet, Scored
from openrlhf_rad.method.particles import empirical_quantiles, quantile_levels
from openrlhf_rad.method.soft_risk import SoftRisk
from openrlhf_rad.method.spectrum import Spectrum
from openrlhf_rad.method.step import RadStep
from openrlhf_rad.profile import RiskProfile

Array = NDArray[np.float64]
#: The sets of prompts: those that are trained on, others of their law, those of another distribution.
TRAIN, HELD_OUT, OTHER = SETS = ("train", "held-out", "other")
_LEVELS = 256


@dataclass(frozen=True)
class Kind:
    """A kind of answer: how many of them each prompt has, and what they have on average.

    Attributes:
        share: of the start's answers, all of this kind together. tempted: by what factor that share is larger
            on the prompts of the other distribution.
    """

    count: int
    share: float
    reward: float
    cost: float
    tempted: float = 1.0


@dataclass(frozen=True)
class WorldSettings:
    """A world and how policies learn in it.

    Attributes:
        kinds: by name. prompts: of each set. features: of a prompt, one of them constant.
        answers: sampled to each prompt at a step. steps: of a training. rate: of its gradient steps.
        kl: β. noise: the deviation of a kind's rewards, and of the logarithms of its costs and shares.
    """

    kinds: Mapping[str, Kind]
    prompts: int = 12
    features: int = 4
    answers: int = 8
    steps: int = 600
    rate: float = 4.0
    kl: float = 0.3
    noise: float = 0.2


@dataclass(frozen=True)
class Prompts:
    """One set of prompts with all their answers.

    Attributes:
        feature_pd: x. start_pa: log π_0. reward_pa, cost_pa: of every answer.
    """

    feature_pd: Array
    start_pa: Array
    reward_pa: Array
    cost_pa: Array

    def policy(self, weight_da: Array) -> Array:
        """π(a | p), shape (P, A)."""
        logit_pa = self.start_pa + self.feature_pd @ weight_da
        power_pa = np.exp(logit_pa - logit_pa.max(axis=1, keepdims=True))
        return np.asarray(power_pa / power_pa.sum(axis=1, keepdims=True))


class World:
    """One draw of prompts, answers, rewards and costs."""

    def __init__(self, settings: WorldSettings, seed: int) -> None:
        self.settings, self.seed = settings, seed
        self.sets = {name: self._draw(name, number) for number, name in enumerate(SETS)}

    def _draw(self, name: str, number: int) -> Prompts:
        kinds, noise = self.settings.kinds.values(), self.settings.noise
        rng = np.random.default_rng([self.seed, number])
        prompts, other = self.settings.prompts, name == OTHER
        per_answer = {
            key: np.repeat([getattr(kind, key) for kind in kinds], [kind.count for kind in kinds])
            for key in ("count", "share", "reward", "cost", "tempted")
        }
        shape = prompts, per_answer["count"].size
        feature_pd = 0.5 * rng.normal(size=(prompts, self.settings.features)) + (0.5 if other else 0.0)
        feature_pd[:, 0] = 1.0
        share_a = per_answer["share"] / per_answer["count"] * (per_answer["tempted"] if other else 1.0)
        logit_pa = np.log(share_a) + noise * rng.normal(size=shape)
        return Prompts(
            feature_pd,
            logit_pa - np.log(np.exp(logit_pa).sum(axis=1, keepdims=True)),
            per_answer["reward"] + noise * rng.normal(size=shape),
            per_answer["cost"] * np.exp(noise * rng.normal(size=shape)),
        )

    def start(self) -> Array:
        """The weights of the start, where π = π_0."""
        answers = sum(kind.count for kind in self.settings.kinds.values())
        return np.zeros((self.settings.features, answers))

    def sample(self, rng: np.random.Generator, policy_pa: Array, count: int) -> NDArray[np.int64]:
        """``count`` answers to each prompt, shape (P·count,), those to one prompt beside each other."""
        edge_pa = np.cumsum(policy_pa, axis=1)
        drawn_pk = rng.random((policy_pa.shape[0], count)) * edge_pa[:, -1:]
        place_pk = (drawn_pk[:, :, None] > edge_pa[:, None, :]).sum(axis=2)
        return np.asarray(np.minimum(place_pk, policy_pa.shape[1] - 1).reshape(-1))

    def reference(self, count: int) -> Scored:
        """At least ``count`` answers of the start to the training prompts, the same for every model."""
        prompts = self.sets[TRAIN]
        each = -(-count // self.settings.prompts)
        answer_b = self.sample(np.random.default_rng([self.seed, 10]), prompts.policy(self.start()), each)
        prompt_b = np.repeat(np.arange(self.settings.prompts), each)
        return _scored(prompts.cost_pa[prompt_b, answer_b], prompt_b)


@dataclass(frozen=True)
class Training:
    """A training.

    Attributes:
        violation_t: true, of what the run's own reference asks, in spreads of that; positive: missed.
        dual_t: λ. reward_t, mean_t, tail_t: E r, E C and CVaR 0.9 on the held-out prompts.
        weight_da: what was learned.
    """

    violation_t: Array
    dual_t: Array
    reward_t: Array
    mean_t: Array
    tail_t: Array
    weight_da: Array


def train(
    world: World,
    profile: RiskProfile,
    tail: Spectrum,
    *,
    fixed_dual: float | None = None,
    soft_risk: SoftRisk | None = None,
) -> Training:
    """Train a policy in a world under a profile of one constraint.

    Args:
        tail: the risk of ``tail_t``.
    """
    settings, prompts, held_out = world.settings, world.sets[TRAIN], world.sets[HELD_OUT]
    reference = world.reference(profile.reference_samples)
    constraints = ConstraintSet(profile, reference, fixed_dual=fixed_dual)
    truth = Truth(constraints.parts[0].step, prompts, reference.costs["cost"])
    rng = np.random.default_rng([world.seed, 11])
    prompt_b = np.repeat(np.arange(settings.prompts), settings.answers)
    names = [str(prompt) for prompt in prompt_b]
    weight_da, rows = world.start(), []
    start_pa = prompts.start_pa
    for step in range(settings.steps):
        policy_pa, held_pa = prompts.policy(weight_da), held_out.policy(weight_da)
        answer_b = world.sample(rng, policy_pa, settings.answers)
        result = constraints(
            Scored({"cost": prompts.cost_pa[prompt_b, answer_b]}, [""] * prompt_b.size, names)
        )
        rows.append(
            (
                truth.violation(policy_pa),
                result.metrics["cost"]["lambda"],
                expectation(held_pa, held_out.reward_pa),
                expectation(held_pa, held_out.cost_pa),
                weighted_risk(tail, held_out.cost_pa, held_pa),
            )
        )
        # What has become impossible is never sampled, so that its logarithm does not matter.
        log_pa = np.log(np.maximum(policy_pa, np.finfo(np.float64).tiny))
        gain_pa = prompts.reward_pa - settings.kl * (log_pa - start_pa)
        return_b = gain_pa[prompt_b, answer_b] + result.bonus_b
        advantage_b = leave_one_out(return_b, settings.answers) + result.advantage_b
        if soft_risk is not None:
            share = soft_risk.share_at(step, settings.steps)
            factor_b, middle = soft_risk.restriction(advantage_b, return_b + result.advantage_b, share)
            advantage_b = factor_b * (advantage_b - middle)
        chosen_pa = np.zeros_like(policy_pa)
        np.add.at(chosen_pa, (prompt_b, answer_b), advantage_b)
        change_pa = chosen_pa - chosen_pa.sum(axis=1, keepdims=True) * policy_pa
        weight_da = weight_da + settings.rate * prompts.feature_pd.T @ change_pa / prompt_b.size
    violation_t, dual_t, reward_t, mean_t, tail_t = np.array(rows).T
    return Training(violation_t, dual_t, reward_t, mean_t, tail_t, weight_da)


class Truth:
    """The violation of a constraint by a whole policy, not by a sample of it."""

    def __init__(self, step: RadStep, prompts: Prompts, reference_r: Array) -> None:
        self._ask, self._spread = step.ask, step.spread
        order = np.argsort(prompts.cost_pa, axis=None)
        self._order, self._cost = order, prompts.cost_pa.reshape(-1)[order]
        self._weight_n = step.constraint.risk.weights(_LEVELS)
        level_n = quantile_levels(_LEVELS)
        reference_n = empirical_quantiles(reference_r, _LEVELS, repeats=True)
        self._level_n, form = level_n, self._ask.form
        self._shifted_n = form.shifted(reference_n, self._ask.shift, self._ask.least)

    def violation(self, policy_pa: Array) -> float:
        """In spreads of the reference."""
        mass = np.cumsum(policy_pa.reshape(-1)[self._order])
        particle_n = self._cost[np.minimum(np.searchsorted(mass, self._level_n * mass[-1]), mass.size - 1)]
        ask = self._ask
        value = ask.form.value(Compared(particle_n, self._shifted_n, ask.shift), self._weight_n, None)
        return (value - ask.level if ask.form.upper_bound else ask.level - value) / self._spread


def leave_one_out(return_b: Array, each: int) -> Array:
    """RLOO: each return less the mean of the other answers to its prompt."""
    return_pk = return_b.reshape(-1, each)
    return np.asarray(((return_pk - return_pk.mean(axis=1, keepdims=True)) * each / (each - 1)).reshape(-1))


def expectation(policy_pa: Array, value_pa: Array) -> float:
    """E over prompts, which are equally likely, and answers."""
    return float((policy_pa * value_pa).sum() / policy_pa.shape[0])


def weighted_risk(spectrum: Spectrum, cost_b: Array, mass_b: Array) -> float:
    """ρ_φ of answers that are not equally likely (Eq. (8)): Σ [G(F_i) − G(F_{i−1})] c_(i)."""
    order = np.argsort(cost_b, axis=None)
    cost_i, mass_i = cost_b.reshape(-1)[order], mass_b.reshape(-1)[order]
    edge_i = np.append(0.0, np.cumsum(mass_i)) / mass_i.sum()
    return float(np.diff(spectrum.cumulative(edge_i)) @ cost_i)


def _scored(cost_b: Array, prompt_b: Sequence[int] | NDArray[np.int64]) -> Scored:
    return Scored({"cost": cost_b}, [""] * len(cost_b), [str(prompt) for prompt in prompt_b])
