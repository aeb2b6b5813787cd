"""What every solver returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from openrlhf_rad.errors import TransportError

Array = NDArray[np.float64]
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
