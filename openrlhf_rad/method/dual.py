"""The dual variable λ: the price of violating the constraint (the paper, Eq. (11)), and how it moves.

Each step one violation comes in, with its standard error where that is known, and goes through three stages:
an estimate (the last violation, or an average over past ones), its upper confidence bound if one is asked
for, in the manner of HC-RLHF (:mod:`openrlhf_rad.method.uncertainty`), and the move of λ: projected ascent,
in log-space as Safe RLHF, by Adam or by a PID controller as OmniSafe. ``benchmarks/dual.py`` compares them;
docs/dual.md holds its table.

Sources: Dai et al. 2023, "Safe RLHF" (PKU-Alignment/safe-rlhf, `ppo_lag/trainer.py`); Stooke, Achiam and
Abbeel 2020, "Responsive Safety in Reinforcement Learning by PID Lagrangian Methods"; Ji et al. 2023,
"OmniSafe" (PKU-Alignment/omnisafe, `common/lagrange.py`, `common/pid_lagrange.py`).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from openrlhf_rad.errors import ConfigError
from openrlhf_rad.method import settings as of
from openrlhf_rad.method.state import Stateful
from openrlhf_rad.method.uncertainty import upper_confidence_bound


class ViolationEstimate(Stateful, ABC):
    """What λ takes for the violation, and its standard error; batches count as independent.

    An average over k batches has 1/√k of the noise and tells of the policy (k − 1)/2 steps ago. Safe RLHF
    averages over a window of episode costs, OmniSafe's PID controller over an exponential one.
    """

    @abstractmethod
    def add(self, violation: float, standard_error: float) -> tuple[float, float]:
        """Take one more batch in; returns the average and its standard error."""


class Last(ViolationEstimate):
    """The last batch alone."""

    def add(self, violation: float, standard_error: float) -> tuple[float, float]:
        """The batch as it is."""
        return violation, standard_error


class Ema(ViolationEstimate):
    """An exponential average Σ dᵃ v / Σ dᵃ over ages a, without bias from the first batch on.

    Args:
        memory: k batches; d = 1 − 2/(k + 1) makes it in the long run as noisy as the plain mean of k.
    """

    kept = ("sum", "weight", "variance")

    def __init__(self, memory: int) -> None:
        self._decay = 1.0 - 2.0 / (memory + 1)
        self.sum, self.weight, self.variance = 0.0, 0.0, 0.0

    def add(self, violation: float, standard_error: float) -> tuple[float, float]:
        """Older batches fade by d, their variances by d²."""
        self.sum = self._decay * self.sum + violation
        self.weight = self._decay * self.weight + 1.0
        self.variance = self._decay**2 * self.variance + standard_error**2
        return self.sum / self.weight, math.sqrt(self.variance) / self.weight


class Window(ViolationEstimate):
    """The plain mean of the last ``memory`` batches, of fewer at the start."""

    kept = ("batches",)

    def __init__(self, memory: int) -> None:
        self.batches: deque[list[float]] = deque(maxlen=memory)

    def add(self, violation: float, standard_error: float) -> tuple[float, float]:
        """The oldest batch drops out."""
        self.batches.append([violation, standard_error])
        count = len(self.batches)
        # fsum: the order in which batches came must not show in the last bit
        mean = math.fsum(value for value, _ in self.batches) / count
        return mean, math.sqrt(math.fsum(error**2 for _, error in self.batches)) / count


class DualVariable(Stateful):
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
        estimate: ViolationEstimate | None = None,
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
            standard_error: of that violation, see
                :func:`~openrlhf_rad.method.uncertainty.violation_standard_error`.
            samples: how many samples carry it, for Student's t; None takes the normal distribution.
            reference_error: of that violation by the sample of reference costs, see
                :func:`~openrlhf_rad.method.uncertainty.reference_standard_error`. All batches share it, so
                that no average over them makes it smaller.
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
            **super().state_dict(),
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
            super().load_state_dict(state)
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
    kept = ("count", "first", "second")
    _BETA1, _BETA2, _EPSILON = 0.9, 0.999, 1e-8

    def __init__(self, initial: float, step: float, maximum: float, **stages: Any) -> None:
        super().__init__(initial, step, maximum, **stages)
        self.count, self.first, self.second = 0, 0.0, 0.0

    def _move(self, violation: float, step: float) -> float:
        self.count += 1
        self.first = self._BETA1 * self.first + (1 - self._BETA1) * violation
        self.second = self._BETA2 * self.second + (1 - self._BETA2) * violation**2
        mean = self.first / (1 - self._BETA1**self.count)
        scale = math.sqrt(self.second / (1 - self._BETA2**self.count))
        return self._value + step * mean / (scale + self._EPSILON)


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
    kept = ("integral", "smooth", "past")

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
        self.integral = self._value
        self.smooth: float | None = None
        self.past: deque[float] = deque(maxlen=delay)

    def start_at(self, value: float) -> None:
        """As for any other; the integral holds it there."""
        super().start_at(value)
        self.integral = self._value

    def _move(self, violation: float, step: float) -> float:
        # The first violation starts the average: an average started at 0 would take it for a rise.
        old = violation if self.smooth is None else self.smooth
        self.smooth = self._smoothing * old + (1 - self._smoothing) * violation
        change = max(0.0, self.smooth - self.past[0]) if self.past else 0.0
        self.past.append(self.smooth)
        proportional, derivative = self._gains
        push = proportional * self.smooth + derivative * change
        grown = min(max(self.integral + step * violation, 0.0), self.maximum)
        if violation <= 0 or self.integral + push < self.maximum:
            self.integral = grown
        return self.integral + push

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """As for any other; the integral lies below the present maximum too."""
        super().load_state_dict(state)
        self.integral = min(self.integral, self.maximum)


METHODS: dict[of.Method, type[DualVariable]] = {
    "ascent": DualVariable,
    "log": LogDual,
    "adam": AdamDual,
    "pid": PidDual,
}
ESTIMATES: dict[of.Estimate, Callable[[int], ViolationEstimate]] = {
    "last": lambda _memory: Last(),
    "ema": Ema,
    "window": Window,
}


def make_dual(settings: of.DualSettings) -> DualVariable:
    """The dual variable that the settings describe; docs/dual.md explains them.

    Raises:
        ConfigError: every value that cannot serve, one a line.
    """
    if problems := list(_problems(settings)):
        raise ConfigError("\n".join(problems))
    stages: dict[str, Any] = {
        "estimate": ESTIMATES[settings.estimate](settings.memory),
        "confidence": settings.confidence,
    }
    if settings.method == "pid":
        names = ("proportional", "derivative", "smoothing", "delay")
        stages |= {name: getattr(settings, name) for name in names}
    return METHODS[settings.method](settings.initial, settings.step, settings.max, **stages)


def _problems(settings: of.DualSettings) -> Iterator[str]:
    """What a profile could not say either: settings may be made by hand."""
    for key, known in (("method", METHODS), ("estimate", ESTIMATES)):
        if getattr(settings, key) not in known:
            yield f"dual.{key} is {getattr(settings, key)}; it must be one of {', '.join(known)}"
    for key in ("memory", "delay"):
        if not (type(value := getattr(settings, key)) is int and value >= 1):
            yield f"dual.{key} is {value}; it must be a whole number of at least 1"
    for key in ("proportional", "derivative"):
        if not 0 <= (value := getattr(settings, key)) < math.inf:
            yield f"dual.{key} is {value:g}; it must lie in [0, ∞); 0 leaves it out"
    if not 0 <= settings.smoothing < 1:
        rule = "it must lie in [0, 1); 0 takes each violation as it is"
        yield f"dual.smoothing is {settings.smoothing:g}; {rule}"
    if settings.confidence is not None and not 0.5 <= settings.confidence < 1:
        yield (
            f"dual.confidence is {settings.confidence:g}; it must lie in [0.5, 1); below 0.5 the bound would"
            " excuse a violation; for nine in ten use 0.9, for none None"
        )
