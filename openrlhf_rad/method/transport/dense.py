"""POT's solvers on the dense kernel, O(nm): a second opinion on the linear solver."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from openrlhf_rad.errors import TransportError
from openrlhf_rad.method.transport.problem import ROUNDING, Array, SinkhornResult, TransportProblem, stopped

# Above this max(M)/ε the scalings of the plain iteration could leave the range of float64.
_PLAIN_LIMIT = 300.0


def solve_pot(problem: TransportProblem) -> SinkhornResult:
    """One problem with POT, plain where float64 allows, else in the log domain."""
    x_n, y_m, epsilon, tol = problem.x_n, problem.y_m, problem.epsilon, problem.tol
    n, m = x_n.size, y_m.size
    cost_nm = np.maximum(y_m[None, :] - x_n[:, None], 0.0)
    warm = _warm_start(x_n, y_m, epsilon)
    if problem.start is not None:
        warm = (problem.start[0] / epsilon, problem.start[1] / epsilon)
    plan, log_u, log_v, iterations = _pot_plan(cost_nm, epsilon, tol, problem.max_iterations, warm)
    upward = np.where(y_m[None, :] > x_n[:, None], plan, 0.0)
    error = float(max(np.linalg.norm(plan.sum(1) - 1 / n), np.linalg.norm(plan.sum(0) - 1 / m)))
    cost, mass = float((plan * cost_nm).sum()), plan[plan > 0]  # 0 log 0 = 0
    return SinkhornResult(
        value=cost + epsilon * float((mass * np.log(mass)).sum()),
        cost=cost,
        gradient=-upward.sum(1),
        gradient_y=upward.sum(0),
        f=epsilon * log_u,
        g=epsilon * log_v,
        converged=error <= max(tol, ROUNDING),
        iterations=iterations,
        marginal_error=error,
        weighted_gap=problem.weighted_gap(),
        message=stopped(iterations, error, tol, problem.max_iterations),
    )


def _warm_start(x_n: Array, y_m: Array, epsilon: float) -> tuple[Array, Array]:
    """Log-scalings from the potential of the problem without entropy.

    The cost is a one-way distance, so its dual is one function ψ with slope 1 where mass must rise
    (F_X > F_Y), 0 where it may fall and ½ where neither: f = −ψ(x), g = ψ(y). From ones, Sinkhorn needs
    e^{gap/ε} iterations to fit ψ across a gap in the points, and heavy tails are full of gaps.
    """
    knot_k = np.unique(np.concatenate([x_n, y_m]))
    share_x = np.searchsorted(np.sort(x_n), knot_k[:-1], side="right") * y_m.size
    share_y = np.searchsorted(np.sort(y_m), knot_k[:-1], side="right") * x_n.size
    slope = 0.5 + 0.5 * np.sign(share_x - share_y)
    psi = np.append(0.0, np.cumsum(slope * np.diff(knot_k)))
    psi -= 0.5 * psi[-1]  # centred, to stay far from overflow
    log_u = -psi[np.searchsorted(knot_k, x_n)] / epsilon - np.log(x_n.size)
    log_v = psi[np.searchsorted(knot_k, y_m)] / epsilon - np.log(y_m.size)
    return log_u, log_v


def _pot_plan(
    cost_nm: Array, epsilon: float, tol: float, max_iterations: int, start: tuple[Array, Array]
) -> tuple[Array, Array, Array, int]:
    """POT's plan, log-scalings and iteration count; the log-domain solver where the plain one overflows."""
    n, m = cost_nm.shape
    bregman = _import_bregman()
    options = {"numItermax": max_iterations, "stopThr": tol, "log": True, "warn": False, "warmstart": start}
    a, b = np.full(n, 1 / n), np.full(m, 1 / m)
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        # POT warns and falls back when a scaling overflows; the finite check below takes over from there.
        warnings.simplefilter("ignore")
        if cost_nm.max() <= _PLAIN_LIMIT * epsilon:
            plan, log = bregman.sinkhorn_knopp(a, b, cost_nm, epsilon, **options)
            log_u, log_v = np.log(log["u"]), np.log(log["v"])
            if np.isfinite(plan).all() and np.isfinite(log_u).all() and np.isfinite(log_v).all():
                return plan, log_u, log_v, int(log["niter"]) + 1
        plan, log = bregman.sinkhorn_log(a, b, cost_nm, epsilon, **options)
    return plan, log["log_u"], log["log_v"], int(log["niter"]) + 1


def _import_bregman() -> Any:
    """POT's Sinkhorn solvers. Imported late: POT takes seconds to load, for it loads torch if there."""
    with warnings.catch_warnings():
        # Third parties deprecate things on import; a user can do nothing about it.
        warnings.simplefilter("ignore")
        try:
            from ot import bregman  # noqa: PLC0415
        except ImportError as error:
            raise TransportError(
                f"sinkhorn: solver is 'pot', which cannot be imported ({error}); it needs the package POT;"
                " pip install 'openrlhf-rad[pot]', or take solver='linear'"
            ) from None
    return bregman
