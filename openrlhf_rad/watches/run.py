"""All watches of a run: which are on, what each does when its condition is met, their state."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from openrlhf_rad.errors import WatchStop
from openrlhf_rad.profile import RiskProfile, Severity, WatchSettings
from openrlhf_rad.profile.language import severities
from openrlhf_rad.watches.conditions import of_a_constraint, of_the_answers
from openrlhf_rad.watches.kinds import Scoped, Watch

Metrics = Mapping[str, float | int | None]


@dataclass(frozen=True)
class Alarm:
    """What a watch says at a step: ``step N: VALUE; RULE; FIX``, after N the constraint of several."""

    step: int
    watch: str
    severity: Severity
    message: str


class Watches:
    """All watches of a run: those of each constraint, and those of the answers.

    Args:
        dual_max: constraint → λ's maximum; None where λ is held fixed, which silences ``at_cap``, ``dead``
            and ``inert``. Metrics go by plain names with one constraint, by ``name/metric`` with several.
        settings: of the profile.
    """

    def __init__(self, dual_max: Mapping[str, float | None], settings: WatchSettings) -> None:
        self.severity = severities(settings)
        found: dict[str, Watch] = {}
        for constraint, most in dual_max.items():
            for name, watch in of_a_constraint(most, settings.window).items():
                alone = len(dual_max) == 1
                found[name if alone else f"{constraint}/{name}"] = (
                    watch if alone else Scoped(watch, constraint)
                )
        found |= of_the_answers(settings.window)
        self._watches = {key: watch for key, watch in found.items() if self.severity[_name(key)] != "off"}
        self._speaking: set[str] = set()

    @classmethod
    def of(cls, profile: RiskProfile, *, fixed_dual: bool) -> Watches:
        """The watches of a profile's run; with a fixed dual none on λ."""
        return cls(
            {one.name: None if fixed_dual else one.dual.max for one in profile.constraints}, profile.watches
        )

    def see(self, metrics: Metrics) -> list[Alarm]:
        """Take a step's metrics in; the alarms that are new. The columns are those of ``metrics.jsonl``."""
        values = {name: float(value) for name, value in metrics.items() if value is not None}
        step, found = int(values.get("step", 0)), []
        for key, watch in self._watches.items():
            if not all(need in values for need in watch.needs):
                continue
            message, name = watch.see(values), _name(key)
            if message is not None and key not in self._speaking:
                found.append(Alarm(step, name, self.severity[name], f"step {step}: {message}"))
            (self._speaking.discard if message is None else self._speaking.add)(key)
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


def _name(key: str) -> str:
    """The watch of a key: ``at_cap`` of ``harm/at_cap``."""
    return key.rpartition("/")[2]
