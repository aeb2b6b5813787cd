"""Scores: what each response gets for its cost in the policy gradient (the paper, Eqs. (14), (38)).

A constraint is a functional V[F] = ∫ φ(t) ℓ_t(F⁻¹(t)) dt of the policy's costs, ℓ_t non-decreasing: the cost
itself, or how far it lies above or below the reference. Between the sorted particles q_1 ≤ … ≤ q_n it changes
by h_i = ℓ(q_{i+1}) − ℓ(q_i), so that gaps, not particles, carry the gradient; ties carry none.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from openrlhf_rad.method.constraint import ConstraintResult
from openrlhf_rad.method.spectrum import Spectrum

Array = NDArray[np.float64]
Gradient = Literal["leave_one_out", "spacing", "tilted"]


def score(
    cost_b: Array,
    particle_n: Array,
    result: ConstraintResult,
    spectrum: Spectrum,
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
        spectrum: φ; that of the mean for `expected`.

    Returns:
        Shape (B,); in the unit of the costs, for `tilted` without unit.
    """
    n = particle_n.size
    if gradient == "tilted":
        score_n = from_above(result.weight_n * result.activation_n / n)
    elif gradient == "leave_one_out":
        score_n = leave_one_out(result.change_g, spectrum)
    elif gradient == "spacing":
        score_n = (1 - 1 / n) * from_above(np.add(*gap_terms(result.change_g, spectrum)))
    else:
        raise ValueError(f"gradient is {gradient!r}; it must be 'leave_one_out', 'spacing' or 'tilted'")
    return placed(cost_b, particle_n, score_n)


def placed(cost_b: Array, particle_n: Array, score_n: Array) -> Array:
    """The score of each cost: that of the first particle with q_i ≥ c, where 1{c ≤ q_i} switches on."""
    place_b = np.searchsorted(particle_n, cost_b, side="left")
    return np.asarray(score_n[np.minimum(place_b, score_n.size - 1)])


def leave_one_out(change_g: Array, spectrum: Spectrum) -> Array:
    """−n (V_n − V_{n−1}^{(−j)}) of n sorted samples from the n − 1 changes between them. Shape (…, n).

    The gap above sample i lies at F = i/n; without sample j at i/(n − 1) if i < j, else at (i − 1)/(n − 1).
    With G = ∫φ, summed by parts:
    s_j = Σ_{i ≥ j} n [G(i/n) − G((i − 1)/(n − 1))] h_i − Σ_{i < j} n [G(i/(n − 1)) − G(i/n)] h_i.
    For the mean it is RLOO over the batch; see Tamar et al. 2015 for CVaR, up to O(1/n).
    """
    above_g, below_g = gap_terms(change_g, spectrum)
    taken_n = np.zeros((*change_g.shape[:-1], change_g.shape[-1] + 1))
    np.cumsum(below_g, axis=-1, out=taken_n[..., 1:])
    return np.asarray(from_above(above_g) - taken_n)


def gap_terms(change_g: Array, spectrum: Spectrum) -> tuple[Array, Array]:
    """What each gap gives to the samples below it, and takes from those above it: weight times change."""
    above_g, below_g = _gap_weights(spectrum, change_g.shape[-1] + 1)
    return above_g * change_g, below_g * change_g


@lru_cache(maxsize=8)
def _gap_weights(spectrum: Spectrum, n: int) -> tuple[Array, Array]:
    """The brackets of :func:`leave_one_out`; in sum n/(n − 1) times the mean of φ over the gap's bin."""
    edge_n = spectrum.cumulative(np.arange(n) / max(n - 1, 1))
    level_g = spectrum.cumulative(np.arange(1, n) / n)
    return n * (level_g - edge_n[:-1]), n * (edge_n[1:] - level_g)


def from_above(term_i: Array) -> Array:
    """Σ of the terms from each on, and 0 after the last; one longer than the terms, along the last axis."""
    sum_i = np.zeros((*term_i.shape[:-1], term_i.shape[-1] + 1))
    sum_i[..., :-1] = np.cumsum(term_i[..., ::-1], axis=-1)[..., ::-1]
    return sum_i
