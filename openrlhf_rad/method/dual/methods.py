"""Three other ways to move λ: in log-space as Safe RLHF, by Adam and by a PID controller as OmniSafe.

Sources: Dai et al. 2023, "Safe RLHF" (PKU-Alignment/safe-rlhf, `ppo_lag/trainer.py`); Stooke, Achiam and
Abbeel 2020, "Responsive Safety in Reinforcement Learning by PID Lagrangian Methods"; Ji et al. 2023,
"OmniSafe" (PKU-Alignment/omnisafe, `common/lagrange.py`, `common/pid_lagrange.py`).
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from typing import Any

from openrlhf_rad.errors import ConfigError
from openrlhf_rad.method.dual.variable import DualVariable


class LogDual(DualVariable):
    """Gradient ascent on log λ, as Safe RLHF: λ ← min(λ · exp(step · λ · violation), maximum).

    λ never reaches 0, and near 0 it hardly moves, in either direction.
    """

    method = "log"

    def __init__(self, initial: float, step: float, maximum: float, **stages: Any) -> None:
        super().__init__(initial, step, maximum, **stages)
        if not self._value > 0:
            raise ConfigError(
                f"dual.initial is {initial}; with dual.method log it must be > 0, for λ moves in proportion"
                " to itself; use 1"
            )

    def start_at(self, value: float) -> None:
        """As for any other; a λ of 0 could never rise, so that the initial one stays."""
        if value > 0:
            super().start_at(value)

    def _move(self, violation: float, step: float) -> float:
        growth = step * self._value * violation
        return self.maximum if growth > 700 else self._value * math.exp(growth)  # exp(709) is the largest

    def _project(self, value: float) -> float:
        # A λ that underflowed to 0 would stay there for ever.
        return min(max(value, 5e-324), self.maximum)


class AdamDual(DualVariable):
    """Adam on λ (Kingma and Ba 2015, as in torch.optim), projected: step is about the move a step.

    The move hardly depends on how large the violation is, only on how steady its sign is.
    """

    method = "adam"
    _BETA1, _BETA2, _EPSILON = 0.9, 0.999, 1e-8

    def __init__(self, initial: float, step: float, maximum: float, **stages: Any) -> None:
        super().__init__(initial, step, maximum, **stages)
        self._count, self._first, self._second = 0, 0.0, 0.0

    def _move(self, violation: float, step: float) -> float:
        self._count += 1
        self._first = self._BETA1 * self._first + (1 - self._BETA1) * violation
        self._second = self._BETA2 * self._second + (1 - self._BETA2) * violation**2
        mean = self._first / (1 - self._BETA1**self._count)
        scale = math.sqrt(self._second / (1 - self._BETA2**self._count))
        return self._value + step * mean / (scale + self._EPSILON)

    def _state(self) -> dict[str, Any]:
        return {"count": self._count, "first": self._first, "second": self._second}

    def _load(self, state: Mapping[str, Any]) -> None:
        self._count = int(state["count"])
        self._first, self._second = float(state["first"]), float(state["second"])


class PidDual(DualVariable):
    """A PID controller: λ = clip(K_P · e + I + K_D · (change of e)₊, 0, maximum), I ← I + step · violation.

    Projected ascent is its integral part alone. e is the violation smoothed exponentially; its change is
    taken over ``delay`` steps and counts only while the violation grows (Stooke et al., Algorithm 2).

    Anti-windup: OmniSafe keeps I ≥ 0 only, so that while λ is held at its maximum I grows on, and later holds
    λ there long after the constraint is met. Here I stays in [0, maximum], and does not grow while λ is at
    its maximum (conditional integration).

    Args:
        proportional, derivative: the gains K_P and K_D; K_I is ``step``.
        smoothing: of e, in [0, 1); 0 takes each violation as it is.
        delay: steps over which the change of e is taken.
    """

    method = "pid"

    def __init__(
        self,
        initial: float,
        step: float,
        maximum: float,
        *,
        proportional: float,
        derivative: float,
        smoothing: float,
        delay: int,
        **stages: Any,
    ) -> None:
        super().__init__(initial, step, maximum, **stages)
        self._gains = (proportional, derivative)
        self._smoothing = smoothing
        self._integral = self._value
        self._smooth: float | None = None
        self._past: deque[float] = deque(maxlen=delay)

    def start_at(self, value: float) -> None:
        """As for any other; the integral holds it there."""
        super().start_at(value)
        self._integral = self._value

    def _move(self, violation: float, step: float) -> float:
        # The first violation starts the average: an average started at 0 would take it for a rise.
        old = violation if self._smooth is None else self._smooth
        self._smooth = self._smoothing * old + (1 - self._smoothing) * violation
        change = max(0.0, self._smooth - self._past[0]) if self._past else 0.0
        self._past.append(self._smooth)
        proportional, derivative = self._gains
        push = proportional * self._smooth + derivative * change
        grown = min(max(self._integral + step * violation, 0.0), self.maximum)
        if violation <= 0 or self._integral + push < self.maximum:
            self._integral = grown
        return self._integral + push

    def _state(self) -> dict[str, Any]:
        return {"integral": self._integral, "smooth": self._smooth, "past": list(self._past)}

    def _load(self, state: Mapping[str, Any]) -> None:
        smooth, past = state["smooth"], state["past"]
        self._integral = min(float(state["integral"]), self.maximum)
        self._smooth = None if smooth is None else float(smooth)
        self._past.clear()
        self._past.extend(float(value) for value in past)
