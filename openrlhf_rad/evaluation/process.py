"""The joint law of two models' empirical distribution functions at some levels, with prompts as clusters.

Let F̂ be the share of answers that cost at most x. Over prompts, F̂_red and F̂_blue at a grid of points are
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

from openrlhf_rad.evaluation.panel import Panel

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
