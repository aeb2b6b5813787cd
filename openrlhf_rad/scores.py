"""Scores: what each response gets for its cost in the policy gradient (the paper, Eqs. (14), (38))."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Gradient = Literal["spacing", "tilted"]


def quantile_factors(particle_n: Array, gradient: Gradient) -> Array:
    """d_i, how a change of F(q_i) moves the quantile q_i. Shape (n,).

    The exact rule is ∇q_i = −∇F(q_i)/f(q_i) (Eq. (30)). `spacing` estimates 1/(n f(q_i)) by q_{i+1} − q_i
    (0 for the last particle), in the cost's own units. `tilted` drops the density as the paper does:
    d_i = 1/n, which sees ranks only and points away from the true gradient where costs are skewed.
    """
    if gradient == "tilted":
        return np.full(particle_n.size, 1.0 / particle_n.size)
    if gradient == "spacing":
        return np.append(np.diff(particle_n), 0.0)
    raise ValueError(f"gradient is {gradient!r}; it must be 'spacing' or 'tilted'")


def score(
    cost_b: Array, particle_n: Array, weight_n: Array, activation_n: Array, gradient: Gradient = "spacing"
) -> Array:
    """score_b, s(c) = Σ_i w_i a_i d_i 1{c ≤ q_i} (Eq. (38)): the lower the cost, the higher the score.

    Args:
        cost_b: costs of the sampled responses, shape (B,).
        particle_n: the policy's quantiles, sorted upwards, shape (n,).
        weight_n: bin weights of the spectrum, shape (n,).
        activation_n: a_i in [0, 1], how much the constraint feels quantile i, shape (n,).
        gradient: see :func:`quantile_factors`.

    Returns:
        Shape (B,); for `spacing` in the unit of the costs, for `tilted` without unit.
    """
    term_n = weight_n * activation_n * quantile_factors(particle_n, gradient)
    # suffix[k] = Σ_{i ≥ k} term_i; the first particle with q_i ≥ c is where the indicator switches on.
    suffix = np.append(np.cumsum(term_n[::-1])[::-1], 0.0)
    return np.asarray(suffix[np.searchsorted(particle_n, cost_b, side="left")])
