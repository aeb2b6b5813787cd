"""The four forms of constraint on policy and reference quantiles (the paper, Eqs. (2), (10), (15) and (16)).

| form        | constraint                     | meets when | fall δ      | the most that can be asked |
|-------------|--------------------------------|------------|-------------|----------------------------|
| improvement | L_w(C_θ, C_0 + m) − m ≥ ε      | value ≥ ε  | ε           | ε = R                      |
| no_worse    | L_w(max(C_0 − s, c₀), C_θ) ≤ τ | value ≤ τ  | m − τ       | m = τ + R                  |
| spectral    | ρ_w(C_0) − ρ_w(C_θ) ≥ ε        | value ≥ ε  | ε           | ε = R                      |
| expected    | E[C_θ] ≤ d                     | value ≤ d  | E[C_0] − d  | d = the least cost         |

The value is the left-hand side. The fall δ is by how much the risk (for `expected` the mean) must lie below
the reference's; R is the fall to the least cost that there is.

At π_θ = π_ref every gap is 0, and the estimate of one is positive by noise: without a margin some of the
quantiles of `improvement`, the paper's own constraint, count at step 0, and a small ε is met untrained. A
margin m shifts the reference so that all quantiles count; as m → ∞ `improvement` turns into `spectral`. Of
`no_worse` the shift stops at the least cost c₀, and s is such that the risk falls by m all the same; Prop. 2
then gives ρ_w(C_θ) ≤ ρ_w(C_0) − m + value, so that meeting the constraint lowers the risk by at least m − τ.

A new form is a class and its entry of :data:`FORMS`. Whatever depends on the form asks it.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from openrlhf_rad.errors import TransportError
from openrlhf_rad.method.settings import ConstraintSettings, FormName, Gap, Level, TransportSettings
from openrlhf_rad.method.spectrum import MEAN, Spectrum
from openrlhf_rad.method.transport import SinkhornResult, dominance_gap, sinkhorn

Array = NDArray[np.float64]
Potentials = tuple[Array, Array]

# A plan that missed its tolerance may still serve as a gradient while each particle's mass is right within
# one per cent; beyond that it is no coupling.
_USABLE_SHARE = 0.01


@dataclass(frozen=True)
class ConstraintResult:
    """A constraint evaluated on one batch; everything but the activations in the unit of the particles.

    Attributes:
        value, level: the left- and right-hand side of the constraint.
        violation: how far the constraint is from being met; positive when violated. It uses exact gaps unless
            told otherwise: the entropy biases the plan's value upwards and misleads λ.
        weight_n: the weights that the score must use: the spectrum's, or 1 for `expected`.
        activation_n: a_i in [0, 1], how much the constraint feels quantile i.
        change_g: h_i ≥ 0, by how much the constraint is further from being met at particle i + 1 than at i,
            shape (n − 1,); of the score by gaps (:mod:`openrlhf_rad.method.scores`).
        exact_n, exact_g: the same by the exact indicator, as the violation feels the quantiles.
        gap_forward, gap_reverse: L_w(C_θ, C_0) and L_w(C_0, C_θ), exact and without margin.
        plan: of the Sinkhorn run; None where none was needed.
    """

    value: float
    level: float
    violation: float
    weight_n: Array
    activation_n: Array
    change_g: Array
    exact_n: Array
    exact_g: Array
    gap_forward: float
    gap_reverse: float
    plan: SinkhornResult | None = None

    @property
    def satisfied(self) -> bool:
        """Whether the constraint is met."""
        return self.violation <= 0

    @property
    def potentials(self) -> Potentials | None:
        """(f, g) of the run, a start for the next step's; None where there was none."""
        if self.plan is None or np.isnan(self.plan.f[0]):  # the monotone plan has none
            return None
        return self.plan.f, self.plan.g


