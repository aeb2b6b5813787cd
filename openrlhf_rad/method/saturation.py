"""A risk that is saturated: every cost that its spectrum weighs is the largest one that occurs.

CVaR_α of a cost that is 0 or 1 is 1 as soon as a share of 1 − α is harmful, whether that share is twice as
large or not. Two models that both sit there have the same risk, and no sample of them tells them apart.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike

from openrlhf_rad.method.spectrum import Spectrum

#: The weight below a level that counts as none, as in the far tail of a smoothed VaR.
_NONE = 1e-9


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

    Costs that are all the same are no matter of the spectrum: None.

    Args:
        samples: costs in any order.
    """
    return ceiling(lowest_level(spectrum), *samples)


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


@lru_cache(maxsize=64)
def lowest_level(spectrum: Spectrum) -> float:
    """The level below which a spectrum puts no weight: α of CVaR_α, 0 of the mean."""
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if float(spectrum.cumulative(middle)) <= _NONE else (low, middle)
    return low
