"""Quantile curves of one model and of a difference, with bands that hold for all levels at once.

Let F̂ be the share of answers that cost at most x. Over prompts, F̂ of both models at a grid of points are
means of P independent vectors, so jointly normal for large P with a covariance that is estimated here
exactly, from counts of pairs of answers to one prompt: O(B·m) for m answers a prompt, and no resampling of
the answers. Quantiles follow by inversion (Woodruff 1952; Francisco and Fuller 1991 for clusters): where F̂
moves by z, the quantile at level t moves to that at t − z, a rank of the sorted costs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from openrlhf_rad.statistics.answers import Panel

Array = NDArray[np.float64]
#: Levels below and above which too few prompts lie for the normal law of F̂: P·t and P·(1 − t).
EXPECTED = 5.0
_TAIL = (0.9975, 0.999, 0.9995, 0.9999)


def quantile_levels(prompts: int, low: float = 0.0, high: float = 1.0, expected: float = EXPECTED) -> Array:
    """The grid of levels: steps of ½ %, finer at the top, where at least ``expected`` prompts lie beyond."""
    level_k = np.concatenate([np.arange(1, 200) / 200, _TAIL])
    kept = (
        (prompts * np.minimum(level_k, 1 - level_k) >= expected - 1e-9) & (low <= level_k) & (level_k <= high)
    )
    inside: Array = level_k[kept]
    return inside


def at_rank(ordered: Array, level: Array) -> Array:
    """The left-continuous quantile of sorted costs at any level; ±∞ beyond 0 and 1."""
    rank = np.ceil(level * ordered.size - 1e-9).astype(np.intp)
    inside = ordered[np.clip(rank, 1, ordered.size) - 1]
    return np.where(level > 1 + 1e-12, np.inf, np.where(rank < 1, -np.inf, inside))


@dataclass(frozen=True)
class Process:
    """F̂ of one or two models at the points of a grid each.

    Attributes:
        share: F̂ of each model at its points, shape (M, K).
        covariance: of all M·K shares, shape (M·K, M·K).
    """

    share: Array
    covariance: Array

    @property
    def error(self) -> Array:
        """Standard errors of the shares, shape (M, K)."""
        spread: Array = np.sqrt(np.maximum(np.diag(self.covariance), 0.0)).reshape(self.share.shape)
        return spread

    def draws(self, count: int, seed: int) -> Array:
        """Normal draws of F̂ − F, shape (count, M, K)."""
        # A hair of independent noise makes the covariance definite: tied points move as one.
        noise = 1e-9 * max(float(np.diag(self.covariance).max()), 1e-30)
        root = np.linalg.cholesky(self.covariance + noise * np.eye(len(self.covariance)))
        normal = np.random.default_rng(seed).standard_normal((count, len(root)))
        moved: Array = (normal @ root.T).reshape(count, *self.share.shape)
        return moved


def process(panel: Panel, costs: Sequence[Array], points: Sequence[Array]) -> Process:
    """F̂ and its covariance, robust to any dependence among the answers to a prompt.

    Args:
        costs: cost_b of each model. points: where to evaluate its F̂, sorted, as many for each model.
    """
    bins = [
        np.searchsorted(point_k, cost_b, side="left") for cost_b, point_k in zip(costs, points, strict=True)
    ]
    width = points[0].size + 1
    share = np.stack([np.cumsum(np.bincount(held, minlength=width))[:-1] / panel.answers for held in bins])
    size_b = np.repeat(panel.size_p, panel.size_p).astype(np.float64)
    sizes = np.stack([np.cumsum(np.bincount(held, size_b, minlength=width))[:-1] for held in bins])
    second = _joint(panel, bins, width)
    flat, sized = share.ravel(), sizes.ravel()
    squares = float(size_b.sum())
    second += squares * np.outer(flat, flat) - np.outer(flat, sized) - np.outer(sized, flat)
    correction = panel.prompts / max(panel.prompts - 1, 1)
    return Process(share, second * correction / panel.answers**2)


def _joint(panel: Panel, bins: Sequence[NDArray[np.intp]], width: int) -> Array:
    """Second moments of all models' counts, shape (M·K, M·K); symmetric, so half of the blocks are made."""
    size = width - 1
    second = np.empty((len(bins) * size, len(bins) * size))
    for row, one in enumerate(bins):
        for column, other in enumerate(bins[: row + 1]):
            block = _moments(panel, one, other, width)
            second[row * size : (row + 1) * size, column * size : (column + 1) * size] = block
            second[column * size : (column + 1) * size, row * size : (row + 1) * size] = block.T
    return second