def evaluate(
    form: FormName,
    particle_n: Array,
    reference_n: Array,
    weight_n: Array,
    *,
    level: float,
    margin: float = 0.0,
    floor: float = -math.inf,
    transport: TransportSettings | None = None,
    gap: Gap = "exact",
    start: Potentials | None = None,
) -> ConstraintResult:
    """Evaluate one constraint form on n policy quantiles and n reference quantiles, both sorted upwards.

    Args:
        weight_n: bin weights of the spectrum, mean 1, shape (n,).
        level: ε, τ or d of the table above. margin: m ≥ 0, or the shift s of `no_worse`. floor: the least
            cost c₀, at which a shift stops. All in the unit of the particles, as is ``transport.epsilon``.
        gap: what counts as the value: the exact gap, or ⟨P, M⟩ of the plan (Eq. (25)), of uniform weights.
        start: the potentials of an earlier result of this form; left aside if n has changed.

    Raises:
        TransportError: shapes that differ, or a Sinkhorn run so far from done that it is no coupling.
        ValueError: an unknown form, or a margin that is negative or that the form does not have.
    """
    if form not in FORMS:
        raise ValueError(f"form is {form!r}; it must be one of {', '.join(FORMS)}")
    rule = FORMS[form]
    if not margin >= 0 or (margin > 0 and not rule.pairs):
        raise ValueError(f"margin is {margin}; it must be ≥ 0, and 0 for forms without one")
    gap_forward = dominance_gap(particle_n, reference_n, weight_n)
    gap_reverse = dominance_gap(reference_n, particle_n, weight_n)
    sides = Compared(particle_n, rule.shifted(reference_n, margin, floor), margin)
    activation_n, change_g, plan = rule.activation(sides, transport or TransportSettings(), start)
    value = rule.value(sides, weight_n, plan if gap == "plan" else None)
    return ConstraintResult(
        value=value,
        level=level,
        violation=value - level if rule.upper_bound else level - value,
        weight_n=weight_n if rule.weighted else np.ones(particle_n.size),
        activation_n=activation_n,
        change_g=change_g,
        exact_n=rule.felt(sides),
        exact_g=rule.changes(sides),
        gap_forward=gap_forward,
        gap_reverse=gap_reverse,
        plan=plan,
    )


class Compared(NamedTuple):
    """What a form compares: the policy's quantiles, the reference's shifted ones, and the shift."""

    particle_n: Array
    shifted_n: Array
    shift: float = 0.0


