"""Projected ascent on λ, and what every dual variable shares: bounds, stages, state."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from openrlhf_rad.errors import ConfigError
from openrlhf_rad.method.dual.confidence import upper_confidence_bound
from openrlhf_rad.method.dual.estimate import Estimate, Last


class DualVariable:
    """λ with projected ascent, λ ← clip(λ + step · violation, 0, maximum).

    λ itself moves, not its logarithm: with log λ the step shrinks with λ, so a multiplier that once came
    near 0 takes very long to return.

    Args:
        estimate: what counts as the violation; None is the last batch's.
        confidence: such as 0.9: the violation is replaced by its upper confidence bound; None leaves it.
    """

    method = "ascent"

    def __init__(
        self,
        initial: float,
        step: float,
        maximum: float,
        *,
        estimate: Estimate | None = None,
        confidence: float | None = None,
    ) -> None:
        if not (0 <= step < math.inf and 0 <= initial <= maximum < math.inf):
            raise ConfigError(
                f"dual initial is {initial}, step is {step}, max is {maximum}; 0 ≤ initial ≤ max and 0 ≤ step"
                " must hold and all be finite; raise dual.max or lower dual.initial"
            )
        self._value = float(initial)
        self.step = float(step)
        self.maximum = float(maximum)
        self._estimate = estimate or Last()
        self._confidence = confidence
        #: The violation by which λ moved last: the estimate, or its bound; 0 before the first update.
        self.moved_by = 0.0

    @property
    def value(self) -> float:
        """λ as it stands, per unit of the violation."""
        return self._value

    def update(
        self,
        violation: float,
        standard_error: float = 0.0,
        samples: float | None = None,
        *,
        reference_error: float = 0.0,
        share: float = 1.0,
    ) -> float:
        """Move λ by one step and return it; a positive violation raises it.

        Args:
            violation: of one batch, positive when the constraint is missed.
            standard_error: of that violation, see :func:`~openrlhf_rad.method.dual.violation_standard_error`.
            samples: how many samples carry it, for Student's t; None takes the normal distribution.
            reference_error: of that violation by the sample of reference costs, see
                :func:`~openrlhf_rad.method.dual.reference_standard_error`. All batches share it, so that
                no average over them makes it smaller.
            share: of the samples that are new, in (0, 1]; the step is so much shorter.

        Raises:
            ValueError: a value is not finite, or the error is negative; λ is left as it was.
        """
        if not math.isfinite(violation):
            raise ValueError(f"violation is {violation}; λ moves by finite violations only; check the costs")
        for name, error in (("standard_error", standard_error), ("reference_error", reference_error)):
            if not 0 <= error < math.inf:
                raise ValueError(f"{name} is {error}; it must be finite and ≥ 0; check the costs")
        mean, error = self._estimate.add(float(violation), float(standard_error))
        if self._confidence is not None:
            whole = math.hypot(error, reference_error)
            mean = upper_confidence_bound(mean, whole, self._confidence, samples)
        self.moved_by = mean
        self._value = self._project(self._move(mean, self.step * share))
        return self._value

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint must hold, bit by bit also through JSON; settings come from the profile."""
        return {
            "method": self.method,
            "value": self._value,
            "estimate": self._estimate.state_dict(),
            **self._state(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore λ and all that moves it; a λ above the present maximum is lowered to it.

        Raises:
            ConfigError: the state of another method or estimate, or a λ that is not finite and ≥ 0.
        """
        # Checkpoints of version 0.1.0 hold the value alone: ascent on the last batch.
        method = state.get("method", DualVariable.method)
        if method != self.method:
            raise ConfigError(
                f"the checkpoint's λ moved by dual.method {method}, the profile says {self.method}; its state"
                f" fits the same method only; write dual.method: {method}, or start a new run"
            )
        value = float(state["value"])
        if not (math.isfinite(value) and value >= 0):
            raise ConfigError(
                f"the checkpoint's λ is {value}; it must be finite and ≥ 0; resume from another one"
            )
        try:
            self._estimate.load_state_dict(state.get("estimate", {}))
            self._load(state)
        except KeyError as missing:
            raise ConfigError(
                f"the checkpoint's λ has no {missing}; dual.estimate and dual.method must be those of the"
                " run that wrote it; set them back, or start a new run"
            ) from None
        self._value = min(value, self.maximum)

    def start_at(self, value: float) -> None:
        """Begin at another λ than the initial one, such as that of a run under another profile."""
        self._value = self._project(value)

    def _project(self, value: float) -> float:
        return min(max(value, 0.0), self.maximum)

    def _move(self, violation: float, step: float) -> float:
        """Where λ goes before the projection."""
        return self._value + step * violation

    def _state(self) -> dict[str, Any]:
        """What a method keeps beside λ."""
        return {}

    def _load(self, state: Mapping[str, Any]) -> None:
        """Restore what :meth:`_state` gave; KeyError where it is missing."""