def _moments(panel: Panel, one: NDArray[np.intp], other: NDArray[np.intp], width: int) -> Array:
    """Σ_p S_p(k) S'_p(l), S_p(k) the number of a prompt's answers in bins up to k; shape (K, K)."""
    place_b = np.arange(panel.answers) - np.repeat(panel.start_p, panel.size_p)
    size_b = np.repeat(panel.size_p, panel.size_p)
    counts = np.zeros(width * width)
    for lag in range(int(panel.size_p.max())):
        near = np.flatnonzero(place_b + lag < size_b)
        np.add.at(counts, one[near] * width + other[near + lag], 1.0)
        if lag:
            np.add.at(counts, one[near + lag] * width + other[near], 1.0)
    table: Array = counts.reshape(width, width).cumsum(0).cumsum(1)[:-1, :-1]
    return table


@dataclass(frozen=True)
class Curve:
    """A curve over levels with its band; an end that the data do not bound is ±∞."""

    level_k: Array
    value_k: Array
    low_k: Array
    high_k: Array

    def over(self, level_k: Array, value_k: Array) -> Curve:
        """The same band around a curve over more levels; NaN where there is none."""
        place_k = np.searchsorted(level_k, self.level_k)
        low_k, high_k = np.full(level_k.size, np.nan), np.full(level_k.size, np.nan)
        low_k[place_k], high_k[place_k] = self.low_k, self.high_k
        return Curve(level_k, value_k, low_k, high_k)


def quantile_curve(
    panel: Panel, cost_b: Array, confidence: float = 0.95, draws: int = 2000, seed: int = 0
) -> Curve:
    """F⁻¹ with a simultaneous sup-t band.

    F̂ ± c·s(t) holds F at all levels at once with the confidence asked for when c is that quantile of
    max_t |Z(t)|/s(t), Z the normal process of F̂ (Montiel Olea and Plagborg-Møller 2019); the quantiles at
    t ∓ c·s(t) then bound F⁻¹(t).
    """
    ordered, level_k = np.sort(cost_b), quantile_levels(panel.prompts)
    value_k = at_rank(ordered, level_k)
    if not level_k.size:
        return Curve(level_k, value_k, value_k, value_k)
    drawn = process(panel, [cost_b], [_points(ordered, level_k)])
    error_k = drawn.error[0]
    peak_r = np.abs(drawn.draws(draws, seed)[:, 0] * _per(error_k)).max(axis=1)
    reach_k = np.quantile(peak_r, confidence) * _spread(drawn.share[0], error_k, level_k)
    return Curve(level_k, value_k, at_rank(ordered, level_k - reach_k), at_rank(ordered, level_k + reach_k))


