"""What the method is told: plain frozen records. A profile makes them; so may anyone by hand.

Amounts of cost (:class:`Level`) may be relative to the reference costs; they are resolved once these are
known (:func:`~openrlhf_rad.method.reference.resolve`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import ArrayLike

from openrlhf_rad.errors import ReferenceCostError
from openrlhf_rad.method.spectrum import Spectrum

FormName = Literal["improvement", "no_worse", "spectral", "expected"]
Gradient = Literal["leave_one_out", "spacing", "tilted"]
Indicator = Literal["sinkhorn", "exact"]
Gap = Literal["exact", "plan"]
Method = Literal["ascent", "log", "adam", "pid"]
Estimate = Literal["last", "ema", "window"]
Units = Literal["spread", "cost"]
Unit = Literal["cost", "risk", "spread", "quantile"]

#: Fewer costs say nothing about a tail, and their spread, the unit of λ, is noise.
MINIMUM_REFERENCE = 8

#: A number and a share of the reference's, as regular expressions of Python and of JSON Schema.
NUMBER = r"[-+]?(?:[0-9]{1,30}\.?[0-9]{0,30}|\.[0-9]{1,30})(?:[eE][-+]?[0-9]{1,4})?"
PATTERN = rf"{NUMBER}\s?%?\s+of\s+(?:the\s+)?reference\s+(?:risk|spread)"
_SHARE = re.compile(rf"\s*({NUMBER})\s?(%)?\s+of\s+(?:the\s+)?reference\s+(risk|spread)\s*")
_QUANTILE = re.compile(rf"\s*reference\s+quantile\s+({NUMBER})\s*")


@dataclass(frozen=True)
class Level:
    """An amount of cost: in the cost's own units, or relative to the reference costs C_0.

    Attributes:
        value: the number; 0.2 for "20% of reference risk", 0.9 for "reference quantile 0.9".
        unit: `cost` (own units), `risk` (times ρ_w(C_0)), `spread` (times the standard deviation of C_0) or
            `quantile` (F_0⁻¹(value), a cost to stay below rather than an amount to gain).
    """

    value: float
    unit: Unit = "cost"

    @classmethod
    def parse(cls, raw: float | str) -> Level:
        """Read `0.3`, "20% of reference risk", "0.5 of reference spread" or "reference quantile 0.9".

        Raises:
            ValueError: anything else.
        """
        if not isinstance(raw, str):
            return cls(float(raw))
        if share := _SHARE.fullmatch(raw):
            number, percent, unit = share.groups()
            return cls(float(number) / (100 if percent else 1), "risk" if unit == "risk" else "spread")
        if quantile := _QUANTILE.fullmatch(raw):
            return cls(float(quantile[1]), "quantile")
        raise ValueError(raw)

    def resolve(self, reference_r: ArrayLike, reference_risk: float) -> float:
        """The amount in the cost's own units.

        Args:
            reference_r: the reference costs, any order.
            reference_risk: what a share of "reference risk" is a share of.

        Raises:
            ReferenceCostError: for a share of a risk ≤ 0.
        """
        if self.unit == "cost":
            return self.value
        costs = np.asarray(reference_r, dtype=np.float64)
        if self.unit == "spread":
            return self.value * float(np.std(costs))
        if self.unit == "quantile":
            return float(np.quantile(costs, self.value, method="inverted_cdf"))
        if reference_risk <= 0:
            raise ReferenceCostError(
                f"the level is {self} and the reference risk is {reference_risk:.4g}; a share of a risk needs"
                " a positive risk; use spread, for instance 20% of reference spread"
            )
        return self.value * reference_risk

    def plain(self) -> float | str:
        """As a profile writes it; :meth:`parse` reads it back."""
        if self.unit == "cost":
            return self.value
        if self.unit == "quantile":
            return f"reference quantile {self.value!r}"
        return f"{self.value!r} of reference {self.unit}"

    def __str__(self) -> str:
        if self.unit == "cost":
            return f"{self.value:g}"
        if self.unit == "quantile":
            return f"reference quantile {self.value:g}"
        return f"{self.value:.6g} of reference {self.unit}"


@dataclass(frozen=True)
class ConstraintSettings:
    """What is asked of the policy's costs.

    Attributes:
        form: a name of :data:`~openrlhf_rad.method.constraint.FORMS`.
        level: ε, τ or d of the form. margin: m, how far the reference is shifted.
        floor: the least cost that an answer can have; None: the least of the reference sample.
        gradient: the estimator, see :func:`~openrlhf_rad.method.scores.score`.
        tails: whether gaps between heavy-tailed costs are winsorised.
    """

    form: FormName = "no_worse"
    # All forms ask for the same: a risk lower by 0.4 spreads. Of `no_worse` the level is also the most slack
    # there can be, for a gap is never negative: with level 0 λ could only rise, and with 0.1 it comes down at
    # most half as fast as with 0.2.
    level: Level = Level(0.2, "spread")
    margin: Level = Level(0.6, "spread")
    floor: float | None = None
    gradient: Gradient = "leave_one_out"
    tails: Literal["winsorised", "whole"] = "winsorised"


@dataclass(frozen=True)
class TransportSettings:
    """How the quantile activations are found.

    Attributes:
        epsilon: entropy of the plan (Eq. (6)), in the unit of the particles. None of particles: one a sample.
        tolerance: the marginal error at which the solver stops, after ``max_iterations`` steps at most.
        indicator: activations from the smooth plan, or the exact indicator of the sorted pairs.
    """

    epsilon: float = 0.1
    particles: int | None = None
    tolerance: float = 1e-9
    max_iterations: int = 1_000
    indicator: Indicator = "sinkhorn"


@dataclass(frozen=True)
class DualSettings:
    """How λ moves, by what, and how sure of it (Eq. (11)); see :mod:`openrlhf_rad.method.dual`.

    Attributes:
        initial, step, max: of λ, per unit of the violation.
        gap: the gap whose violation moves λ: the exact one, or ⟨P, M⟩ of the plan (Eq. (25)).
        memory: batches of an average. confidence: of the bound on the violation; None: the violation itself.
        proportional, derivative, smoothing, delay: of `pid`.
    """

    initial: float = 1.0
    step: float = 0.1
    max: float = 10.0
    method: Method = "ascent"
    gap: Gap = "exact"
    estimate: Estimate = "last"
    memory: int = 8
    confidence: float | None = None
    proportional: float = 0.5
    derivative: float = 0.0
    smoothing: float = 0.5
    delay: int = 5


@dataclass(frozen=True)
class CostSource:
    """Where costs come from.

    Attributes:
        location: what it is called: a path, a name on a hub, an address.
        settings: of a kind that has some, frozen (:mod:`openrlhf_rad.profile.costs`); else None.
    """

    kind: Literal["model", "classifier", "judge", "ensemble", "function", "remote_url"]
    location: str
    settings: Any = None


@dataclass(frozen=True)
class Constraint:
    """One unit of training: its own samples, reference costs, spectrum, level and λ.

    Attributes:
        name: the key under `constraints`; `cost` in a profile without that section. With a segment,
            "NAME.SEGMENT".
        segment: the label of the prompts that it holds for; None for all prompts …
        excluded: … but those with one of these labels, which have constraints of their own.
        values: that its cost can have, rising, where it has few; of a scale none.
    """

    name: str
    risk: Spectrum
    settings: ConstraintSettings = field(default_factory=ConstraintSettings)
    dual: DualSettings = field(default_factory=DualSettings)
    cost: CostSource | None = None
    segment: str | None = None
    excluded: tuple[str, ...] = ()
    values: tuple[float, ...] = ()

    @property
    def family(self) -> str:
        """The name without the segment."""
        return self.name if self.segment is None else self.name.removesuffix(f".{self.segment}")

    def holds_for(self, label: str | None) -> bool:
        """Whether it bounds the answers to prompts of this label; None is a prompt without one."""
        return label == self.segment if self.segment is not None else label not in self.excluded


class Settings(Protocol):
    """All that the method reads of a profile."""

    @property
    def constraints(self) -> tuple[Constraint, ...]:
        """In the order of the profile, one for each segment."""

    @property
    def units(self) -> Units:
        """What λ and the entropy of the plan are counted in: spreads of the reference, or the cost's unit."""

    @property
    def transport(self) -> TransportSettings:
        """Of all constraints."""


def named_costs(settings: Settings) -> dict[str, CostSource | None]:
    """Name → source of each cost; None where no source is named yet.

    The name is that of the first constraint that uses the source, without the segment. Constraints of one
    source share its costs.
    """
    names: dict[CostSource | None, str] = {}
    for constraint in settings.constraints:
        names.setdefault(constraint.cost, constraint.family)
    return {name: source for source, name in names.items()}


def cost_name(settings: Settings, constraint: Constraint) -> str:
    """The name of the cost that a constraint bounds."""
    return next(name for name, source in named_costs(settings).items() if source == constraint.cost)