class Form(ABC):
    """One form of constraint: an average of the policy's costs, unless ``pairs``.

    Attributes:
        name, formula: as profiles and the method write it.
        requirement: what must hold, a sentence with places for the level and the margin.
        defaults: level and margin where a profile says nothing. All forms ask for the same by default.
        measured: what must fall.
        pairs: whether quantiles are compared one by one with those of a shifted reference. Such a form has
            a margin and a transport plan; the others compare averages, which a shift leaves in place.
        by_margin: whether the margin says how much is asked, the level being slack.
        upper_bound: whether the value must stay below the level.
        weighted: whether the spectrum plays a part.
    """

    name: ClassVar[FormName]
    formula: ClassVar[str]
    requirement: ClassVar[str]
    defaults: ClassVar[tuple[Level, Level]]
    measured: ClassVar[str] = "risk"
    pairs: ClassVar[bool] = False
    by_margin: ClassVar[bool] = False
    upper_bound: ClassVar[bool] = False
    weighted: ClassVar[bool] = True

    def spectrum(self, risk: Spectrum) -> Spectrum:
        """The spectrum that is bounded, of the risk of a profile."""
        return risk if self.weighted else MEAN

    # What is asked.

    def figure(self, cost_r: Array, weight_r: Array) -> float:
        """What must fall, of sorted costs and the weights of the spectrum that is bounded."""
        return float(weight_r @ cost_r / cost_r.size)

    def threshold(self, level: Level) -> bool:
        """Whether a level is a cost to stay below, whatever the risk of the reference."""
        return level.unit == "quantile"

    def level(self, level: Level, cost_r: Array, present: float) -> float:
        """ε, τ or d in the cost's own units, of reference costs whose figure is ``present``."""
        amount = level.resolve(cost_r, present)
        return present - amount if self.threshold(level) else amount

    def fall(self, level: float, _margin: float, _present: float) -> float:
        """δ of a resolved level and margin."""
        return level

    def asking(self, _given: float, _fall: float, other: float) -> float:
        """The level, or the margin of a form ``by_margin``, for another fall than the given one's."""
        return other

    def shift(
        self, level: float, margin: float, _reach: float, _room_r: Array, _weight_r: Array
    ) -> tuple[float, float]:
        """The level that can be kept, and by how much the reference's quantiles move.

        Args:
            _reach: R. _room_r: how far each cost of the reference lies above the least, sorted.
            _weight_r: of the spectrum.
        """
        return level, margin

    def asked(self, level: Level, _margin: Level) -> Level | None:
        """By how much the figure falls once the constraint is met; None where no number of a file says it."""
        return None if self.threshold(level) else level

    def doubt(self, _settings: ConstraintSettings) -> str:
        """What is allowed and yet worth knowing; empty for nothing."""
        return ""

    # What a batch says of it.

    def shifted(self, reference_n: Array, shift: float, _floor: float = -math.inf) -> Array:
        """The reference's quantiles that the policy's are compared with."""
        return reference_n + shift

    @abstractmethod
    def value(self, sides: Compared, weight_n: Array, plan: SinkhornResult | None) -> float:
        """The left-hand side, exact, or of a plan from Eq. (25)."""

    def activation(
        self, sides: Compared, _transport: TransportSettings, _start: Potentials | None
    ) -> tuple[Array, Array, SinkhornResult | None]:
        """activation_n and change_g of :class:`ConstraintResult`, and the plan that they are from, if any."""
        return self.felt(sides), self.changes(sides), None

    def felt(self, sides: Compared) -> Array:
        """1 where the violation moves with quantile i, else 0; a tie counts, as either side of it may."""
        return np.ones(sides.particle_n.size)

    def changes(self, sides: Compared) -> Array:
        """change_g from the exact gaps, shape (n − 1,)."""
        return np.diff(sides.particle_n)

    def reference_changes(self, reference_r: Array, _beside_g: Array, _shift: float, _floor: float) -> Array:
        """The same of the reference's sorted costs, beside_g being the policy's quantile at each gap."""
        return np.diff(reference_r)


class Spectral(Form):
    """ρ_w(C_0) − ρ_w(C_θ) ≥ ε; every quantile counts."""

    name = "spectral"
    formula = "ρ_w(C_0) − ρ_w(C_θ) ≥ ε"
    requirement = "the risk must lie below the reference's by {level}"
    defaults = Level(0.4, "spread"), Level(0.0)

    def value(self, sides: Compared, weight_n: Array, _plan: SinkhornResult | None) -> float:
        """ρ_w(C_0) − ρ_w(C_θ)."""
        return float(weight_n @ (sides.shifted_n - sides.particle_n) / weight_n.size)


class Expected(Form):
    """E[C_θ] ≤ d, Safe RLHF (Eq. (2)): the spectrum plays no part in value or score.

    A level that is a number is the threshold d itself; a share of the reference's risk or spread is the
    amount by which d lies below E[C_0]; a quantile is d = F_0⁻¹(p).
    """

    name = "expected"
    formula = "E[C_θ] ≤ d"
    requirement = "the mean cost must lie below the reference's by {level}"
    defaults = Spectral.defaults
    measured = "mean cost"
    upper_bound = True
    weighted = False

    def figure(self, cost_r: Array, _weight_r: Array) -> float:
        """The mean."""
        return float(cost_r.mean())

    def threshold(self, level: Level) -> bool:
        """A number is one, too."""
        return level.unit in ("cost", "quantile")

    def level(self, level: Level, cost_r: Array, present: float) -> float:
        """d."""
        amount = level.resolve(cost_r, present)
        return amount if self.threshold(level) else present - amount

    def fall(self, level: float, _margin: float, present: float) -> float:
        """E[C_0] − d."""
        return present - level

    def asking(self, given: float, fall: float, other: float) -> float:
        """d."""
        return given + fall - other

    def value(self, sides: Compared, _weight_n: Array, _plan: SinkhornResult | None) -> float:
        """E[C_θ]."""
        return float(sides.particle_n.mean())


