"""The dual variable λ: the price of violating the constraint (the paper, Eq. (11))."""

from __future__ import annotations

import math
from collections.abc import Mapping

from openrlhf_rad.errors import ConfigError


class DualVariable:
    """λ with projected ascent, λ ← clip(λ + step · violation, 0, maximum).

    λ itself moves, not its logarithm: with log λ the step shrinks with λ, so a multiplier that once came
    near 0 takes very long to return.
    """

    def __init__(self, initial: float, step: float, maximum: float) -> None:
        if not (0 <= step < math.inf and 0 <= initial <= maximum < math.inf):
            raise ConfigError(
                f"dual initial is {initial}, step is {step}, max is {maximum}; 0 ≤ initial ≤ max and 0 ≤ step"
                " must hold and all be finite; raise dual.max or lower dual.initial"
            )
        self._value = float(initial)
        self.step = float(step)
        self.maximum = float(maximum)

    @property
    def value(self) -> float:
        """λ as it stands, per unit of the violation."""
        return self._value

    def update(self, violation: float) -> float:
        """Move λ by one ascent step and return it; a positive violation raises it.

        Raises:
            ValueError: the violation is not finite; λ is left as it was.
        """
        if not math.isfinite(violation):
            raise ValueError(f"violation is {violation}; λ moves by finite violations only; check the costs")
        self._value = min(max(self._value + self.step * violation, 0.0), self.maximum)
        return self._value

    def state_dict(self) -> dict[str, float]:
        """What a checkpoint must hold: step and maximum come from the profile."""
        return {"value": self._value}

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        """Restore λ; a λ above the present maximum is lowered to it."""
        value = float(state["value"])
        if not (math.isfinite(value) and value >= 0):
            raise ConfigError(
                f"the checkpoint's λ is {value}; it must be finite and ≥ 0; resume from another one"
            )
        self._value = min(value, self.maximum)
