"""One transport problem and its solution: checking what comes in, and what every solver returns.

The checks of a sound problem cost a few microseconds: sorting puts NaN and infinities at the ends.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from openrlhf_rad.errors import TransportError

Array = NDArray[np.float64]
Index = NDArray[np.int64]
Solver = Literal["linear", "pot", "exact"]

#: Below it a marginal error is rounding, whatever tolerance was asked for.
ROUNDING = 1e-12


@dataclass(frozen=True)
class SinkhornResult:
    """The solution of one transport problem from x_n to y_m with uniform weights.

    For torch input the arrays are tensors of the input's device and floating dtype.

    Attributes:
        value: ⟨P, M⟩ + ε Σ P log P, the objective of Eq. (6).
        cost: ⟨P, M⟩, in the unit of the points (Eq. (25)).
        gradient: ∂value/∂x_i = −Σ_{j: y_j > x_i} P_ij, in [−1/n, 0]; shape (n,), order of x.
        gradient_y: ∂value/∂y_j = Σ_{i: y_j > x_i} P_ij, in [0, 1/m]; shape (m,), order of y.
        f, g: dual potentials, P_ij = exp((f_i + g_j − M_ij)/ε); NaN for the exact solver.
        converged: whether marginal_error is at most the tolerance asked for.
        iterations: Newton steps (`linear`), Sinkhorn iterations (`pot`), 0 (`exact`).
        marginal_error: mass on the wrong points, the larger of ‖P1 − 1/n‖₂ and ‖Pᵀ1 − 1/m‖₂.
        weighted_gap: L_w of Eq. (15) for the quantile weights given, exact; None without weights.
        message: why the run did not converge and what to change; empty when it did.
    """

    value: float
    cost: float
    gradient: Any
    gradient_y: Any
    f: Any
    g: Any
    converged: bool
    iterations: int
    marginal_error: float
    weighted_gap: float | None = None
    message: str = ""

    def require(self) -> SinkhornResult:
        """This result if it converged.

        Raises:
            TransportError: it did not; with what to change.
        """
        if not self.converged:
            raise TransportError(self.message)
        return self


def stopped(iterations: int, error: float, tol: float, max_iterations: int) -> str:
    """The message of a run that did not reach its tolerance; empty for one that did."""
    if error <= max(tol, ROUNDING):
        return ""
    fix = (
        "raise max_iterations"
        if iterations >= max_iterations
        else "raise tol or epsilon, or take solver='exact'"
    )
    return (
        f"sinkhorn: marginal error is {error:.2g} after {iterations} iterations; it must be at most"
        f" {max(tol, ROUNDING):g}; {fix}"
    )


# Whole numbers up to here are float64 exactly.
_WHOLE = 2**53


@dataclass(frozen=True)
class TransportProblem:
    """One checked problem; the points of ``linear`` are checked for NaN as they are sorted.

    Attributes:
        start: potentials (f, g) to start from. weight_n: quantile weights of the report.
    """

    x_n: Array
    y_m: Array
    epsilon: float
    tol: float
    max_iterations: int
    start: tuple[Array, Array] | None = None
    weight_n: Array | None = None

    def weighted_gap(self) -> float | None:
        """L_w(X, Y) = Σ_i w_i ∫_{(i−1)/n}^{i/n} (F_Y⁻¹ − F_X⁻¹)₊ dt (Eq. (15)); None without weights."""
        if self.weight_n is None:
            return None
        rank_x, rank_y, mass = quantile_pairs(self.x_n.size, self.y_m.size)
        rise = np.sort(self.y_m)[rank_y] - np.sort(self.x_n)[rank_x]
        return float((self.weight_n[rank_x] * mass) @ np.maximum(rise, 0.0))


def quantile_pairs(n: int, m: int) -> tuple[Index, Index, Array]:
    """Ranks of x and y that meet at equal quantile levels, and the mass with which they do; O(n + m)."""
    # Levels in whole multiples of 1/(nm): between two cuts one x meets one y.
    cuts = np.union1d(m * np.arange(n + 1, dtype=np.int64), n * np.arange(m + 1, dtype=np.int64))
    return cuts[:-1] // m, cuts[:-1] // n, np.diff(cuts) / (n * m)


def as_points(values: ArrayLike, name: str) -> Array:
    """The values as float64, shape (n,); they may still hold NaN or infinities, see :func:`sorting`.

    Raises:
        TransportError: empty, not one-dimensional, complex, text, or whole numbers beyond 2⁵³.
    """
    if type(values) is np.ndarray and values.dtype == np.float64 and values.ndim == 1 and values.size:
        return values
    raw = np.asarray(values)
    if raw.ndim > 1:
        raise TransportError(
            f"{name} has shape {raw.shape}; one problem takes shape (n,); flatten it, or pass many problems"
            " to sinkhorn_batch"
        )
    if raw.size == 0:
        raise TransportError(f"{name} has 0 points; a distribution needs at least one; check its source")
    if raw.dtype.kind not in "biuf":
        raise TransportError(
            f"{name} has dtype {raw.dtype}; points must be real numbers in the range of a 64-bit number;"
            " convert them to float64"
        )
    if raw.dtype.kind in "iu" and raw.dtype.itemsize == 8 and (raw.max() > _WHOLE or raw.min() < -_WHOLE):
        raise TransportError(
            f"{name} has whole numbers up to {max(abs(int(raw.max())), abs(int(raw.min())))}; beyond 2**53"
            " neighbours coincide in float64; subtract an offset or rescale first"
        )
    return raw.astype(np.float64).reshape(-1)


def finite(points: Array, name: str) -> Array:
    """The points. Raises TransportError that counts and places those that are not finite."""
    bad = np.flatnonzero(~np.isfinite(points))
    if bad.size:
        raise TransportError(
            f"{name} has {bad.size} of {points.size} points that are not finite (number {bad[0]} is"
            f" {points[bad[0]]}); transport needs finite points; drop them or mend their source"
        )
    return points


def finite_points(values: ArrayLike, name: str) -> Array:
    """The values as float64, shape (n,), all of them finite. Raises TransportError."""
    return finite(as_points(values, name), name)


def sorting(points: Array, name: str) -> Index:
    """Indices that sort the points. Raises TransportError when one of them is not finite."""
    order = np.argsort(points)
    # NaN sorts to the end, −∞ to the front.
    if not (np.isfinite(points[order[-1]]) and np.isfinite(points[order[0]])):
        finite(points, name)
    return order


def check_scale(epsilon: float, low: float, high: float) -> float:
    """ε as a float. Raises TransportError unless 0 < ε < ∞ and the spread is finite in units of ε."""
    epsilon = float(epsilon)
    if not 0 < epsilon < np.inf:
        raise TransportError(f"epsilon is {epsilon}; it must be positive and finite; 0.1 spreads is usual")
    if not (high - low) / epsilon < 1e15:
        raise TransportError(
            f"epsilon is {epsilon:g}, the points spread over {high - low:g}; their ratio must stay below"
            " 1e15; raise epsilon, or take solver='exact', which has no entropy"
        )
    return epsilon


def check_limits(tol: float, max_iterations: int) -> None:
    """Raises TransportError unless tol ≥ 0 and max_iterations ≥ 1."""
    if not tol >= 0:
        raise TransportError(f"tol is {tol}; it must be at least 0; 1e-9 is usual")
    if max_iterations < 1:
        raise TransportError(
            f"max_iterations is {max_iterations}; it must be at least 1; leave it out: a run stops by itself"
        )


def check_start(init: Any, n: int, m: int) -> tuple[Array, Array]:
    """(f, g) of ``init``, which is a pair or an earlier result; finite, of shapes (n,) and (m,).

    Raises:
        TransportError: other sizes. Potentials belong to points; there is no telling which went.
    """
    f, g = (init.f, init.g) if hasattr(init, "f") else init
    f, g = np.ascontiguousarray(f, np.float64).reshape(-1), np.ascontiguousarray(g, np.float64).reshape(-1)
    if (f.size, g.size) != (n, m):
        raise TransportError(
            f"init has potentials of {f.size} and {g.size} points, the problem {n} and {m}; they must be as"
            " many; leave init out for a problem of another size"
        )
    return finite(f, "init f"), finite(g, "init g")


def check_weights(weights: ArrayLike, n: int) -> Array:
    """Quantile weights w_1 … w_n, finite and at least 0. Raises TransportError."""
    weight_n = finite_points(weights, "weights")
    if weight_n.size != n or weight_n.min() < 0:
        raise TransportError(
            f"weights has {weight_n.size} values from {weight_n.min():g} on for {n} points of x; it needs one"
            " for each quantile of x, none negative; take spectrum.weights(n)"
        )
    return weight_n
