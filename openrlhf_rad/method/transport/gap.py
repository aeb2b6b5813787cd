"""The exact gap and the exact plan, both from sorting alone."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from openrlhf_rad.errors import TransportError
from openrlhf_rad.method.transport.problem import Problem, as_points, finite, quantile_pairs
from openrlhf_rad.method.transport.result import SinkhornResult


def dominance_gap(x: ArrayLike, y: ArrayLike, weight_n: ArrayLike | None = None) -> float:
    """L_w(X, Y) = (1/n) Σ w_i (y_(i) − x_(i))₊ over sorted points, exact (Eq. (15); Eq. (3) without w).

    How far X lies below Y, added up over quantiles; in the unit of the points.

    Raises:
        TransportError: x, y and the weights differ in length, are empty or not finite.
    """
    x_n, y_n = np.sort(finite(as_points(x, "x"), "x")), np.sort(finite(as_points(y, "y"), "y"))
    weights = np.ones(x_n.size) if weight_n is None else finite(as_points(weight_n, "weight_n"), "weight_n")
    if not x_n.size == y_n.size == weights.size:
        raise TransportError(
            f"x has {x_n.size} points, y {y_n.size}, weight_n {weights.size}; the gap compares quantiles"
            " one by one; take the same number of quantiles of each"
        )
    return float(weights @ np.maximum(y_n - x_n, 0.0) / x_n.size)


def solve_exact(problem: Problem) -> SinkhornResult:
    """The coupling of equal quantile levels, the limit ε → 0, in O((n + m) log(n + m))."""
    x_n, y_m = problem.x_n, problem.y_m
    n, m = x_n.size, y_m.size
    rank_x, rank_y, mass = quantile_pairs(n, m)
    x_k, y_k = np.argsort(x_n, kind="stable")[rank_x], np.argsort(y_m, kind="stable")[rank_y]
    rise = y_m[y_k] - x_n[x_k]
    up = np.where(rise > 0, mass, 0.0)
    cost = float(mass @ np.maximum(rise, 0.0))
    error = max(
        float(np.linalg.norm(np.bincount(x_k, mass, n) - 1 / n)),
        float(np.linalg.norm(np.bincount(y_k, mass, m) - 1 / m)),
    )
    return SinkhornResult(
        value=cost,
        cost=cost,
        gradient=-np.bincount(x_k, up, n),
        gradient_y=np.bincount(y_k, up, m),
        f=np.full(n, np.nan),
        g=np.full(m, np.nan),
        converged=True,
        iterations=0,
        marginal_error=error,
        weighted_gap=problem.weighted_gap(),
    )
