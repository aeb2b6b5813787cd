"""Simultaneous bands around quantile curves, and bounds on the difference of two curves."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from openrlhf_rad.evaluation.panel import Panel
from openrlhf_rad.evaluation.process import at_rank, process, quantile_levels

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Curve:
    """A curve over levels with its band; an end that the data do not bound is ±∞."""

    level_k: Array
    value_k: Array
    low_k: Array
    high_k: Array


def quantile_curve(panel: Panel, cost_b: Array, confidence: float, draws: int, seed: int) -> Curve:
    """F⁻¹ with a simultaneous sup-t band.

    F̂ ± c·s(t) holds F at all levels at once with the confidence asked for when c is that quantile of
    max_t |Z(t)|/s(t), Z the normal process of F̂ (Montiel Olea and Plagborg-Møller 2019); the quantiles at
    t ∓ c·s(t) then bound F⁻¹(t).
    """
    ordered, level_k = np.sort(cost_b), quantile_levels(panel.prompts)
    value_k = at_rank(ordered, level_k)
    if not level_k.size:
        return Curve(level_k, value_k, value_k, value_k)
    found = process(panel, [cost_b], [_points(ordered, level_k)])
    error_k = found.error[0]
    peak_r = np.abs(found.draws(draws, seed)[:, 0] * _per(error_k)).max(axis=1)
    reach_k = np.quantile(peak_r, confidence) * _spread(found.share[0], error_k, level_k)
    return Curve(level_k, value_k, at_rank(ordered, level_k - reach_k), at_rank(ordered, level_k + reach_k))


@dataclass(frozen=True)
class Difference:
    """q_blue − q_red at some levels.

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
        count = len(self.draw_rk)
        ordered_rk = np.sort(self.draw_rk, axis=0)
        rank_rk = np.argsort(np.argsort(self.draw_rk, axis=0, kind="stable"), axis=0, kind="stable")
        depth_r = np.minimum(rank_rk, count - 1 - rank_rk).min(axis=1)
        # `lower` rounds towards the wider band.
        depth = int(np.quantile(depth_r, 1 - confidence, method="lower"))
        return Curve(self.level_k, self.value_k, ordered_rk[depth], ordered_rk[count - 1 - depth])


def difference(
    panel: Panel, red_b: Array, blue_b: Array, level_k: Array, *, draws: int, seed: int
) -> Difference:
    """The difference of two quantile curves, paired by prompt."""
    ordered = [np.sort(red_b), np.sort(blue_b)]
    value = [at_rank(side, level_k) for side in ordered]
    found = process(panel, [red_b, blue_b], [_points(side, level_k) for side in ordered])
    moved_rk = found.draws(draws, seed)
    sides = []
    for side in (0, 1):
        error_k = found.error[side]
        scale_k = _spread(found.share[side], error_k, level_k) * _per(error_k)
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
