"""The four constraint forms on policy and reference quantiles (the paper, Eqs. (2), (10), (15) and (16)).

| form        | constraint                     | value            | meets when |
|-------------|--------------------------------|------------------|------------|
| improvement | L_w(C_θ, C_0 + m) − m ≥ ε      | left-hand side   | value ≥ ε  |
| no_worse    | L_w(max(C_0 − s, c₀), C_θ) ≤ τ | left-hand side   | value ≤ τ  |
| spectral    | ρ_w(C_0) − ρ_w(C_θ) ≥ ε        | left-hand side   | value ≥ ε  |
| expected    | E[C_θ] ≤ d                     | left-hand side   | value ≤ d  |

At π_θ = π_ref every gap is 0, and the estimate of one is positive by noise: without a margin some of the
quantiles of `improvement`, the paper's own constraint, count at step 0, and a small ε is met untrained. A
margin m shifts the reference so that all quantiles count; as m → ∞ `improvement` turns into `spectral`. Of
`no_worse` the shift stops at the least cost c₀, and s is such that the risk falls by m all the same
(:mod:`openrlhf_rad.reference`); Prop. 2 then gives ρ_w(C_θ) ≤ ρ_w(C_0) − m + value, so that meeting the
constraint lowers the risk by at least m − τ.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from openrlhf_rad.errors import TransportError
from openrlhf_rad.transport import SinkhornResult, Solver, dominance_gap, sinkhorn

Array = NDArray[np.float64]
Form = Literal["improvement", "no_worse", "spectral", "expected"]

# The forms that compare quantile by quantile; the others compare means, which a shift leaves in place.
MARGIN_FORMS = ("improvement", "no_worse")

# A plan that missed its tolerance may still serve as a gradient while each particle's mass is right within
# one per cent; beyond that it is no coupling.
_USABLE_SHARE = 0.01

Potentials = tuple[Array, Array]


@dataclass(frozen=True)
class TransportOptions:
    """How the activations are found; epsilon in the unit of the particles, see :func:`sinkhorn`."""

    epsilon: float = 0.1
    tolerance: float = 1e-9
    max_iterations: int = 1_000
    indicator: Literal["sinkhorn", "exact"] = "sinkhorn"


@dataclass(frozen=True)
class ConstraintResult:
    """A constraint evaluated on one batch; everything but the activations in the unit of the particles.

    Attributes:
        value, level: the left- and right-hand side of the constraint.
        violation: how far the constraint is from being met; positive when violated. It uses exact gaps
            only, since the entropy biases the Sinkhorn value upwards and would mislead λ.
        satisfied: violation ≤ 0.
        weight_n: the weights that the score must use: the spectrum's, or 1 for `expected`.
        activation_n: a_i in [0, 1], how much the constraint feels quantile i.
        gap_forward, gap_reverse: L_w(C_θ, C_0) and L_w(C_0, C_θ), exact and without margin.
        iterations, marginal_error, converged: of the Sinkhorn run; 0, 0 and True where none was needed.
        potentials: (f, g) of that run, a start for the next step's; None where there was none.
    """

    value: float
    level: float
    violation: float
    satisfied: bool
    weight_n: Array
    activation_n: Array
    gap_forward: float
    gap_reverse: float
    iterations: int = 0
    marginal_error: float = 0.0
    converged: bool = True
    potentials: Potentials | None = None


@dataclass(frozen=True)
class _Part:
    """What one form adds: value, which way it is bounded, the score's weights, activations, the plan."""

    value: float
    upper_bound: bool
    weight_n: Array
    activation_n: Array
    plan: SinkhornResult | None = None


@dataclass(frozen=True)
class _Transport:
    """The plan of a form, by the options, from the potentials of the step before."""

    options: TransportOptions
    start: Potentials | None

    @property
    def solver(self) -> Solver:
        return "exact" if self.options.indicator == "exact" else "linear"

    def plan(self, x_n: Array, y_n: Array) -> SinkhornResult:
        """Raises TransportError for a plan so far from done that it is no coupling."""
        options, start = self.options, self.start
        fits = start is not None and (start[0].size, start[1].size) == (x_n.size, y_n.size)
        plan = sinkhorn(
            x_n,
            y_n,
            options.epsilon,
            tol=options.tolerance,
            max_iterations=options.max_iterations,
            solver=self.solver,
            init=start if fits else None,
        )
        if not (plan.converged or plan.marginal_error <= _USABLE_SHARE / x_n.size):
            raise TransportError(
                f"Sinkhorn stopped after {plan.iterations} iterations with marginal error"
                f" {plan.marginal_error:.2g}; at most {_USABLE_SHARE / x_n.size:.2g} can serve as a gradient;"
                " raise transport.epsilon or transport.max_iterations, or set transport.indicator to exact"
            )
        return plan


