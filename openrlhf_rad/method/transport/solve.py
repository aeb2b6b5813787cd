"""`sinkhorn`: one problem, checked, with the solver asked for."""

from __future__ import annotations

import sys
from typing import Any

from numpy.typing import ArrayLike

from openrlhf_rad.method.transport.gap import solve_exact
from openrlhf_rad.method.transport.problem import (
    Problem,
    as_points,
    check_limits,
    check_scale,
    check_start,
    check_weights,
    finite,
)
from openrlhf_rad.method.transport.result import SinkhornResult, Solver


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
        from openrlhf_rad.method.transport.tensors import on_tensors  # noqa: PLC0415

        options = {"tol": tol, "max_iterations": max_iterations, "weights": weights, "solver": solver}
        return on_tensors(sinkhorn, x, y, epsilon, init=init, **options)
    x_n, y_m = as_points(x, "x"), as_points(y, "y")
    check_limits(tol, max_iterations)
    weight_n = None if weights is None else check_weights(weights, x_n.size)
    start = None if init is None else check_start(init, x_n.size, y_m.size)
    problem = Problem(x_n, y_m, float(epsilon), tol, max_iterations, start, weight_n)
    if solver == "linear":
        from openrlhf_rad.method.transport.linear import solve_linear  # noqa: PLC0415

        return solve_linear(problem)
    finite(x_n, "x"), finite(y_m, "y")
    check_scale(epsilon, 0.0, 0.0)
    if solver == "exact":
        return solve_exact(problem)
    if solver == "pot":
        from openrlhf_rad.method.transport.dense import solve_pot  # noqa: PLC0415

        return solve_pot(problem)
    raise ValueError(f"solver is {solver!r}; it must be 'linear', 'pot' or 'exact'")
