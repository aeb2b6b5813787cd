"""`sinkhorn`: one problem, checked, with the solver asked for; and the gap that needs none."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from openrlhf_rad.errors import TransportError
from openrlhf_rad.method.transport.problem import (
    ROUNDING,
    SinkhornResult,
    Solver,
    TransportProblem,
    as_points,
    check_limits,
    check_scale,
    check_start,
    check_weights,
    finite,
    finite_points,
    quantile_pairs,
    sorting,
    stopped,
)


def is_tensor(values: Any) -> bool:
    """Whether these are a torch tensor, without importing torch."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(values, torch.Tensor)


def sinkhorn(
    x: ArrayLike | Any,
    y: ArrayLike | Any,
    epsilon: float,
    *,
    tol: float = 1e-9,
    max_iterations: int = 10_000,
    weights: ArrayLike | None = None,
    solver: Solver = "linear",
    init: Any = None,
) -> SinkhornResult:
    """Entropic transport from x_n to y_m, M_ij = (y_j − x_i)₊, uniform weights (Eqs. (6), (21)–(25)).

    The gradients use the envelope theorem: at the optimum the plan need not be differentiated.

    Args:
        x: shape (n,), any order. y: shape (m,), any order, m ≠ n allowed. Numpy or torch.
        epsilon: strength of the entropy, in the unit of the points.
        tol: marginal error at which the iteration stops.
        weights: quantile weights of a spectrum, w_i for the i-th smallest x, for reports: they add
            ``weighted_gap``, the exact L_w of Eq. (15). Plan and gradients stay those of uniform marginals,
            for the paper's w multiplies the i-th summand of gap and gradient (Eqs. (15), (37)); as a
            marginal it would change which quantiles meet. There is no weighted ⟨P, M⟩: optimal plans
            for a one-way cost are many, and only the sorted one pairs quantiles, as Eq. (15) does.
        solver: `linear` is O(n + m) a step and takes a few; `pot` iterates on the dense kernel; `exact` gives
            the monotone plan of ε → 0 without iterating.
        init: an earlier result, or its (f, g), for as many points in the same order. `linear` starts there if
            that is nearer, by the marginal error, than its own start; `pot` always does.

    Raises:
        TransportError: points that are empty, not finite or not real, ε ≤ 0, an init of other sizes. A run
            that stops early is returned with converged=False and a message; see ``require``.
    """
    if is_tensor(x) or is_tensor(y):
        from openrlhf_rad.method.transport.torch_front import on_tensors  # noqa: PLC0415

        options = {"tol": tol, "max_iterations": max_iterations, "weights": weights, "solver": solver}
        return on_tensors(sinkhorn, x, y, epsilon, init=init, **options)
    x_n, y_m = as_points(x, "x"), as_points(y, "y")
    check_limits(tol, max_iterations)
    weight_n = None if weights is None else check_weights(weights, x_n.size)
    start = None if init is None else check_start(init, x_n.size, y_m.size)
    problem = TransportProblem(x_n, y_m, float(epsilon), tol, max_iterations, start, weight_n)
    if solver == "linear":
        return solve_linear(problem)
    finite(x_n, "x"), finite(y_m, "y")
    check_scale(epsilon, 0.0, 0.0)
    if solver == "exact":
        return solve_exact(problem)
    if solver == "pot":
        from openrlhf_rad.method.transport.dense import solve_pot  # noqa: PLC0415

        return solve_pot(problem)
    raise ValueError(f"solver is {solver!r}; it must be 'linear', 'pot' or 'exact'")


_NONE = np.empty(0)


def solve_linear(problem: TransportProblem) -> SinkhornResult:
    """One problem in O((n + m) log(n + m)) for sorting and O(n + m) for each of a few Newton steps."""
    from openrlhf_rad.method.transport import recurrences  # noqa: PLC0415 - numba takes part of a second

    x_n, y_m = np.ascontiguousarray(problem.x_n), np.ascontiguousarray(problem.y_m)
    tol, max_iterations = problem.tol, problem.max_iterations
    n, m = x_n.size, y_m.size
    by_x, by_y = sorting(x_n, "x"), sorting(y_m, "y")
    sorted_x, sorted_y = x_n[by_x], y_m[by_y]
    low, high = min(sorted_x[0], sorted_y[0]), max(sorted_x[-1], sorted_y[-1])
    epsilon = check_scale(problem.epsilon, low, high)
    z, order = np.empty(n + m), np.empty(n + m, np.int32)
    recurrences.merge(sorted_x, sorted_y, by_x, by_y, epsilon, z, order)
    del sorted_x, sorted_y, by_x, by_y  # before the workspace: memory is counted at its peak
    work, pair = np.empty((recurrences.ROWS, n + m)), np.empty((n + m, 2))
    f, g = (_NONE, _NONE) if problem.start is None else problem.start
    value, cost, error, iterations = recurrences.solve(
        z, order, n, m, epsilon, tol, max_iterations, f, g, work, pair
    )
    return SinkhornResult(
        value=value,
        cost=cost,
        gradient=pair[:n, 1],
        gradient_y=pair[n:, 1],
        f=pair[:n, 0],
        g=pair[n:, 0],
        converged=error <= max(tol, ROUNDING),
        iterations=iterations,
        marginal_error=error,
        weighted_gap=problem.weighted_gap(),
        message=stopped(iterations, error, tol, max_iterations),
    )


def dominance_gap(x: ArrayLike, y: ArrayLike, weight_n: ArrayLike | None = None) -> float:
    """L_w(X, Y) = (1/n) Σ w_i (y_(i) − x_(i))₊ over sorted points, exact (Eq. (15); Eq. (3) without w).

    How far X lies below Y, added up over quantiles; in the unit of the points.

    Raises:
        TransportError: x, y and the weights differ in length, are empty or not finite.
    """
    x_n, y_n = np.sort(finite_points(x, "x")), np.sort(finite_points(y, "y"))
    weights = np.ones(x_n.size) if weight_n is None else finite_points(weight_n, "weight_n")
    if not x_n.size == y_n.size == weights.size:
        raise TransportError(
            f"x has {x_n.size} points, y {y_n.size}, weight_n {weights.size}; the gap compares quantiles"
            " one by one; take the same number of quantiles of each"
        )
    return float(weights @ np.maximum(y_n - x_n, 0.0) / x_n.size)


def solve_exact(problem: TransportProblem) -> SinkhornResult:
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
