"""All watches of a run: which are on, what each does when its condition is met, their state."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from openrlhf_rad.errors import ConfigError, WatchStop
from openrlhf_rad.watches.conditions import watches

Metrics = Mapping[str, float | int | None]
Severity = Literal["off", "warn", "stop"]


@dataclass(frozen=True)
class Alarm:
    """What a watch says at a step: ``step N: VALUE; RULE; FIX``."""

    step: int
    watch: str
    severity: Severity
    message: str


#: A run whose harm has the wrong sign trains towards harm; the others may be what somebody wants to see.
DEFAULT_SEVERITY: dict[str, Severity] = {
    "inert": "warn",
    "dead": "stop",
    "at_cap": "warn",
    "inverted": "stop",
    "no_control": "warn",
    "transport": "warn",
    "empty": "warn",
    "short": "warn",
    "alike": "warn",
    "entropy": "warn",
}


class Watches:
    """All watches of a run.

    Args:
        dual_max: λ's maximum; None where λ is held fixed, which silences ``at_cap``, ``dead``, ``inert``.
        window: steps that a condition must last; no watch speaks before.
        severity: watch → ``off``, ``warn`` or ``stop``, where it differs from DEFAULT_SEVERITY.

    Raises:
        ConfigError: a watch or a severity that does not exist, or a window below 5.
    """

    def __init__(
        self, dual_max: float | None, *, window: int = 20, severity: Mapping[str, Severity] | None = None
    ) -> None:
        chosen = dict(severity or {})
        problems = [
            f"watch {name} is {level}; the watches are {', '.join(DEFAULT_SEVERITY)}, each off, warn or stop"
            for name, level in chosen.items()
            if name not in DEFAULT_SEVERITY or level not in ("off", "warn", "stop")
        ]
        if window < 5:
            problems.append(f"the window of watches is {window}; fewer than 5 steps are noise; use 20")
        if problems:
            raise ConfigError("\n".join(problems))
        self.severity = {**DEFAULT_SEVERITY, **chosen}
        self._watches = {
            name: watch for name, watch in watches(dual_max, window).items() if self.severity[name] != "off"
        }
        self._speaking: set[str] = set()

    def see(self, metrics: Metrics) -> list[Alarm]:
        """Take a step's metrics in; the alarms that are new. The columns are those of ``metrics.jsonl``."""
        values = {name: float(value) for name, value in metrics.items() if value is not None}
        step, found = int(values.get("step", 0)), []
        for name, watch in self._watches.items():
            if not all(need in values for need in watch.needs):
                continue
            message = watch.see(values)
            if message is not None and name not in self._speaking:
                found.append(Alarm(step, name, self.severity[name], f"step {step}: {message}"))
            (self._speaking.discard if message is None else self._speaking.add)(name)
        return found

    def check(self, metrics: Metrics) -> list[str]:
        """As :meth:`see`; the warnings as texts.

        Raises:
            WatchStop: for the alarms that stop the run, one a line.
        """
        alarms = self.see(metrics)
        stops = [alarm.message for alarm in alarms if alarm.severity == "stop"]
        if stops:
            raise WatchStop("\n".join(stops))
        return [alarm.message for alarm in alarms]

    def state_dict(self) -> dict[str, Any]:
        """For a checkpoint; exact through JSON."""
        return {
            "speaking": sorted(self._speaking),
            "watches": {name: watch.state_dict() for name, watch in self._watches.items()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on; a watch that was off before starts anew."""
        self._speaking = set(state["speaking"]) & set(self._watches)
        for name, watch in self._watches.items():
            if name in state["watches"]:
                watch.load_state_dict(state["watches"][name])