@dataclass(frozen=True)
class Difference:
    """q_candidate − q_baseline at some levels.

    Attributes:
        value_k: the estimate. draw_rk: draws of it, with ±∞ where a draw leaves the data.
    """

    level_k: Array
    value_k: Array
    draw_rk: Array

    def within(self, level_k: Array) -> Difference:
        """At some of its levels only."""
        kept = np.isin(self.level_k, level_k)
        return Difference(self.level_k[kept], self.value_k[kept], self.draw_rk[:, kept])

    def upper(self, confidence: float) -> Array:
        """An upper bound of each level by itself.

        It is taken two standard errors of the simulation further out, so that the draws' own chance does not
        eat into the level.
        """
        chance = 2 * np.sqrt(confidence * (1 - confidence) / len(self.draw_rk))
        share = min(1.0, confidence + float(chance))
        bound: Array = np.quantile(self.draw_rk, share, axis=0, method="higher")
        return bound

    def band(self, confidence: float) -> Curve:
        """A two-sided band for all levels at once.

        Of each draw the most extreme rank at any level is taken; a draw lies in the band unless that rank
        is among the 1 − confidence most extreme ones (a balanced band, Beran 1988).
        """
        if not self.level_k.size:
            return Curve(*[self.level_k] * 4)
        count = len(self.draw_rk)
        ordered_rk = np.sort(self.draw_rk, axis=0)
        rank_rk = np.argsort(np.argsort(self.draw_rk, axis=0, kind="stable"), axis=0, kind="stable")
        depth_r = np.minimum(rank_rk, count - 1 - rank_rk).min(axis=1)
        # `lower` rounds towards the wider band.
        depth = int(np.quantile(depth_r, 1 - confidence, method="lower"))
        return Curve(self.level_k, self.value_k, ordered_rk[depth], ordered_rk[count - 1 - depth])


def difference(
    panel: Panel,
    baseline_b: Array,
    candidate_b: Array,
    level_k: Array | None = None,
    *,
    draws: int = 2000,
    seed: int = 0,
) -> Difference:
    """The difference of two quantile curves, paired by prompt.

    Args:
        level_k: by default all of the grid beyond which a prompt lies; none of a single prompt.
    """
    if level_k is None:
        level_k = quantile_levels(panel.prompts, expected=1.0)
    if not level_k.size:
        return Difference(level_k, level_k, np.empty((0, 0)))
    ordered = [np.sort(baseline_b), np.sort(candidate_b)]
    value = [at_rank(side, level_k) for side in ordered]
    drawn = process(panel, [baseline_b, candidate_b], [_points(side, level_k) for side in ordered])
    moved_rk = drawn.draws(draws, seed)
    sides = []
    for side in (0, 1):
        error_k = drawn.error[side]
        scale_k = _spread(drawn.share[side], error_k, level_k) * _per(error_k)
        sides.append(at_rank(ordered[side], level_k + moved_rk[:, side] * scale_k))
    with np.errstate(invalid="ignore"):
        draw_rk = sides[1] - sides[0]
    # ∞ − ∞: both leave the data, so nothing is known; the worst is assumed.
    return Difference(level_k, value[1] - value[0], np.where(np.isnan(draw_rk), np.inf, draw_rk))


def _points(ordered: Array, level_k: Array) -> Array:
    """Where to look at F̂ for each level: at its quantile x or, where F̂ jumps over the level, just below x.

    Of F̂(x) and F̂(x−) the nearer is taken, but neither 0 nor 1 if that can be helped: they do not vary.
    """
    value_k = at_rank(ordered, level_k)
    upto_k = np.searchsorted(ordered, value_k, side="right") / ordered.size
    below_k = np.searchsorted(ordered, value_k, side="left") / ordered.size
    nearer_k = (level_k - below_k < upto_k - level_k) | (upto_k >= 1)
    points: Array = np.where(nearer_k & (below_k > 0), np.nextafter(value_k, -np.inf), value_k)
    return points


def _per(error_k: Array) -> Array:
    """1/s, or 0 where every prompt says the same: there F̂ does not move."""
    return np.where(error_k > 1e-9, 1 / np.maximum(error_k, 1e-9), 0.0)


def _spread(share_k: Array, error_k: Array, level_k: Array) -> Array:
    """The standard error of F̂ at level t, from that at the level of a tied cost beside it."""
    binomial_k = np.sqrt(level_k * (1 - level_k) / np.maximum(share_k * (1 - share_k), 1e-12))
    return np.where(np.abs(share_k - level_k) > 1e-3, np.minimum(error_k * binomial_k, 1.0), error_k)
