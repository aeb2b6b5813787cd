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
(:mod:`openrlhf_rad.method.reference`); Prop. 2 then gives ρ_w(C_θ) ≤ ρ_w(C_0) − m + value, so that meeting
the constraint lowers the risk by at least m − τ.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from openrlhf_rad.errors import TransportError
from openrlhf_rad.method.transport import SinkhornResult, Solver, dominance_gap, sinkhorn

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
    """How the activations are found; epsilon in the unit of the particles, see :func:`sinkhorn`.

    Attributes:
        gap: what counts as the value: the exact gap, or ⟨P, M⟩ of the plan (Eq. (25)), of uniform weights.
    """

    epsilon: float = 0.1
    tolerance: float = 1e-9
    max_iterations: int = 1_000
    indicator: Literal["sinkhorn", "exact"] = "sinkhorn"
    gap: Literal["exact", "plan"] = "exact"


@dataclass(frozen=True)
class ConstraintResult:
    """A constraint evaluated on one batch; everything but the activations in the unit of the particles.

    Attributes:
        value, level: the left- and right-hand side of the constraint.
        violation: how far the constraint is from being met; positive when violated. It uses exact gaps unless
            the options say otherwise: the entropy biases the plan's value upwards and misleads λ.
        satisfied: violation ≤ 0.
        weight_n: the weights that the score must use: the spectrum's, or 1 for `expected`.
        activation_n: a_i in [0, 1], how much the constraint feels quantile i.
        change_g: h_i ≥ 0, by how much the constraint is further from being met at particle i + 1 than at i,
            shape (n − 1,); of the score by gaps (:mod:`openrlhf_rad.method.scores`).
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
    change_g: Array
    gap_forward: float
    gap_reverse: float
    iterations: int = 0
    marginal_error: float = 0.0
    converged: bool = True
    potentials: Potentials | None = None


@dataclass(frozen=True)
class _Part:
    """What one form adds: value, which way it is bounded, the score's weights, activations, changes, plan."""

    value: float
    upper_bound: bool
    weight_n: Array
    activation_n: Array
    change_g: Array
    plan: SinkhornResult | None = None


@dataclass(frozen=True)
class _Transport:
    """The plan of a form, by the options, from the potentials of the step before."""

    options: TransportOptions
    start: Potentials | None

    @property
    def solver(self) -> Solver:
        return "exact" if self.options.indicator == "exact" else "linear"

    def gap(self, plan: SinkhornResult, x_n: Array, y_n: Array, weight_n: Array) -> float:
        """L_w(X, Y), exact or of the plan from x_n to y_n."""
        return plan.cost if self.options.gap == "plan" else dominance_gap(x_n, y_n, weight_n)

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
    shifted_n = shifted(form, reference_n, margin, floor)
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
        change_g=part.change_g,
        gap_forward=gap_forward,
        gap_reverse=gap_reverse,
        iterations=plan.iterations if plan else 0,
        marginal_error=plan.marginal_error if plan else 0.0,
        converged=plan.converged if plan else True,
        potentials=(plan.f, plan.g) if plan and transport.solver == "linear" else None,
    )


def shifted(form: Form, reference_n: Array, margin: float, floor: float = -math.inf) -> Array:
    """The reference's quantiles that the policy's are compared with: y + m, of `no_worse` max(y − s, c₀)."""
    return np.maximum(reference_n - margin, floor) if form == "no_worse" else reference_n + margin


def _improvement(
    particle_n: Array, shifted_n: Array, weight_n: Array, margin: float, transport: _Transport
) -> _Part:
    """L_w(C_θ, C_0 + m) − m ≥ ε; a_i = −n ∂OT_ε/∂q_i between q and y + m, or 1{y_i + m > q_i}.

    ∂f/∂x = −a for the plan's potential f, so that its fall across a gap is ∫ a dq, ties or none.
    """
    plan = transport.plan(particle_n, shifted_n)
    activation_n = np.clip(-particle_n.size * plan.gradient, 0.0, 1.0)
    if transport.solver == "exact":
        change_g = exact_changes("improvement", particle_n, shifted_n)
    else:
        change_g = np.clip(-np.diff(plan.f), 0.0, np.diff(particle_n))
    value = transport.gap(plan, particle_n, shifted_n, weight_n) - margin
    return _Part(value, False, weight_n, activation_n, change_g, plan)


def _no_worse(
    particle_n: Array, shifted_n: Array, weight_n: Array, _margin: float, transport: _Transport
) -> _Part:
    """L_w(y', C_θ) ≤ τ, y' = max(y − s, c₀); a_i = n ∂OT_ε/∂q_i for (q_i − y'_j)₊, or 1{q_i > y'_i}."""
    plan = transport.plan(shifted_n, particle_n)
    activation_n = np.clip(particle_n.size * plan.gradient_y, 0.0, 1.0)
    if transport.solver == "exact":
        change_g = exact_changes("no_worse", particle_n, shifted_n)
    else:
        change_g = np.clip(np.diff(plan.g), 0.0, np.diff(particle_n))
    value = transport.gap(plan, shifted_n, particle_n, weight_n)
    return _Part(value, True, weight_n, activation_n, change_g, plan)


def exact_changes(form: Form, particle_n: Array, shifted_n: Array) -> Array:
    """h_i from the exact gaps: the change of (q − y)₊ from q_i to q_{i+1}, or of −(y − q)₊. Shape (n − 1,).

    A gap lies between the levels of y_i and y_{i+1}: the mean over both. Right on tied costs, too, where an
    indicator at one end of the gap is 0.

    Args:
        shifted_n: the reference's quantiles with the form's margin.
    """
    if form not in MARGIN_FORMS:
        return np.diff(particle_n)
    side = 1.0 if form == "no_worse" else -1.0
    low_g, high_g = particle_n[:-1], particle_n[1:]
    changes = [
        np.maximum(side * (high_g - y_g), 0.0) - np.maximum(side * (low_g - y_g), 0.0)
        for y_g in (shifted_n[:-1], shifted_n[1:])
    ]
    return np.asarray(side * (changes[0] + changes[1]) / 2)


def _spectral(
    particle_n: Array, reference_n: Array, weight_n: Array, _margin: float, _transport: _Transport
) -> _Part:
    """ρ_w(C_0) − ρ_w(C_θ) ≥ ε; every quantile counts."""
    value = float(weight_n @ (reference_n - particle_n) / particle_n.size)
    return _Part(value, False, weight_n, np.ones(particle_n.size), np.diff(particle_n))


def _expected(
    particle_n: Array, _reference_n: Array, _weight_n: Array, _margin: float, _transport: _Transport
) -> _Part:
    """E[C_θ] ≤ d, Safe RLHF (Eq. (2)): the spectrum plays no part in value or score."""
    ones = np.ones(particle_n.size)
    return _Part(float(particle_n.mean()), True, ones, ones, np.diff(particle_n))


FORMS: dict[str, Callable[[Array, Array, Array, float, _Transport], _Part]] = {
    "improvement": _improvement,
    "no_worse": _no_worse,
    "spectral": _spectral,
    "expected": _expected,
}
