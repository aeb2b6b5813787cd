"""The debiased divergence S(X, Y) = OT_ε(X, Y) − ½ OT_ε(X, X) − ½ OT_ε(Y, Y)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from openrlhf_rad.method.transport.batched import sinkhorn_batch
from openrlhf_rad.method.transport.problem import as_points
from openrlhf_rad.method.transport.result import Array


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
    x: ArrayLike,
    y: ArrayLike,
    epsilon: float,
    *,
    tol: float = 1e-9,
    max_iterations: int = 10_000,
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
