"""First-order stochastic dominance of paired, clustered samples: tests, and both violations L_w.

Two nulls, for two questions:

* "the candidate is nowhere more costly" is the null: a small p is evidence **against** dominance. Statistic
  of McFadden (1989) and Barrett and Donald (2003), sup_x √P (F_b(x) − F_c(x))₊ of baseline and candidate,
  with the law of the process simulated at F_b = F_c, the least favourable case (their method of multipliers);
  the covariance is that of paired clusters, since the two samples answer the same prompts (Linton, Maasoumi
  and Whang 2005 treat dependent samples by subsampling; the simulated process uses all of the data).
* "the candidate is somewhere more costly" is the null: a small p is evidence **for** dominance, on a range
  of costs, since in the extreme tails no sample can tell (Davidson and Duclos 2013). Each point of the range
  must reject by itself, so the largest p of all points is a p-value: an intersection–union test.

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

from openrlhf_rad.method.spectrum import Spectrum
from openrlhf_rad.statistics.answers import Panel
from openrlhf_rad.statistics.curves import Difference, Process, at_rank, process, quantile_levels
from openrlhf_rad.statistics.inference import Estimate, Inference

Array = NDArray[np.float64]


@dataclass(frozen=True)
class DominanceTest:
    """A test: its name, what a small p speaks against, the statistic, and the levels it looks at."""

    name: str
    null: str
    statistic: float
    p: float
    levels: tuple[float, float] | None


def barrett_donald(
    panel: Panel, better_b: Array, worse_b: Array, *, words: tuple[str, str], draws: int, seed: int
) -> DominanceTest:
    """Null: the costs ``better_b`` are nowhere above ``worse_b``, F_better ≥ F_worse everywhere."""
    point_k = np.unique(at_rank(np.sort(np.concatenate([better_b, worse_b])), np.arange(1, 400) / 400))
    excess_k, covariance = _excess(process(panel, [worse_b, better_b], [point_k, point_k]))
    root = np.sqrt(panel.prompts)
    statistic = float(root * max(excess_k.max(), 0.0))
    peak_r = root * np.maximum(Process(excess_k[None], covariance).draws(draws, seed)[:, 0].max(axis=1), 0.0)
    p = (1 + int((peak_r >= statistic - 1e-12).sum())) / (1 + draws)
    null = f"no quantile of {words[0]} lies above that of {words[1]}"
    return DominanceTest("Barrett–Donald, paired clusters", null, statistic, p, None)


def davidson_duclos(
    panel: Panel, better_b: Array, worse_b: Array, *, words: tuple[str, str], levels: tuple[float, float]
) -> DominanceTest:
    """Null: F_better ≤ F_worse somewhere between two levels of the pooled costs."""
    from scipy.special import stdtr  # noqa: PLC0415 - see Spectrum

    level_k = quantile_levels(panel.prompts, *levels)
    null = f"{words[0]} does not dominate {words[1]} on the range"
    if not level_k.size:
        return DominanceTest("Davidson–Duclos, paired clusters", null, 0.0, 1.0, levels)
    point_k = np.unique(at_rank(np.sort(np.concatenate([better_b, worse_b])), level_k))
    excess_k, covariance = _excess(process(panel, [better_b, worse_b], [point_k, point_k]))
    error_k = np.sqrt(np.maximum(np.diag(covariance), 0.0))
    # Where no prompt tells the two apart there is no evidence: t = 0.
    t_k = np.where(error_k > 1e-15, excess_k / np.maximum(error_k, 1e-15), 0.0)
    statistic = float(t_k.min())
    shown = float(level_k[0]), float(level_k[-1])
    p = float(stdtr(panel.prompts - 1, -statistic))
    return DominanceTest("Davidson–Duclos, paired clusters", null, statistic, p, shown)


def _excess(process: Process) -> tuple[Array, Array]:
    """F_first − F_second and its covariance."""
    size = process.share.shape[1]
    held = process.covariance
    covariance = held[:size, :size] + held[size:, size:] - held[:size, size:] - held[size:, :size]
    return process.share[0] - process.share[1], covariance


@dataclass(frozen=True)
class Gaps:
    """How far the candidate's quantiles lie below the baseline's, and how far above.

    Their difference is the fall of the risk (Eq. (16)).
    """

    below: Estimate
    above: Estimate


def gaps(
    spectrum: Spectrum, costs: tuple[Array, Array], moved: Difference, less: Inference, confidence: float
) -> Gaps:
    """Exact gaps of the sorted costs, with intervals from draws of the difference of the quantile curves.

    Args:
        costs: of baseline and candidate, shape (B,) each.
        less: the fall of the risk, whose interval knows of tails that the draws, bound to the data, do not:
            by Eq. (16) no gap is smaller than that difference in its direction.
    """
    mass = spectrum.weights(costs[0].size) / costs[0].size
    rise = np.sort(costs[1]) - np.sort(costs[0])
    below = float(mass @ np.maximum(-rise, 0.0))
    above = float(mass @ np.maximum(rise, 0.0))
    # Their far ends rest on the interval of the risk: where there is none for want of answers, nor here.
    if not less.sufficient or moved.level_k.size < 2:
        return Gaps(Estimate(below), Estimate(above))
    estimates = []
    tail = (1 - confidence) / 2
    for value, sign, least in ((below, -1.0, less.upper(tail)), (above, 1.0, -less.lower(tail))):
        low, high = _interval(value, spectrum, moved, sign=sign, prompts=less.prompts, tail=tail)
        estimates.append(Estimate(value, low, max(high, least)))
    return Gaps(*estimates)


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