class _Paired(Form):
    """A gap between the policy's quantiles and those of the shifted reference.

    Attributes:
        side: 1 where policy quantiles above the reference's count, −1 where those below do.
    """

    pairs = True
    side: ClassVar[float]

    def _pair(self, sides: Compared) -> tuple[Array, Array]:
        """What moves up to what in the gap L_w(X, Y)."""
        particle_n, shifted_n, _ = sides
        return (shifted_n, particle_n) if self.side > 0 else (particle_n, shifted_n)

    def value(self, sides: Compared, weight_n: Array, plan: SinkhornResult | None) -> float:
        """L_w(X, Y)."""
        return plan.cost if plan else dominance_gap(*self._pair(sides), weight_n)

    def activation(
        self, sides: Compared, transport: TransportSettings, start: Potentials | None
    ) -> tuple[Array, Array, SinkhornResult]:
        """Of the plan's gradient; its potential changes across a gap by ∫ a dq, ties or none."""
        plan, particle_n = _plan(*self._pair(sides), transport, start), sides.particle_n
        gradient_n, potential_n = (plan.gradient_y, plan.g) if self.side > 0 else (plan.gradient, plan.f)
        change_g = (
            self.changes(sides)
            if transport.indicator == "exact"
            else np.clip(self.side * np.diff(potential_n), 0.0, np.diff(particle_n))
        )
        return np.clip(self.side * particle_n.size * gradient_n, 0.0, 1.0), change_g, plan

    def felt(self, sides: Compared) -> Array:
        """1 on the side that counts."""
        return (self.side * (sides.particle_n - sides.shifted_n) >= 0).astype(np.float64)

    def changes(self, sides: Compared) -> Array:
        """The change of (q − y)₊ from q_i to q_{i+1}, or of −(y − q)₊.

        A gap lies between the levels of y_i and y_{i+1}: the mean over both. Right on tied costs, too, where
        an indicator at one end of the gap is 0.
        """
        particle_n, shifted_n, _ = sides
        low_g, high_g = particle_n[:-1], particle_n[1:]
        first, second = (
            np.maximum(self.side * (high_g - y_g), 0.0) - np.maximum(self.side * (low_g - y_g), 0.0)
            for y_g in (shifted_n[:-1], shifted_n[1:])
        )
        return np.asarray(self.side * (first + second) / 2)

    def reference_changes(self, reference_r: Array, beside_g: Array, shift: float, floor: float) -> Array:
        """The same from y_{i+1} to y_i."""
        shifted_r = self.shifted(reference_r, shift, floor)
        low, high = (np.maximum(self.side * (beside_g - y_g), 0.0) for y_g in (shifted_r[:-1], shifted_r[1:]))
        return np.asarray(self.side * (low - high))


class Improvement(_Paired):
    """L_w(C_θ, C_0 + m) − m ≥ ε; a_i = −n ∂OT_ε/∂q_i between q and y + m, or 1{y_i + m > q_i}."""

    name = "improvement"
    formula = "L_w(C_θ, C_0 + m) − m ≥ ε"
    requirement = "counted quantile by quantile, costs must lie below the reference's by {level} in all"
    defaults = Level(0.4, "spread"), Level(0.6, "spread")
    side = -1.0

    def asked(self, _level: Level, _margin: Level) -> Level | None:
        """None: quantiles that rose above the reference are not held against it."""
        return None

    def doubt(self, settings: ConstraintSettings) -> str:
        """Without a margin."""
        if settings.margin.value:
            return ""
        return (
            "form improvement with margin 0 takes noise for a gap: at step 0 the estimated gap is positive,"
            " so that a small level is met untrained, and half of the quantiles have no gradient; set"
            " constraint.margin, for instance 60% of reference spread"
        )

    def value(self, sides: Compared, weight_n: Array, plan: SinkhornResult | None) -> float:
        """L_w(C_θ, C_0 + m) − m."""
        return super().value(sides, weight_n, plan) - sides.shift


