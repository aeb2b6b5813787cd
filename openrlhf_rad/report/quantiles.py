"""The numbers behind the curves: cost quantiles of both sides and their difference, with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from openrlhf_rad.runs.bootstrap import Sampling
from openrlhf_rad.runs.records import Answer
from openrlhf_rad.runs.summary import paired_order
from openrlhf_rad.statistics.inference import MINIMUM_PROMPTS

Array = NDArray[np.float64]

#: Where curves are evaluated: the middles of 200 bins.
LEVELS = (np.arange(200) + 0.5) / 200
#: Where values are shown in figures, as tables and when pointed at.
NAMED_LEVELS = (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99)
# Enough for the ends of a 95 % interval that is looked at, not quoted to three digits.
_RESAMPLES = 400


@dataclass(frozen=True)
class Band:
    """A curve over levels with the ends of its pointwise 95 % intervals; None with too few prompts."""

    value_n: Array
    low_n: Array | None = None
    high_n: Array | None = None

    @property
    def parts(self) -> list[Array]:
        """All its lines, for the limits of an axis."""
        return [line for line in (self.value_n, self.low_n, self.high_n) if line is not None]


@dataclass(frozen=True)
class Curves:
    """Quantiles of before, of after, and after − before by level, from the same draws of prompts."""

    level_n: Array
    before: Band
    after: Band
    difference: Band


def curves(
    before: Sequence[Answer], after: Sequence[Answer], level_n: ArrayLike = LEVELS, *, seed: int = 0
) -> Curves:
    """Quantile curves of answers to the same prompts, paired by prompt.

    Raises:
        RadError: the prompts differ, or there are none.
    """
    level = np.asarray(level_n, dtype=np.float64)
    orders = paired_order(before, after)
    cost_b = [
        np.array([rows[index]["cost"] for index in order])
        for rows, order in zip((before, after), orders, strict=True)
    ]
    clusters = [before[index]["prompt"] for index in orders[0]]
    found: list[list[Array]] = [[], []]
    for draw in Sampling(clusters, _RESAMPLES, seed).draws():
        for side, cost in zip(found, cost_b, strict=True):
            ordered = draw.ordered(cost)
            side.append(np.stack([draw.quantile(ordered, alpha) for alpha in level]))
    old, new = (np.concatenate(side, axis=1) for side in found)
    certain = len(set(clusters)) >= MINIMUM_PROMPTS
    return Curves(level, *(_band(draw_n, certain) for draw_n in (old, new, new - old)))


def quantiles(cost_b: ArrayLike, level_n: ArrayLike = LEVELS) -> Array:
    """Left-continuous quantiles of a sample, shape (n,)."""
    level = np.asarray(level_n, dtype=np.float64)
    return np.asarray(np.quantile(np.asarray(cost_b, dtype=np.float64), level, method="inverted_cdf"))


def _band(draw_n: Array, certain: bool) -> Band:
    """Draw 0, the data themselves, with the interval over the other draws; draw_n has shape (n, 1 + R)."""
    if not certain:
        return Band(draw_n[:, 0])
    low_n, high_n = np.quantile(draw_n[:, 1:], [0.025, 0.975], axis=1)
    return Band(draw_n[:, 0], low_n, high_n)