def evaluate(
    form: Form,
    particle_n: Array,
    reference_n: Array,
    weight_n: Array,
    *,
    level: float,
    margin: float = 0.0,
    floor: float = -math.inf,
    options: TransportOptions | None = None,
    start: Potentials | None = None,
) -> ConstraintResult:
    """Evaluate one constraint form on n policy quantiles and n reference quantiles, both sorted upwards.

    Args:
        weight_n: bin weights of the spectrum, mean 1, shape (n,).
        level: ε, τ or d of the table above. margin: m ≥ 0, or the shift s of `no_worse`. floor: the least
            cost c₀, at which a shift stops. All in the unit of the particles.
        start: the potentials of an earlier result of this form; left aside if n has changed.

    Raises:
        TransportError: shapes that differ, or a Sinkhorn run so far from done that it is no coupling.
        ValueError: an unknown form, or a margin that is negative or that the form does not have.
    """
    if form not in FORMS:
        raise ValueError(f"form is {form!r}; it must be one of {', '.join(FORMS)}")
    if not margin >= 0 or (margin > 0 and form not in MARGIN_FORMS):
        raise ValueError(f"margin is {margin}; it must be ≥ 0, and 0 for forms without one")
    gap_forward = dominance_gap(particle_n, reference_n, weight_n)
    gap_reverse = dominance_gap(reference_n, particle_n, weight_n)
    transport = _Transport(options or TransportOptions(), start)
    lowered = form == "no_worse"
    shifted_n = np.maximum(reference_n - margin, floor) if lowered else reference_n + margin
    part = FORMS[form](particle_n, shifted_n, weight_n, margin, transport)
    violation = part.value - level if part.upper_bound else level - part.value
    plan = part.plan
    return ConstraintResult(
        value=part.value,
        level=level,
        violation=violation,
        satisfied=violation <= 0,
        weight_n=part.weight_n,
        activation_n=part.activation_n,
        gap_forward=gap_forward,
        gap_reverse=gap_reverse,
        iterations=plan.iterations if plan else 0,
        marginal_error=plan.marginal_error if plan else 0.0,
        converged=plan.converged if plan else True,
        potentials=(plan.f, plan.g) if plan and transport.solver == "linear" else None,
    )


def _improvement(
    particle_n: Array, shifted_n: Array, weight_n: Array, margin: float, transport: _Transport
) -> _Part:
    """L_w(C_θ, C_0 + m) − m ≥ ε; a_i = −n ∂OT_ε/∂q_i between q and y + m, or 1{y_i + m > q_i}."""
    plan = transport.plan(particle_n, shifted_n)
    activation_n = np.clip(-particle_n.size * plan.gradient, 0.0, 1.0)
    return _Part(dominance_gap(particle_n, shifted_n, weight_n) - margin, False, weight_n, activation_n, plan)


def _no_worse(
    particle_n: Array, shifted_n: Array, weight_n: Array, _margin: float, transport: _Transport
) -> _Part:
    """L_w(y', C_θ) ≤ τ, y' = max(y − s, c₀); a_i = n ∂OT_ε/∂q_i for (q_i − y'_j)₊, or 1{q_i > y'_i}."""
    plan = transport.plan(shifted_n, particle_n)
    activation_n = np.clip(particle_n.size * plan.gradient_y, 0.0, 1.0)
    return _Part(dominance_gap(shifted_n, particle_n, weight_n), True, weight_n, activation_n, plan)


def _spectral(
    particle_n: Array, reference_n: Array, weight_n: Array, _margin: float, _transport: _Transport
) -> _Part:
    """ρ_w(C_0) − ρ_w(C_θ) ≥ ε; every quantile counts."""
    value = float(weight_n @ (reference_n - particle_n) / particle_n.size)
    return _Part(value, False, weight_n, np.ones(particle_n.size))


def _expected(
    particle_n: Array, _reference_n: Array, _weight_n: Array, _margin: float, _transport: _Transport
) -> _Part:
    """E[C_θ] ≤ d, Safe RLHF (Eq. (2)): the spectrum plays no part in value or score."""
    ones = np.ones(particle_n.size)
    return _Part(float(particle_n.mean()), True, ones, ones)


FORMS: dict[str, Callable[[Array, Array, Array, float, _Transport], _Part]] = {
    "improvement": _improvement,
    "no_worse": _no_worse,
    "spectral": _spectral,
    "expected": _expected,
}
