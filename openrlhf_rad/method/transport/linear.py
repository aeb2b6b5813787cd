"""The linear-time solver's front: sort, allocate one workspace, run the compiled recurrences."""

from __future__ import annotations

import numpy as np

from openrlhf_rad.method.transport import recurrences
from openrlhf_rad.method.transport.problem import Problem, check_scale, sorting
from openrlhf_rad.method.transport.result import ROUNDING, SinkhornResult, stopped

_NONE = np.empty(0)


def solve_linear(problem: Problem) -> SinkhornResult:
    """One problem in O((n + m) log(n + m)) for sorting and O(n + m) for each of a few Newton steps."""
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
