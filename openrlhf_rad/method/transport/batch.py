"""Many problems in one call, and the divergence, which takes three: segments, constraints, resamples."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from openrlhf_rad.errors import TransportError
from openrlhf_rad.method.transport.problem import (
    ROUNDING,
    Array,
    Index,
    SinkhornResult,
    as_points,
    check_limits,
    check_scale,
    finite_points,
    stopped,
)


@dataclass(frozen=True)
class BatchResult:
    """The solutions of B problems, one array a quantity; ``result[k]`` is problem k alone.

    Attributes:
        value, cost, marginal_error, iterations, converged: shape (B,), as in :class:`SinkhornResult`.
        tol, max_iterations: as given, for the messages of problems that did not converge.
    """

    value: Array
    cost: Array
    marginal_error: Array
    iterations: Index
    converged: NDArray[np.bool_]
    tol: float
    max_iterations: int
    _end_x: Index
    _end_y: Index
    _pair: Array

    def __len__(self) -> int:
        return self.value.size

    def __iter__(self) -> Iterator[SinkhornResult]:
        return (self[k] for k in range(len(self)))

    def __getitem__(self, k: int) -> SinkhornResult:
        """Problem k; its arrays are views."""
        k = range(len(self))[k]
        low, middle = int(self._end_x[k] + self._end_y[k]), int(self._end_x[k + 1] + self._end_y[k])
        high = int(self._end_x[k + 1] + self._end_y[k + 1])
        error, iterations = float(self.marginal_error[k]), int(self.iterations[k])
        return SinkhornResult(
            value=float(self.value[k]),
            cost=float(self.cost[k]),
            gradient=self._pair[low:middle, 1],
            gradient_y=self._pair[middle:high, 1],
            f=self._pair[low:middle, 0],
            g=self._pair[middle:high, 0],
            converged=bool(self.converged[k]),
            iterations=iterations,
            marginal_error=error,
            message=stopped(iterations, error, self.tol, self.max_iterations),
        )

    def require(self) -> BatchResult:
        """This result if every problem converged. Raises TransportError that names the first that did not."""
        bad = np.flatnonzero(~self.converged)
        if bad.size:
            raise TransportError(
                f"{bad.size} of {len(self)} problems did not converge; number {bad[0]}:"
                f" {self[bad[0]].message}"
            )
        return self


def sinkhorn_batch(
    xs: ArrayLike | Sequence[ArrayLike],
    ys: ArrayLike | Sequence[ArrayLike],
    epsilon: ArrayLike,
    *,
    tol: float = 1e-9,
    max_iterations: int = 10_000,
) -> BatchResult:
    """Solve B problems with the linear solver in one compiled loop.

    Args:
        xs, ys: shape (B, n) and (B, m), or sequences of B samples of any sizes; any order.
        epsilon: one ε for all, or shape (B,); in the unit of the points.

    Raises:
        TransportError: other numbers of samples, or a problem that :func:`sinkhorn` would refuse.
    """
    from openrlhf_rad.method.transport import recurrences  # noqa: PLC0415

    check_limits(tol, max_iterations)
    x, end_x = _joined(xs, "xs")
    y, end_y = _joined(ys, "ys")
    count = end_x.size - 1
    if end_y.size != end_x.size:
        raise TransportError(f"xs holds {count} samples, ys {end_y.size - 1}; problem k takes one of each")
    epsilon_b = np.array(epsilon, dtype=np.float64)
    if epsilon_b.shape not in ((), (count,)):
        raise TransportError(f"epsilon has shape {epsilon_b.shape}; it must be a number or ({count},)")
    epsilon_b = np.ascontiguousarray(np.broadcast_to(epsilon_b, count))
    low_b = np.minimum(np.minimum.reduceat(x, end_x[:-1]), np.minimum.reduceat(y, end_y[:-1]))
    high_b = np.maximum(np.maximum.reduceat(x, end_x[:-1]), np.maximum.reduceat(y, end_y[:-1]))
    with np.errstate(all="ignore"):
        worst = np.argmax((high_b - low_b) / epsilon_b)
        for k in (worst, np.argmin(epsilon_b), np.argmax(epsilon_b)):
            check_scale(epsilon_b[k], low_b[k], high_b[k])
    pair = np.empty((x.size + y.size, 2))
    summary = np.empty((count, 4))
    recurrences.solve_many(
        x, y, _sorting(x, end_x), _sorting(y, end_y), end_x, end_y, epsilon_b, tol, max_iterations,
        pair, summary,
    )  # fmt: skip
    value, cost, error, iterations = summary.T.copy()
    return BatchResult(
        value, cost, error, iterations.astype(np.int64), error <= max(tol, ROUNDING), tol, max_iterations,
        end_x, end_y, pair,
    )  # fmt: skip


def _joined(samples: ArrayLike | Sequence[ArrayLike], name: str) -> tuple[Array, Index]:
    """All samples end to end, and where each begins and ends. Raises TransportError."""
    if isinstance(samples, np.ndarray) and samples.ndim == 2 and samples.size:
        flat = finite_points(np.ascontiguousarray(samples).reshape(-1), name)
        return flat, np.arange(samples.shape[0] + 1) * samples.shape[1]
    parts = [finite_points(part, f"{name}[{k}]") for k, part in enumerate(samples)]  # type: ignore[arg-type]
    if not parts:
        raise TransportError(f"{name} holds 0 samples; a batch needs at least one problem")
    return np.concatenate(parts), np.append(0, np.cumsum([part.size for part in parts]))


def _sorting(points: Array, ends: Index) -> Index:
    """Within each sample, the indices that sort it."""
    sizes = np.diff(ends)
    if (sizes == sizes[0]).all():
        return np.asarray(np.argsort(points.reshape(sizes.size, -1), axis=1).reshape(-1))
    which = np.repeat(np.arange(sizes.size), sizes)
    return np.asarray(np.lexsort((points, which)) - np.repeat(ends[:-1], sizes))


@dataclass(frozen=True)
class Divergence:
    """A debiased divergence and its gradients.

    Attributes:
        value: S(X, Y), in the unit of the points; 0 for X = Y.
        gradient: ∂S/∂x_i, shape (n,), order of x. gradient_y: ∂S/∂y_j, shape (m,), order of y.
    """

    value: float
    gradient: Array
    gradient_y: Array


def sinkhorn_divergence(
    x: ArrayLike, y: ArrayLike, epsilon: float, *, tol: float = 1e-9, max_iterations: int = 10_000
) -> Divergence:
    """S(X, Y) between x_n and y_m with uniform weights, without most of the entropy's bias.

    The plan's entropy spreads mass even from a distribution to itself; taking off half of each self-transport
    makes S(X, X) = 0 exactly. S tends to the exact gap as ε → 0. The cost is one-way, so S is no distance: it
    is not symmetric and may be negative. Constraint values and reports use the exact gap.

    Raises:
        TransportError: as for :func:`sinkhorn`, or a problem that did not converge.
    """
    x_n, y_m = as_points(x, "x"), as_points(y, "y")
    result = sinkhorn_batch(
        [x_n, x_n, y_m], [y_m, x_n, y_m], epsilon, tol=tol, max_iterations=max_iterations
    ).require()
    both, self_x, self_y = result
    return Divergence(
        value=both.value - 0.5 * self_x.value - 0.5 * self_y.value,
        gradient=np.asarray(both.gradient - 0.5 * (self_x.gradient + self_x.gradient_y)),
        gradient_y=np.asarray(both.gradient_y - 0.5 * (self_y.gradient + self_y.gradient_y)),
    )
