"""From the section `dual` of a profile to the dual variable that it describes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from openrlhf_rad.errors import ConfigError
from openrlhf_rad.method.dual.estimate import Ema, Estimate, Last, Window
from openrlhf_rad.method.dual.methods import AdamDual, LogDual, PidDual
from openrlhf_rad.method.dual.variable import DualVariable
from openrlhf_rad.method.settings import DualSettings
from openrlhf_rad.profile.checks import Layers, Problems
from openrlhf_rad.profile.document import Document
from openrlhf_rad.profile.dual_settings import BELONGS, plain_dual
from openrlhf_rad.profile.sections import dual as read_dual

METHODS: dict[str, Callable[..., DualVariable]] = {
    "ascent": DualVariable,
    "log": LogDual,
    "adam": AdamDual,
    "pid": PidDual,
}
ESTIMATES: dict[str, Callable[[int], Estimate]] = {
    "last": lambda _memory: Last(),
    "ema": Ema,
    "window": Window,
}


def make_dual(settings: DualSettings) -> DualVariable:
    """The dual variable that the settings describe; docs/dual.md explains them.

    Raises:
        ConfigError: with every value that a profile could not hold either, one a line.
    """
    # Settings made by hand have not been through a profile's checks.
    problems = Problems(Document("dual", None, {"dual": "dual"}))
    read_dual(problems, Layers(("dual", plain_dual(settings))), "spacing")
    if problems.lines:
        raise ConfigError("\n".join(line.removeprefix("dual: ") for line in problems.lines))
    stages: dict[str, Any] = {
        "estimate": ESTIMATES[settings.estimate](settings.memory),
        "confidence": settings.confidence,
    }
    if settings.method == "pid":
        stages |= {name: getattr(settings, name) for name in BELONGS["method"]}
    return METHODS[settings.method](settings.initial, settings.step, settings.max, **stages)
