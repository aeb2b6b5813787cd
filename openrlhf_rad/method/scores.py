"""Scores: what each response gets for its cost in the policy gradient (the paper, Eqs. (14), (38)).

A constraint is a functional V[F] = ∫ φ(t) ℓ_t(F⁻¹(t)) dt of the policy's costs, ℓ_t non-decreasing: the cost
itself, or how far it lies above or below the reference. Between the sorted particles q_1 ≤ … ≤ q_n it changes
by h_i = ℓ(q_{i+1}) − ℓ(q_i), so that gaps, not particles, carry the gradient; ties carry none.

**Tails.** Where a single gap between costs can outweigh a rollout, gaps are winsorised. Of costs with heavy
tails the exact gradient is nearly all noise; with infinite variance it is nothing else. The score then keeps
gaps as they are up to a level beyond which the reference's costs lie further out than those of a normal law
would, but for a quarter of the spectrum's weight at least, and so far beyond it as a quarter of a robust
standard deviation; what is left of all gaps there may reach as far again. Every gap keeps a part, so that no
cost is so great that a greater one would not matter. All are stretched by what scores have lost by it on the
reference, so that λ keeps its price. Costs as light as normal ones are left alone, and so are tied ones, such
as flags and ratings: there one gap stands for many answers. Both quarters were chosen on other laws than the
table of benchmarks/estimators.py has (``--constants``): the least biased with which scores have as much
signal along the true gradient as those of `tilted`.

**Baseline.** A score that leaves one out has the batch for its baseline. Where prompts differ, the other
answers to the same prompt tell more; where they do not, they only add their noise: with two answers RLOO has
the variance 2(1 − ρ), ρ the correlation within prompts, the batch has 1. Taking off the share of the
partners' mean that best predicts an answer, ρ(K − 1)/(1 + (K − 2)ρ) of it for K answers, gives 1 − ρ² at K =
2, never more than either. The expectation stays exact: the partners are scored in the batch without the
answer, and ρ is from rollouts before, so that neither has seen it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from openrlhf_rad.method.constraint import FORMS, ConstraintResult
from openrlhf_rad.method.settings import ConstraintSettings, Gradient
from openrlhf_rad.method.spectrum import SampledSpectrum, Spectrum
from openrlhf_rad.method.state import Stateful

Array = NDArray[np.float64]
Places = NDArray[np.int64]

# The quartiles of a normal law lie so far apart, in standard deviations.
_QUARTILES = 1.349
# Heavy is further from the median than a normal law's quantile by a quarter, in robust standard deviations,
# at a level with ten costs beyond it: of 256 normal costs one sample in 25 looks so, of 1,024 none.
_HEAVY, _FROM, _BEYOND = 1.25, 0.75, 10
_KEPT, _REACH = 0.25, 0.25
# A rollout fades by half in about seven; ρ = 0 counts as so many pairs of answers, until more have been seen.
_DECAY, _PRIOR_PAIRS = 0.9, 32.0


def score(
    cost_b: Array,
    particle_n: Array,
    result: ConstraintResult,
    sampled: SampledSpectrum,
    *,
    gradient: Gradient = "leave_one_out",
) -> Array:
    """score_b, s(c): the lower the cost, the higher the score; E[∇log π · s] is −∇V.

    - ``leave_one_out``: s_j = −n (V_n − V_{n−1}^{(−j)}), the j-th smallest sample left out. Of a batch with
      one particle a sample its expectation is exactly −∇E[V_n] (with the exact indicator), and V_{n−1} is
      its own baseline. See :func:`leave_one_out`.
    - ``spacing``: s(c) = Σ_i u_i h_i 1{c ≤ q_i}, u_i the mean of φ over the bin ((i − 1)/(n − 1), i/(n − 1)]
      that holds F = i/n: the same differences between samples, (n − 1)/n as large, without a baseline.
    - ``tilted``: s(c) = Σ_i w_i a_i 1{c ≤ q_i}/n, the paper's (Eq. (38)): the density of ∇q = −∇F/f
      (Eq. (30)) dropped, which sees ranks only and points away from the true gradient where costs are skewed.

    Args:
        cost_b: costs of the sampled responses, shape (B,).
        particle_n: the policy's quantiles, sorted upwards, shape (n,).
        result: of the constraint on these particles.
        sampled: φ on n samples; that of the mean for `expected`.

    Returns:
        Shape (B,); in the unit of the costs, for `tilted` without unit.
    """
    n = particle_n.size
    if gradient == "tilted":
        score_n = from_above(result.weight_n * result.activation_n / n)
    elif gradient == "leave_one_out":
        score_n = leave_one_out(result.change_g, sampled)
    elif gradient == "spacing":
        score_n = (1 - 1 / n) * from_above(np.add(*gap_terms(result.change_g, sampled)))
    else:
        raise ValueError(f"gradient is {gradient!r}; it must be 'leave_one_out', 'spacing' or 'tilted'")
    return placed(cost_b, particle_n, score_n)


def placed(cost_b: Array, particle_n: Array, score_n: Array) -> Array:
    """The score of each cost: that of the first particle with q_i ≥ c, where 1{c ≤ q_i} switches on."""
    place_b = np.searchsorted(particle_n, cost_b, side="left")
    return np.asarray(score_n[np.minimum(place_b, score_n.size - 1)])


def leave_one_out(change_g: Array, sampled: SampledSpectrum) -> Array:
    """−n (V_n − V_{n−1}^{(−j)}) of n sorted samples from the n − 1 changes between them. Shape (…, n).

    The gap above sample i lies at F = i/n; without sample j at i/(n − 1) if i < j, else at (i − 1)/(n − 1).
    With G = ∫φ, summed by parts, the brackets being those of ``sampled``:
    s_j = Σ_{i ≥ j} n [G(i/n) − G((i − 1)/(n − 1))] h_i − Σ_{i < j} n [G(i/(n − 1)) − G(i/n)] h_i.
    For the mean it is RLOO over the batch; see Tamar et al. 2015 for CVaR, up to O(1/n).
    """
    above_g, below_g = gap_terms(change_g, sampled)
    taken_n = np.zeros((*change_g.shape[:-1], change_g.shape[-1] + 1))
    np.cumsum(below_g, axis=-1, out=taken_n[..., 1:])
    return np.asarray(from_above(above_g) - taken_n)


def gap_terms(change_g: Array, sampled: SampledSpectrum) -> tuple[Array, Array]:
    """What each gap gives to the samples below it, and takes from those above it: weight times change.

    In sum n/(n − 1) times the change times the mean of φ over the gap's bin.
    """
    return sampled.above_g * change_g, sampled.below_g * change_g


def from_above(term_i: Array) -> Array:
    """Σ of the terms from each on, and 0 after the last; one longer than the terms, along the last axis."""
    sum_i = np.zeros((*term_i.shape[:-1], term_i.shape[-1] + 1))
    sum_i[..., :-1] = np.cumsum(term_i[..., ::-1], axis=-1)[..., ::-1]
    return sum_i


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
    if settings.tails == "whole" or not FORMS[settings.form].weighted:
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
    if not (above.size or below.size):
        return Tails()
    grid = np.linspace(0, 1, 10_001)
    least, most = grid[np.searchsorted(spectrum.cumulative(grid), [_KEPT, 1 - _KEPT])]
    high = max(float(above[0]), float(least)) if above.size else 1.0
    low = min(float(below[-1]), float(most)) if below.size else 0.0
    high = 1.0 if _tied(ordered[level_r > high]) else high
    low = 0.0 if _tied(ordered[level_r < low]) else low
    if low <= 0 and high >= 1:
        return Tails()
    tails, gap_r, sampled = Tails(low, high, _REACH * deviation), np.diff(ordered), spectrum.sampled(size)
    spread, left = (
        float(np.abs(score_r - score_r.mean()).mean())
        for score_r in (
            leave_one_out(gap_r, sampled),
            leave_one_out(tails.winsorised(gap_r, ordered), sampled),
        )
    )
    return replace(tails, stretch=spread / left) if left > 0 else tails


def _tied(cost_r: Array) -> bool:
    return np.unique(cost_r).size < max(cost_r.size / 2, 1)


class PartnerBaseline(Stateful):
    """The share of the partners' mean, with the correlation within prompts of the rollouts so far.

    Attributes:
        products, squares, pairs: fading sums over pairs of answers to one prompt: of their scores' products,
            of the mean of their squares, and of ones.
    """

    kept = ("products", "squares", "pairs")

    def __init__(self) -> None:
        self.products = self.squares = self.pairs = 0.0

    @property
    def correlation(self) -> float:
        """ρ in [0, 1), drawn towards 0 while few pairs have been seen."""
        if not (self.products > 0 and self.squares > 0):
            return 0.0
        return min(self.products / self.squares, 1.0) * self.pairs / (self.pairs + _PRIOR_PAIRS)

    def __call__(self, score_b: Array, place_b: Places, cluster_b: Places, partner: PartnerScores) -> Array:
        """score_b less its share of the partners; then the correlation learns from this rollout.

        Args:
            score_b: of :func:`~openrlhf_rad.method.scores.leave_one_out`.
            cluster_b: the prompt of each answer.
            place_b: of each answer among the particles. partner: the scores of these particles in pairs.
        """
        total_b, count_b = np.zeros(score_b.size), np.zeros(score_b.size)
        products = squares = pairs = 0.0
        centred_b = score_b - score_b.mean()
        for one, other in _pairs(cluster_b):
            for mine, theirs in ((one, other), (other, one)):  # each answer stands at most once in either
                total_b[mine] += partner(place_b[theirs], place_b[mine])
                count_b[mine] += 1
            products += float(centred_b[one] @ centred_b[other])
            squares += float(centred_b[one] @ centred_b[one] + centred_b[other] @ centred_b[other]) / 2
            pairs += one.size
        rho = self.correlation
        share_b = rho / (1 + (count_b - 1) * rho)  # of the sum, for count + 1 answers to a prompt
        self.products = _DECAY * self.products + products
        self.squares = _DECAY * self.squares + squares
        self.pairs = _DECAY * self.pairs + pairs
        return np.asarray(score_b - share_b * total_b)


class PartnerScores:
    """The score of one sample in the batch without another: −(n − 1)(V_{n−1}^{(−j)} − V_{n−2}^{(−j, −l)}).

    Without sample j the gap above sample i lies at i/(n − 1) if i < j, else at (i − 1)/(n − 1), so that sums
    over gaps with either weight answer all pairs.
    """

    def __init__(self, change_g: Array, spectrum: Spectrum) -> None:
        sampled = spectrum.sampled(max(change_g.size, 1))
        below = gap_terms(change_g[:-1], sampled)  # level i/(n − 1), none above the last
        above = gap_terms(change_g[1:], sampled)  # level (i − 1)/(n − 1), none above the first
        self._gain = _sums(np.append(below[0], 0.0)), _sums(np.append(0.0, above[0]))
        self._loss = _sums(np.append(below[1], 0.0)), _sums(np.append(0.0, above[1]))

    def __call__(self, place: Places, without: Places) -> Array:
        """Scores at places, each without the sample at another place; of equal costs the first place."""
        (gain_0, gain_1), (loss_0, loss_1) = self._gain, self._loss
        middle = np.maximum(place, without)
        gain = gain_0[middle] - gain_0[place] + gain_1[-1] - gain_1[middle]
        lowest = np.minimum(place, without)
        loss = loss_0[lowest] + loss_1[place] - loss_1[np.minimum(without, place)]
        return np.asarray(gain - loss)


class Scores:
    """The scores of one constraint as it trains: its estimator and tails, and partners for a baseline.

    Attributes:
        own_baseline: whether they need no other baseline.
        baseline: what has been learned of the partners.
    """

    def __init__(self, settings: ConstraintSettings, spectrum: Spectrum, cost_r: Array) -> None:
        """cost_r: the reference costs, in the unit of the particles; its tails say which gaps are cut."""
        self.own_baseline = settings.gradient == "leave_one_out"
        self.baseline = PartnerBaseline()
        self._gradient, self._spectrum = settings.gradient, spectrum
        self._tails = heavy_tails(settings, spectrum, cost_r)

    def __call__(
        self,
        cost_b: Array,
        particle_n: Array,
        result: ConstraintResult,
        sampled: SampledSpectrum,
        cluster_b: ArrayLike | None = None,
    ) -> tuple[Array, float]:
        """score_b of a rollout, and its standard deviation before the baseline, which learns from it.

        Args:
            cost_b, particle_n, result, sampled: as for :func:`score`.
            cluster_b: the prompt of each answer; None: no two have one.
        """
        change_g = self._tails.winsorised(result.change_g, particle_n)
        felt = replace(result, change_g=change_g)
        score_b = score(cost_b, particle_n, felt, sampled, gradient=self._gradient)
        deviation = float(score_b.std())
        if self.own_baseline and cluster_b is not None:
            place_b = np.minimum(np.searchsorted(particle_n, cost_b), particle_n.size - 1)
            partner = PartnerScores(change_g, self._spectrum)
            score_b = self.baseline(score_b, place_b, np.asarray(cluster_b), partner)
        return score_b, deviation


def _sums(term_g: Array) -> Array:
    """Of the terms before each place."""
    return np.append(0.0, np.cumsum(term_g))


def _pairs(cluster_b: Places) -> Iterator[tuple[Places, Places]]:
    """All pairs of answers of one cluster, a block a distance within it."""
    order = np.argsort(cluster_b, kind="stable")
    label = cluster_b[order]
    for distance in range(1, label.size):
        alike = np.flatnonzero(label[distance:] == label[:-distance])
        if not alike.size:
            return
        yield order[alike], order[alike + distance]
