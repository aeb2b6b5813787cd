"""Paired bootstrap over prompts: the same prompts are drawn again for both sides.

scipy.stats.bootstrap draws single observations. Several answers to one prompt are not independent, so
whole prompts are drawn here; and one set of draws serves every statistic of both sides, so that
identities between statistics (Eq. (16)) hold in every draw. Intervals are percentile intervals: BCa
needs a jackknife, which is not consistent for quantiles and is undefined when all answers cost the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from openrlhf_rad.method.spectrum import Spectrum
from openrlhf_rad.statistics.inference import MINIMUM_PROMPTS, Estimate

Array = NDArray[np.float64]

# Elements of one block of draws: bounds the memory to some 100 MB for any number of answers.
_BLOCK = 1_000_000


class Draws:
    """Some bootstrap draws of one side, each sorted, laid end to end.

    Attributes:
        count_r: answers in each draw, shape (R,); differs when prompts have different numbers of answers.
        start_r: where each draw begins, shape (R,).
        level: i/N_r, the upper end of each answer's probability bin, shape (Σ count_r,).
    """

    def __init__(self, cluster_b: NDArray[np.intp], multiplicity: NDArray[np.intp]) -> None:
        self._cluster_b, self._multiplicity = cluster_b, multiplicity
        self.count_r = multiplicity @ np.bincount(cluster_b, minlength=multiplicity.shape[1])
        self.start_r = np.concatenate([[0], np.cumsum(self.count_r)[:-1]])
        self._rank = np.arange(self.count_r.sum()) - np.repeat(self.start_r, self.count_r)
        self._size = np.repeat(self.count_r, self.count_r)
        self.level = (self._rank + 1) / self._size
        self._below = self._rank / self._size

    def ordered(self, value_b: ArrayLike) -> Array:
        """The values of every draw, sorted upwards within it, shape (Σ count_r,)."""
        value = np.asarray(value_b, dtype=np.float64)
        order = np.argsort(value, kind="stable")
        repeats = self._multiplicity[:, self._cluster_b[order]]
        return np.repeat(np.tile(value[order], len(repeats)), repeats.ravel())

    def bin_mass(self, spectrum: Spectrum) -> Array:
        """G(i/N) − G((i−1)/N), the weight of each answer in ρ_w, shape (Σ count_r,)."""
        mass: Array = np.maximum(spectrum.cumulative(self.level) - spectrum.cumulative(self._below), 0.0)
        return mass

    def gap_mass(self, spectrum: Spectrum) -> Array:
        """G(i/(N − 1)) − G((i − 1)/(N − 1)), the weight of the gap above answer i, 0 above the last."""
        last = np.maximum(self._size - 1, 1)
        ends = [spectrum.cumulative(np.minimum((self._rank + up) / last, 1.0)) for up in (0, 1)]
        mass: Array = np.maximum(ends[1] - ends[0], 0.0)
        return mass

    def mean(self, ordered: Array) -> Array:
        """Shape (R,)."""
        return self.total(ordered) / self.count_r

    def quantile(self, ordered: Array, alpha: float) -> Array:
        """Left-continuous F⁻¹(α) of each draw, shape (R,)."""
        # The tolerance keeps ⌈0.9 · 10⌉ at 9 whatever the last bit of 0.9 · 10 is.
        rank_r = np.ceil(alpha * self.count_r - 1e-9).astype(np.intp)
        quantile: Array = ordered[self.start_r + np.maximum(rank_r, 1) - 1]
        return quantile

    def total(self, values: Array) -> Array:
        """The sum over each draw, shape (R,)."""
        total: Array = np.add.reduceat(values, self.start_r)
        return total


@dataclass(frozen=True)
class Sampling:
    """How to draw: clusters[i] is the prompt of answer i, shape (B,); the same seed gives the same draws."""

    clusters: Sequence[str]
    resamples: int = 2000
    seed: int = 0

    def estimate(self, draw_r: Array) -> Estimate:
        """Value (draw 0, the data themselves) and 95 % percentile interval of draws, shape (1 + R,)."""
        if len(set(self.clusters)) < MINIMUM_PROMPTS:
            return Estimate(float(draw_r[0]))
        low, high = np.quantile(draw_r[1:], [0.025, 0.975])
        return Estimate(float(draw_r[0]), float(low), float(high))

    def draws(self) -> Iterator[Draws]:
        """All draws in blocks; the first draw of the first block is the data themselves."""
        index: dict[str, int] = {}
        cluster_b = np.array([index.setdefault(name, len(index)) for name in self.clusters], dtype=np.intp)
        generator = np.random.default_rng(self.seed)
        count = len(index)
        block = max(1, _BLOCK // len(cluster_b))
        for begin in range(0, self.resamples, block):
            rows = min(block, self.resamples - begin)
            drawn = generator.multinomial(count, np.full(count, 1 / count), size=rows)
            if begin == 0:
                drawn = np.concatenate([np.ones((1, count), dtype=drawn.dtype), drawn])
            yield Draws(cluster_b, drawn)
