"""Three kinds of conditions over the steps of a run: a streak, a drift from the start, a test on a window."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Values = Mapping[str, float]


class Watch(Protocol):
    """One condition over the steps of a run."""

    #: The metrics that it reads; it is asked only where all are there.
    needs: tuple[str, ...]

    def see(self, values: Values) -> str | None:
        """Take a step in; a message while the condition holds."""

    def state_dict(self) -> dict[str, Any]:
        """Plain numbers and lists."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""


class Streak:
    """A condition that holds for some steps in a row.

    Args:
        message: what to say, from the step's values and the number of steps.
        from_start: only a streak that began with the run counts.
    """

    def __init__(
        self,
        needs: Sequence[str],
        holds: Callable[[Values], bool],
        steps: int,
        message: Callable[[Values, int], str],
        *,
        from_start: bool = False,
    ) -> None:
        self.needs = tuple(needs)
        self._holds, self._steps, self._message, self._from_start = holds, steps, message, from_start
        self._count, self._broken = 0, False

    def see(self, values: Values) -> str | None:
        """A message from the last step needed on."""
        held = self._holds(values)
        self._count = self._count + 1 if held else 0
        self._broken = self._broken or not held
        if self._count < self._steps or (self._from_start and self._broken):
            return None
        return self._message(values, self._count)

    def state_dict(self) -> dict[str, Any]:
        """The count, and whether it was ever broken."""
        return {"count": self._count, "broken": self._broken}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on counting."""
        self._count, self._broken = int(state["count"]), bool(state["broken"])


class Drift:
    """The mean of a metric over the last ``window`` steps against that of the first ones.

    Args:
        astray: whether (mean at first, mean now) is a reason to speak.
        message: what to say, from the same two.
    """

    def __init__(
        self,
        metric: str,
        window: int,
        astray: Callable[[float, float], bool],
        message: Callable[[float, float], str],
    ) -> None:
        self.needs: tuple[str, ...] = (metric,)
        self._window, self._astray, self._message = window, astray, message
        self._first: list[float] = []
        self._last: deque[float] = deque(maxlen=window)

    def see(self, values: Values) -> str | None:
        """A message while the last window has gone astray."""
        value = values[self.needs[0]]
        if len(self._first) < self._window:
            self._first.append(value)
            return None
        self._last.append(value)
        if len(self._last) < self._window:
            return None
        old, new = (math.fsum(part) / self._window for part in (self._first, self._last))
        return self._message(old, new) if self._astray(old, new) else None

    def state_dict(self) -> dict[str, Any]:
        """Both windows."""
        return {"first": list(self._first), "last": list(self._last)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on with both."""
        self._first = [float(value) for value in state["first"]]
        self._last.clear()
        self._last.extend(float(value) for value in state["last"])


class Window:
    """A test on the last ``window`` values of some metrics, an array (window, metrics).

    Args:
        first: test the first ``window`` values instead, and those alone.
    """

    def __init__(
        self, needs: Sequence[str], window: int, test: Callable[[Array], str | None], *, first: bool = False
    ) -> None:
        self.needs = tuple(needs)
        self._first = first
        self._test = test
        self._rows: deque[list[float]] = deque(maxlen=window)
        self._window = window

    def see(self, values: Values) -> str | None:
        """What the test says, once the window is full."""
        if not (self._first and len(self._rows) == self._window):
            self._rows.append([values[name] for name in self.needs])
        return self._test(np.array(self._rows)) if len(self._rows) == self._window else None

    def state_dict(self) -> dict[str, Any]:
        """The window."""
        return {"rows": [list(row) for row in self._rows]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on with it."""
        self._rows.clear()
        self._rows.extend([float(value) for value in row] for row in state["rows"])


class Scoped:
    """A watch on one of several constraints, whose metrics are called ``<constraint>/<name>``."""

    def __init__(self, watch: Watch, constraint: str) -> None:
        self._watch, self._constraint = watch, constraint
        self.needs: tuple[str, ...] = tuple(f"{constraint}/{name}" for name in watch.needs)

    def see(self, values: Values) -> str | None:
        """The watch's message, after the name of the constraint."""
        own = zip(self._watch.needs, self.needs, strict=True)
        message = self._watch.see({name: values[scoped] for name, scoped in own})
        return None if message is None else f"{self._constraint}: {message}"

    def state_dict(self) -> dict[str, Any]:
        """The watch's."""
        return self._watch.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Hand it on."""
        self._watch.load_state_dict(state)
