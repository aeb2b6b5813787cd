"""Particles: equally probable quantiles that stand for a cost distribution (the paper, Eqs. (12)–(13)).

And what a spectrum cannot see of a sample: whether it is saturated.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from openrlhf_rad.errors import CostError
from openrlhf_rad.method.spectrum import Spectrum

Array = NDArray[np.float64]


def quantile_levels(n: int) -> Array:
    """level_n, t_i = (i − ½)/n for i = 1…n (Eq. (12)). Shape (n,)."""
    if n < 1:
        raise ValueError(f"n is {n}; at least one particle is needed")
    return (np.arange(n) + 0.5) / n


def as_costs(sample: ArrayLike) -> Array:
    """The sample as a flat float64 array. Raises CostError when it is empty or not finite."""
    cost_b = np.asarray(sample, dtype=np.float64).reshape(-1)
    if cost_b.size == 0:
        raise CostError(
            "the batch holds 0 costs; at least one is needed; check that the cost source answered"
        )
    bad = np.flatnonzero(~np.isfinite(cost_b))
    if bad.size:
        raise CostError(
            f"{bad.size} of {cost_b.size} costs are not finite (number {bad[0]} is {cost_b[bad[0]]});"
            " every cost must be a finite number; check the cost source for overflow or empty answers"
        )
    return cost_b


def empirical_quantiles(sample: ArrayLike, n: int, *, repeats: bool = False) -> Array:
    """particle_n, q_i = F⁻¹(t_i) with the left-continuous empirical quantile (Eq. (12)).

    Args:
        sample: shape (B,), in the cost's own units, any order.
        n: number of particles. Of a policy at most B: more would only repeat samples and fake precision.
        repeats: n may be greater; right for what the particles are compared with, such as the reference.

    Returns:
        Shape (n,), sorted upwards, in the cost's own units. For n = B it is the sorted sample.

    Raises:
        CostError: fewer samples than particles, or a sample that is not finite.
    """
    cost_b = as_costs(sample)
    if n < 1:
        raise ValueError(f"n is {n}; at least one particle is needed")
    if n > cost_b.size and not repeats:
        raise CostError(
            f"{cost_b.size} costs cannot give {n} particles; every particle needs at least one sample;"
            " lower transport.particles, set it to auto, or raise the batch size"
        )
    # ⌈t_i B⌉ in whole numbers: in floats t_i·B can land just above an integer and pick the next sample.
    rank_n = -((-(2 * np.arange(n) + 1) * cost_b.size) // (2 * n))
    return np.asarray(np.sort(cost_b)[rank_n - 1])


@dataclass(frozen=True)
class Saturation:
    """What is known of samples whose every weighed cost is the same.

    Attributes:
        cost: the largest that occurs. share: of answers at it, the least of all samples.
    """

    cost: float
    share: float

    @property
    def advice(self) -> str:
        """What measures the difference instead."""
        level = math.floor(100 * (1 - self.share) + 1e-9) / 100
        below = f", or cvar with α below {level:g}" if level > 0 else ""
        return f"for a flag use the mean, the share of harmful answers (the profile flags){below}"


def saturation(spectrum: Spectrum, *samples: ArrayLike) -> Saturation | None:
    """Whether all samples sit at the largest cost of any wherever the spectrum weighs; None if one does not.

    CVaR_α of a cost that is 0 or 1 is 1 as soon as a share of 1 − α is harmful, whether that share is twice
    as large or not: no two samples that both sit there can be told apart. Costs that are all the same are
    no matter of the spectrum: None.

    Args:
        samples: costs in any order.
    """
    return ceiling(spectrum.lowest_level(), *samples)


def ceiling(level: float, *samples: ArrayLike) -> Saturation | None:
    """Whether every quantile of all samples above a level is the largest cost of any."""
    cost = [np.asarray(sample, dtype=np.float64) for sample in samples]
    largest = max(float(cost_b.max()) for cost_b in cost)
    if largest <= min(float(cost_b.min()) for cost_b in cost):
        return None
    share = min(float(np.mean(cost_b == largest)) for cost_b in cost)
    # Of n answers those after the first ⌊level · n⌋ are weighed.
    met = all(np.sum(cost_b == largest) >= cost_b.size - math.floor(level * cost_b.size) for cost_b in cost)
    return Saturation(largest, share) if met else None
