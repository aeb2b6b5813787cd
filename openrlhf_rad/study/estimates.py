"""Means over seeds with intervals by two-level resampling: of seeds, and of prompts where they are sampled.

Every seed's models answer the same prompts, so the two levels are crossed (Owen 2007, "The pigeonhole
bootstrap"): a draw takes prompts and seeds with replacement, each independently of the other. Of three or
five seeds a bootstrap alone is too short: its standard error is taken √(S/(S − 1)) as large, and Student's t
with S − 1 freedom stands for the normal law. Where only seeds are sampled, that is the t interval over them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from openrlhf_rad.method.settings import Level
from openrlhf_rad.method.spectrum import MEAN, Spectrum
from openrlhf_rad.statistics.answers import arranged
from openrlhf_rad.statistics.inference import Estimate, fall
from openrlhf_rad.study.answers import ModelScores

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Draws:
    """How often each prompt and each seed is taken in every draw; in the first each once.

    Attributes:
        prompt_rp: shape (R, P). seed_rs: shape (R, S).
    """

    prompt_rp: Array
    seed_rs: Array

    @classmethod
    def of(cls, prompts: int, seeds: int, count: int, seed: int = 0) -> Draws:
        """``count`` draws; 0 where prompts are not sampled."""
        rng = np.random.default_rng(seed)

        def taken(size: int) -> Array:
            drawn = rng.multinomial(size, np.full(size, 1 / size), size=count).reshape(count, size)
            return np.concatenate([np.ones((1, size)), drawn])

        return cls(taken(prompts), taken(seeds))

    def estimate(self, value_rs: Array, confidence: float = 0.95) -> Estimate:
        """The mean over seeds of a statistic, and its interval; none of a single seed.

        Args:
            value_rs: of every seed under the prompts of every draw, shape (R, S).
        """
        seeds = value_rs.shape[1]
        value = float(value_rs[0].mean())
        if seeds < 2 or not np.isfinite(value_rs).all():
            return Estimate(value)
        if len(value_rs) == 1:
            error = float(value_rs[0].std(ddof=1)) / math.sqrt(seeds)
        else:
            drawn_r = (self.seed_rs[1:] * value_rs[1:]).sum(axis=1) / seeds
            error = float(drawn_r.std(ddof=1)) * math.sqrt(seeds / (seeds - 1))
        from scipy.special import stdtrit  # noqa: PLC0415 - see Spectrum

        reach = float(stdtrit(seeds - 1, (1 + confidence) / 2)) * error
        return Estimate(value, value - reach, value + reach)


def risk(scores: ModelScores, spectrum: Spectrum, prompt_rp: Array) -> Array:
    """ρ_φ of the costs under every draw of prompts, shape (R,): Σ [G(F_i) − G(F_{i−1})] c_(i) (Eq. (8))."""
    order = np.argsort(scores.cost_pk, axis=None)
    cost_i = scores.cost_pk.reshape(-1)[order]
    prompt_i = order // scores.cost_pk.shape[1]
    found = []
    for weight_rp in np.array_split(prompt_rp, max(1, len(prompt_rp) // 50)):
        mass_ri = weight_rp[:, prompt_i] * scores.mass_pk.reshape(-1)[order]
        edge_ri = np.cumsum(mass_ri, axis=1) / mass_ri.sum(axis=1, keepdims=True)
        level_ri = np.concatenate([np.zeros((len(edge_ri), 1)), edge_ri], axis=1)
        found.append(np.diff(spectrum.cumulative(level_ri), axis=1) @ cost_i)
    return np.concatenate(found)


def mean(value_pk: Array, mass_pk: Array, prompt_rp: Array) -> Array:
    """The mean over answers under every draw of prompts, shape (R,)."""
    return share((value_pk * mass_pk).sum(axis=1), np.ones(len(value_pk)), prompt_rp)


def share(part_p: Array, whole_p: Array, prompt_rp: Array) -> Array:
    """Σ part / Σ whole over the prompts of every draw, shape (R,); NaN of nothing."""
    whole_r = prompt_rp @ whole_p
    found = np.full(len(whole_r), np.nan)
    np.divide(prompt_rp @ part_p, whole_r, out=found, where=whole_r > 0)
    return found


def passes_safety_test(ask: Level, start_pk: Array, model_pk: Array) -> bool:
    """The test of a release: whether sampled answers surely show that the mean cost fell by ε, at 95 %."""
    prompts, each = start_pk.shape
    panel, _ = arranged([str(prompt) for prompt in range(prompts) for _ in range(each)])
    bound = fall(panel, MEAN, start_pk.reshape(-1), model_pk.reshape(-1)).cautious(0.95)
    return bound is not None and bound[0] >= ask.resolve(start_pk, float(start_pk.mean()))


def spread(scores: ModelScores, value_pk: Array) -> float:
    """The standard deviation of a value over all answers."""
    mass_pk = scores.mass_pk / scores.mass_pk.sum()
    middle = float((mass_pk * value_pk).sum())
    return math.sqrt(float((mass_pk * (value_pk - middle) ** 2).sum()))
