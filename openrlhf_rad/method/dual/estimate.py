"""What λ takes for the violation: the last batch's, or an average that is calmer and lags behind.

An average over k batches has 1/√k of the noise and tells of the policy (k − 1)/2 steps ago. Safe RLHF
averages over a window of episode costs, OmniSafe's PID controller over an exponential one.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from typing import Any, Protocol


class Estimate(Protocol):
    """An average of violations and its standard error; batches count as independent."""

    def add(self, violation: float, standard_error: float) -> tuple[float, float]:
        """Take one more batch in; returns the average and its standard error."""

    def state_dict(self) -> dict[str, Any]:
        """Plain numbers and lists, such that JSON keeps them bit by bit."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""


class Last:
    """The last batch alone."""

    def add(self, violation: float, standard_error: float) -> tuple[float, float]:
        """The batch as it is."""
        return violation, standard_error

    def state_dict(self) -> dict[str, Any]:
        """There is nothing to keep."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """There is nothing to restore."""


class Ema:
    """An exponential average Σ dᵃ v / Σ dᵃ over ages a, without bias from the first batch on.

    Args:
        memory: k batches; d = 1 − 2/(k + 1) makes it in the long run as noisy as the plain mean of k.
    """

    def __init__(self, memory: int) -> None:
        self._decay = 1.0 - 2.0 / (memory + 1)
        self._sum, self._weight, self._variance = 0.0, 0.0, 0.0

    def add(self, violation: float, standard_error: float) -> tuple[float, float]:
        """Older batches fade by d, their variances by d²."""
        self._sum = self._decay * self._sum + violation
        self._weight = self._decay * self._weight + 1.0
        self._variance = self._decay**2 * self._variance + standard_error**2
        return self._sum / self._weight, math.sqrt(self._variance) / self._weight

    def state_dict(self) -> dict[str, Any]:
        """The three running sums."""
        return {"sum": self._sum, "weight": self._weight, "variance": self._variance}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from those sums."""
        self._sum, self._weight, self._variance = (
            float(state[name]) for name in ("sum", "weight", "variance")
        )


class Window:
    """The plain mean of the last ``memory`` batches, of fewer at the start."""

    def __init__(self, memory: int) -> None:
        self._batches: deque[tuple[float, float]] = deque(maxlen=memory)

    def add(self, violation: float, standard_error: float) -> tuple[float, float]:
        """The oldest batch drops out."""
        self._batches.append((violation, standard_error))
        count = len(self._batches)
        # fsum: the order in which batches came must not show in the last bit
        mean = math.fsum(value for value, _ in self._batches) / count
        return mean, math.sqrt(math.fsum(error**2 for _, error in self._batches)) / count

    def state_dict(self) -> dict[str, Any]:
        """The batches, the oldest first."""
        return {"batches": [list(batch) for batch in self._batches]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on with those batches; a shorter window keeps the newest."""
        self._batches.clear()
        self._batches.extend((float(value), float(error)) for value, error in state["batches"])
