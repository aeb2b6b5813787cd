"""Heavy tails: where a single gap between costs can outweigh a rollout, gaps are winsorised.

Of costs with heavy tails the exact gradient is nearly all noise; with infinite variance it is nothing else.
The score then keeps gaps as they are up to a level beyond which the reference's costs lie further out than
those of a normal law would, but for a quarter of the spectrum's weight at least, and so far beyond it as a
quarter of a robust standard deviation; what is left of all gaps there may reach as far again. Every gap keeps
a part, so that no cost is so great that a greater one would not matter. All are stretched by what scores have
lost by it on the reference, so that λ keeps its price. Costs as light as normal ones are left alone, and so
are tied ones, such as flags and ratings: there one gap stands for many answers.

Both quarters were chosen on other laws than the table of benchmarks/estimators.py has (``--constants``): the
least biased with which scores have as much signal along the true gradient as those of `tilted`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from openrlhf_rad.method.scores import leave_one_out
from openrlhf_rad.method.settings import ConstraintSettings
from openrlhf_rad.method.spectrum import Spectrum

Array = NDArray[np.float64]

# The quartiles of a normal law lie so far apart, in standard deviations.
_QUARTILES = 1.349
# Heavy is further from the median than a normal law's quantile by a quarter, in robust standard deviations,
# at a level with ten costs beyond it: of 256 normal costs one sample in 25 looks so, of 1,024 none.
_HEAVY, _FROM, _BEYOND = 1.25, 0.75, 10
_KEPT, _REACH = 0.25, 0.25


@dataclass(frozen=True)
class Tails:
    """Which gaps are winsorised.

    Attributes:
        low, high: levels beyond which they are; at 0 and 1 none is.
        reach: how far beyond its level gaps count as they are, and how far what is left of all gaps there may
            reach together; in the unit of the particles.
        stretch: of all that counts.
    """

    low: float = 0.0
    high: float = 1.0
    reach: float = math.inf
    stretch: float = 1.0

    def winsorised(self, change_g: Array, particle_n: Array) -> Array:
        """The part of each change that counts; of shape (…, n − 1) as they are, of particles (…, n)."""
        n = particle_n.shape[-1]
        if n < 2 or (self.low <= 0 and self.high >= 1):
            return change_g
        bottom, top = particle_n[..., :1], particle_n[..., -1:]
        if self.low > 0:
            bottom = particle_n[..., [min(math.ceil(self.low * n), n - 1)]] - self.reach
        if self.high < 1:
            top = particle_n[..., [max(math.floor(self.high * n) - 1, 0)]] + self.reach
        gap_g = np.diff(particle_n)
        inside_g = np.diff(np.clip(particle_n, bottom, top))
        share_g = np.divide(inside_g, gap_g, out=np.ones_like(gap_g), where=gap_g > 0)
        beyond = np.where(particle_n[..., 1:] > top, 1 - self.high, self.low)
        with np.errstate(divide="ignore"):
            most_g = self.reach / (n * beyond)
        counted_g = share_g * change_g + np.minimum((1 - share_g) * change_g, most_g)
        return np.asarray(self.stretch * counted_g)


def heavy_tails(settings: ConstraintSettings, spectrum: Spectrum, cost_r: Array) -> Tails:
    """The tails of a reference sample in any order, as seen under a spectrum; in the unit of the costs.

    Those of `expected` are never winsorised: it is Safe RLHF as others have it.
    """
    if settings.tails == "whole" or settings.form == "expected":
        return Tails()
    from scipy.special import ndtri  # noqa: PLC0415 - scipy would double the start-up time of the commands

    ordered, size = np.sort(cost_r), cost_r.size
    lower, median, upper = np.quantile(ordered, [0.25, 0.5, 0.75])
    deviation = float(upper - lower) / _QUARTILES
    if deviation <= 0:
        return Tails()  # most costs are one and the same
    level_r = (np.arange(size) + 0.5) / size
    out_r = (ordered - median) / deviation - _HEAVY * ndtri(level_r)
    seen = 1 - _BEYOND / size
    above = level_r[(level_r > _FROM) & (level_r <= seen) & (out_r > 0)]
    below = level_r[(level_r < 1 - _FROM) & (level_r >= 1 - seen) & (out_r < 0)]
    grid = np.linspace(0, 1, 10_001)
    least, most = grid[np.searchsorted(spectrum.cumulative(grid), [_KEPT, 1 - _KEPT])]
    high = max(float(above[0]), float(least)) if above.size else 1.0
    low = min(float(below[-1]), float(most)) if below.size else 0.0
    high = 1.0 if _tied(ordered[level_r > high]) else high
    low = 0.0 if _tied(ordered[level_r < low]) else low
    if low <= 0 and high >= 1:
        return Tails()
    tails, gap_r = Tails(low, high, _REACH * deviation), np.diff(ordered)
    spread, left = (
        float(np.abs(score_r - score_r.mean()).mean())
        for score_r in (
            leave_one_out(gap_r, spectrum),
            leave_one_out(tails.winsorised(gap_r, ordered), spectrum),
        )
    )
    return replace(tails, stretch=spread / left) if left > 0 else tails


def _tied(cost_r: Array) -> bool:
    return np.unique(cost_r).size < max(cost_r.size / 2, 1)