class NoWorse(_Paired):
    """L_w(y', C_θ) ≤ τ, y' = max(y − s, c₀); a_i = n ∂OT_ε/∂q_i for (q_i − y'_j)₊, or 1{q_i > y'_i}."""

    name = "no_worse"
    formula = "L_w(C_0 − m, C_θ) ≤ τ"
    requirement = (
        "quantile by quantile, costs must lie below the reference's shifted down by {margin}; on weighted"
        " average {level} of excess is allowed"
    )
    defaults = ConstraintSettings.level, ConstraintSettings.margin
    by_margin = upper_bound = True
    side = 1.0

    def fall(self, level: float, margin: float, _present: float) -> float:
        """m − τ."""
        return margin - level

    def asking(self, given: float, fall: float, other: float) -> float:
        """m."""
        return given - fall + other

    def shift(
        self, level: float, margin: float, reach: float, room_r: Array, weight_r: Array
    ) -> tuple[float, float]:
        """The s of Σ w_i min(s, y_i − least)/N = margin, or the one that brings every y_i to ``least``.

        What the margin asks beyond comes off the slack.
        """
        slack, share_r = level - max(margin - reach, 0.0), weight_r / weight_r.size
        if not (share_r[room_r < margin] > 0).any():
            return slack, margin
        # Piecewise linear in s: up to room_k those below k have fallen as far as they can, the others by s.
        fallen_r = np.append(0.0, np.cumsum(share_r * room_r)[:-1])
        rest_r = np.cumsum(share_r[::-1])[::-1]
        reached = int(np.searchsorted(fallen_r + rest_r * room_r, margin))
        if reached == room_r.size:
            return slack, float(room_r[-1])
        return slack, float(min((margin - fallen_r[reached]) / rest_r[reached], room_r[reached]))

    def asked(self, level: Level, margin: Level) -> Level | None:
        """By Prop. 2, margin − level at least."""
        if level.unit != margin.unit and level.value != 0:
            return None
        return Level(float(f"{margin.value - level.value:.12g}"), margin.unit)  # 0.6 − 0.2 as people know it

    def doubt(self, settings: ConstraintSettings) -> str:
        """Without slack."""
        if settings.level.value:
            return ""
        return (
            "form no_worse with level 0 never has slack, for no gap is negative, so λ can only rise;"
            " set constraint.level, for instance 20% of reference spread"
        )

    def shifted(self, reference_n: Array, shift: float, floor: float = -math.inf) -> Array:
        """max(y − s, c₀)."""
        return np.maximum(reference_n - shift, floor)


FORMS: dict[str, Form] = {form.name: form for form in (NoWorse(), Improvement(), Spectral(), Expected())}


def _plan(x_n: Array, y_n: Array, transport: TransportSettings, start: Potentials | None) -> SinkhornResult:
    """Raises TransportError for a plan so far from done that it is no coupling."""
    fits = start is not None and (start[0].size, start[1].size) == (x_n.size, y_n.size)
    plan = sinkhorn(
        x_n,
        y_n,
        transport.epsilon,
        tol=transport.tolerance,
        max_iterations=transport.max_iterations,
        solver="exact" if transport.indicator == "exact" else "linear",
        init=start if fits else None,
    )
    if not (plan.converged or plan.marginal_error <= _USABLE_SHARE / x_n.size):
        raise TransportError(
            f"Sinkhorn stopped after {plan.iterations} iterations with marginal error"
            f" {plan.marginal_error:.2g}; at most {_USABLE_SHARE / x_n.size:.2g} can serve as a gradient;"
            " raise transport.epsilon or transport.max_iterations, or set transport.indicator to exact"
        )
    return plan
