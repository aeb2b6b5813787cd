"""Both violations L_w of dominance with intervals that hold where the two curves touch.

L_w(X, Y) = ∫ w (F_Y⁻¹ − F_X⁻¹)₊ dt is not differentiable where the curves meet, and there the plain
bootstrap fails. Fang and Santos (2019) estimate the directional derivative instead: on levels where the
curves are clearly apart the difference moves L_w as it is, where they may touch only its positive part, and
where the sign is the other way not at all. That gives the lower end. For the upper end it would be too short,
for where curves are only close it counts on their meeting; there the gaps of all curves that the draws make
plausible are taken, d̂ − noise, whose convexity only moves it up.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from openrlhf_rad.evaluation.bands import Difference
from openrlhf_rad.evaluation.interval import Estimate, Inference
from openrlhf_rad.method.spectrum import Spectrum

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Gaps:
    """below = L_w(blue, red), above = L_w(red, blue); below − above = ρ_w(red) − ρ_w(blue) (Eq. (16))."""

    below: Estimate
    above: Estimate


def gaps(
    spectrum: Spectrum, costs: tuple[Array, Array], moved: Difference, less: Inference, confidence: float
) -> Gaps:
    """Exact gaps of the sorted costs, with intervals from draws of the difference of the quantile curves.

    Args:
        costs: of red and blue, shape (B,) each.
        less: ρ_w(red) − ρ_w(blue), whose interval knows of tails that the draws, bound to the data, do not:
            by Eq. (16) no gap is smaller than that difference in its direction.
    """
    mass = spectrum.weights(costs[0].size) / costs[0].size
    rise = np.sort(costs[1]) - np.sort(costs[0])
    below = float(mass @ np.maximum(-rise, 0.0))
    above = float(mass @ np.maximum(rise, 0.0))
    # Their far ends rest on the interval of the risk: where there is none for want of answers, nor here.
    if not less.sufficient or moved.level_k.size < 2:
        return Gaps(Estimate(below), Estimate(above))
    found = []
    tail = (1 - confidence) / 2
    for value, sign, least in ((below, -1.0, less.upper(tail)), (above, 1.0, -less.lower(tail))):
        low, high = _interval(value, spectrum, moved, sign=sign, prompts=less.prompts, tail=tail)
        found.append(Estimate(value, low, max(high, least)))
    return Gaps(*found)


def _interval(
    value: float, spectrum: Spectrum, moved: Difference, *, sign: float, prompts: int, tail: float
) -> tuple[float, float]:
    finite_rk = np.where(np.isfinite(moved.draw_rk), moved.draw_rk, np.nan)
    draw_rk = np.clip(moved.draw_rk, np.nanmin(finite_rk, axis=0), np.nanmax(finite_rk, axis=0))
    noise_rk = sign * (draw_rk - moved.value_k)
    apart_k = sign * moved.value_k
    # κ of Fang and Santos: grows without bound, slower than √n.
    touch_k = np.abs(apart_k) <= np.sqrt(np.log(prompts)) * noise_rk.std(axis=0)
    slope_rk = np.where(touch_k, np.maximum(noise_rk, 0.0), np.where(apart_k > 0, noise_rk, 0.0))
    edge = np.concatenate([[0.0], (moved.level_k[1:] + moved.level_k[:-1]) / 2, [1.0]])
    mass_k = np.diff(spectrum.cumulative(edge))
    plausible_r = np.maximum(apart_k - noise_rk, 0.0) @ mass_k
    grid = float(np.maximum(apart_k, 0.0) @ mass_k)
    # Beyond the grid nothing is sure, so only the lesser of the exact gap and the grid's counts there.
    low = min(value, grid) - float(np.quantile(slope_rk @ mass_k, 1 - tail))
    high = value - grid + float(np.quantile(plausible_r, 1 - tail))
    return min(max(0.0, low), value), max(high, value)
