"""Figures of the reference's costs with 95 % bootstrap intervals over prompts.

One set of draws serves all figures. Ratios that the proposal needs are taken within each draw, so that
their intervals know how numerator and denominator move together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from openrlhf_rad.calibration.sample import Sample
from openrlhf_rad.method.scores import Gradient
from openrlhf_rad.method.spectrum import Spectrum
from openrlhf_rad.method.tails import Tails, heavy_tails
from openrlhf_rad.profile import ConstraintSettings
from openrlhf_rad.runs.bootstrap import Draws, Sampling
from openrlhf_rad.statistics.inference import Estimate

Array = NDArray[np.float64]

# Enough draws for two digits of an interval; fewer for large files, where intervals are short anyway.
_MOST, _FEWEST, _WORK = 1000, 200, 20_000_000


@dataclass(frozen=True)
class Figures:
    """All in the cost's own unit but those marked.

    Attributes:
        mean, spread: of C_0. risk: ρ_w(C_0).
        score_spread: standard deviation of s(c) over the reference's answers with every quantile active,
            in reference spreads, or for `tilted` without unit, as in training.
        reward_spread: standard deviation of the rewards; None without rewards.
        balance: λ_eq = σ_r / σ_s, the λ at which the cost moves the advantage as much as the reward does;
            σ_r is 1 where no rewards are there; infinite where the score is flat.
    """

    mean: Estimate
    spread: Estimate
    risk: Estimate
    score_spread: Estimate
    reward_spread: Estimate | None
    balance: Estimate


def measure(sample: Sample, spectrum: Spectrum, settings: ConstraintSettings, seed: int = 0) -> Figures:
    """The figures of a sample under one spectrum."""
    cost_b = sample.cost_b
    # Sums of squares lose digits far from 0.
    centre, scale = float(cost_b.mean()), float(cost_b.std())
    tails = heavy_tails(settings, spectrum, (cost_b - centre) / scale)
    resamples = int(np.clip(_WORK // cost_b.size, _FEWEST, _MOST))
    sampling = Sampling(sample.prompts, resamples, seed)
    columns: list[Sequence[Array]] = []
    for draws in sampling.draws():
        ordered = draws.ordered((cost_b - centre) / scale)
        mass = draws.bin_mass(spectrum)
        mean_r, spread_r = _moments(draws, ordered)
        score_r = _score_spread(draws, ordered, spectrum, settings.gradient, tails)
        score_r = score_r if settings.gradient == "tilted" else score_r / spread_r
        reward_r = (
            np.ones_like(mean_r)
            if sample.reward_b is None
            else _moments(draws, draws.ordered(sample.reward_b - sample.reward_b.mean()))[1]
        )
        with np.errstate(divide="ignore", invalid="ignore"):
            balance_r = np.where(score_r > 0, reward_r / score_r, np.inf)
        columns.append((mean_r, spread_r, draws.total(ordered * mass), score_r, reward_r, balance_r))
    mean_r, spread_r, risk_r, score_r, reward_r, balance_r = (
        np.concatenate(parts) for parts in zip(*columns, strict=True)
    )
    estimate = sampling.estimate
    return Figures(
        mean=estimate(centre + scale * mean_r),
        spread=estimate(scale * spread_r),
        risk=estimate(centre + scale * risk_r),
        score_spread=estimate(score_r),
        reward_spread=None if sample.reward_b is None else estimate(reward_r),
        balance=estimate(balance_r) if np.isfinite(balance_r).all() else Estimate(float(balance_r[0])),
    )


def quantile_skewness(sample: Sample, seed: int = 0) -> Estimate:
    """(q₉₇.₅ + q₂.₅ − 2 q₅₀) / (q₉₇.₅ − q₂.₅) in [−1, 1]: above 0 the long tail is on the right."""
    sampling = Sampling(sample.prompts, 500, seed)
    found = []
    for draws in sampling.draws():
        ordered = draws.ordered(sample.cost_b)
        low, middle, high = (draws.quantile(ordered, level) for level in (0.025, 0.5, 0.975))
        width = high - low
        found.append(np.where(width > 0, (high + low - 2 * middle) / np.where(width > 0, width, 1), 0.0))
    return sampling.estimate(np.concatenate(found))


def _moments(draws: Draws, ordered: Array) -> tuple[Array, Array]:
    """Mean and standard deviation of every draw of centred values."""
    mean_r = draws.mean(ordered)
    return mean_r, np.sqrt(np.maximum(draws.mean(ordered * ordered) - mean_r * mean_r, 0.0))


def _score_spread(
    draws: Draws, ordered: Array, spectrum: Spectrum, gradient: Gradient, tails: Tails
) -> Array:
    """Standard deviation of s(c) in every draw; see :mod:`scores`."""
    last = draws.start_r + draws.count_r - 1
    if gradient == "tilted":
        term = draws.bin_mass(spectrum)
    else:
        size = np.repeat(draws.count_r, draws.count_r) - (gradient == "spacing")
        gap = np.append(np.diff(ordered), 0.0)
        gap[last] = 0.0
        term = draws.gap_mass(spectrum) * size * _winsorised(draws, ordered, gap, tails)
    before = np.cumsum(term) - term
    score = np.repeat(before[last] + term[last], draws.count_r) - before
    # Equal costs share the score of the first of them.
    fresh = np.append(True, np.diff(ordered) > 0)
    fresh[draws.start_r] = True
    score = score[np.maximum.accumulate(np.where(fresh, np.arange(score.size), 0))]
    centred = score - np.repeat(draws.mean(score), draws.count_r)
    return _moments(draws, centred)[1]


def _winsorised(draws: Draws, ordered: Array, gap: Array, tails: Tails) -> Array:
    """The gaps of every draw as :class:`Tails` leaves them."""
    if tails == Tails():
        return gap
    parts = [
        tails.winsorised(gap[start : start + count - 1], ordered[start : start + count])
        for start, count in zip(draws.start_r, draws.count_r, strict=True)
    ]
    return np.concatenate([np.append(part, 0.0) for part in parts])
