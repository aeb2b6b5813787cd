"""Optimal transport for the asymmetric cost (y − x)₊: dominance gaps and Sinkhorn plans.

L(X, Y) = ∫ (F_Y⁻¹ − F_X⁻¹)₊ dt (the paper, Eq. (3)) is the least cost of moving X to Y when only
upward moves cost (Eq. (7)). The sorted gap is exact; the entropic plan (Eq. (6)) smooths its gradient.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from openrlhf_rad.errors import TransportError

Array = NDArray[np.float64]
Solver = Literal["pot", "exact"]

# Above this max(M)/ε the scalings of the plain iteration could leave the range of float64.
_PLAIN_LIMIT = 300.0


@dataclass(frozen=True)
class SinkhornResult:
    """The solution of one transport problem from x_n to y_m with uniform weights.

    Attributes:
        value: ⟨P, M⟩ + ε Σ P log P, the objective of Eq. (6).
        cost: ⟨P, M⟩, in the unit of the points (Eq. (25)).
        gradient: ∂value/∂x_i = −Σ_{j: y_j > x_i} P_ij, in [−1/n, 0]; shape (n,), order of x.
        gradient_y: ∂value/∂y_j = Σ_{i: y_j > x_i} P_ij, in [0, 1/m]; shape (m,), order of y.
        f, g: dual potentials, P_ij = exp((f_i + g_j − M_ij)/ε); NaN for the exact solver.
        converged: whether marginal_error is at most the tolerance asked for.
        iterations: Sinkhorn iterations done; 0 for the exact solver.
        marginal_error: mass on the wrong points, the larger of ‖P1 − 1/n‖₂ and ‖Pᵀ1 − 1/m‖₂.
    """

    value: float
    cost: float
    gradient: Array
    gradient_y: Array
    f: Array
    g: Array
    converged: bool
    iterations: int
    marginal_error: float


def dominance_gap(x: ArrayLike, y: ArrayLike, weight_n: ArrayLike | None = None) -> float:
    """L_w(X, Y) = (1/n) Σ w_i (y_(i) − x_(i))₊ over sorted points, exact (Eq. (15); Eq. (3) without w).

    How far X lies below Y, added up over quantiles; in the unit of the points.

    Raises:
        TransportError: x, y and the weights differ in length, are empty or not finite.
    """
    x_n, y_n = np.sort(_points(x, "x")), np.sort(_points(y, "y"))
    weights = np.ones(x_n.size) if weight_n is None else _points(weight_n, "weight_n")
    if not x_n.size == y_n.size == weights.size:
        raise TransportError(
            f"x has {x_n.size} points, y {y_n.size}, weight_n {weights.size}; the gap compares quantiles"
            " one by one; take the same number of quantiles of each"
        )
    return float(weights @ np.maximum(y_n - x_n, 0.0) / x_n.size)


def sinkhorn(
    x: ArrayLike,
    y: ArrayLike,
    epsilon: float,
    *,
    tol: float = 1e-9,
    max_iterations: int = 10_000,
    solver: Solver = "pot",
) -> SinkhornResult:
    """Entropic transport from x_n to y_m, M_ij = (y_j − x_i)₊, uniform weights (Eqs. (6), (21)–(25)).

    The gradients use the envelope theorem: at the optimum the plan need not be differentiated.

    Args:
        x: shape (n,), any order. y: shape (m,), any order, m ≠ n allowed.
        epsilon: strength of the entropy, in the unit of the points.
        tol: marginal error at which the iteration stops.
        solver: `pot` iterates with POT; `exact` gives the monotone plan of ε → 0 without iterating.

    Raises:
        TransportError: points that are empty or not finite, or ε ≤ 0. A run that stops early is
            returned with converged=False.
    """
    x_n, y_m = _points(x, "x"), _points(y, "y")
    if not (epsilon > 0 and np.isfinite(epsilon)):
        raise TransportError(f"epsilon is {epsilon}; it must be positive and finite; 0.1 spreads is usual")
    cost_nm = np.maximum(y_m[None, :] - x_n[:, None], 0.0)
    if solver == "exact":
        plan, iterations = _monotone_plan(x_n, y_m), 0
        log_u, log_v = np.full(x_n.size, np.nan), np.full(y_m.size, np.nan)
    elif solver == "pot":
        start = _warm_start(x_n, y_m, epsilon)
        plan, log_u, log_v, iterations = _pot_plan(cost_nm, epsilon, tol, max_iterations, start)
    else:
        raise ValueError(f"solver is {solver!r}; it must be 'pot' or 'exact'")
    upward = np.where(y_m[None, :] > x_n[:, None], plan, 0.0)
    error = float(max(np.linalg.norm(plan.sum(1) - 1 / x_n.size), np.linalg.norm(plan.sum(0) - 1 / y_m.size)))
    cost = float((plan * cost_nm).sum())
    return SinkhornResult(
        value=cost + (0.0 if solver == "exact" else epsilon * _entropy(plan)),
        cost=cost,
        gradient=-upward.sum(1),
        gradient_y=upward.sum(0),
        f=epsilon * log_u,
        g=epsilon * log_v,
        converged=error <= max(tol, 1e-12),
        iterations=iterations,
        marginal_error=error,
    )


def _points(values: ArrayLike, name: str) -> Array:
    points = np.asarray(values, dtype=np.float64).reshape(-1)
    if points.size == 0 or not np.isfinite(points).all():
        raise TransportError(
            f"{name} has {points.size} points, not all finite; transport needs finite points"
        )
    return points


def _entropy(plan: Array) -> float:
    """Σ P log P with 0 log 0 = 0."""
    mass = plan[plan > 0]
    return float((mass * np.log(mass)).sum())


def _monotone_plan(x_n: Array, y_m: Array) -> Array:
    """The coupling of equal quantile levels, optimal for convex costs; shape (n, m), order of x and y."""
    n, m = x_n.size, y_m.size
    # Overlap of ((i−1)/n, i/n] and ((j−1)/m, j/m], in whole multiples of 1/(nm).
    low = np.maximum(m * np.arange(n)[:, None], n * np.arange(m)[None, :])
    high = np.minimum(m * np.arange(1, n + 1)[:, None], n * np.arange(1, m + 1)[None, :])
    plan = np.zeros((n, m))
    plan[np.ix_(np.argsort(x_n, kind="stable"), np.argsort(y_m, kind="stable"))] = np.maximum(
        high - low, 0
    ) / (n * m)
    return plan


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
        # Third parties deprecate things on import; a profile author can do nothing about it.
        warnings.simplefilter("ignore")
        from ot import bregman  # noqa: PLC0415
    return bregman
