"""From the section `dual` of a profile to the dual variable that it describes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from openrlhf_rad.errors import ConfigError, Place
from openrlhf_rad.method.dual.estimate import Ema, Estimate, Last, Window
from openrlhf_rad.method.dual.methods import AdamDual, LogDual, PidDual
from openrlhf_rad.method.dual.variable import DualVariable
from openrlhf_rad.method.settings import DualSettings
from openrlhf_rad.profile.check import check_dual, read
from openrlhf_rad.profile.language import BELONGS, DualKeys, plain
from openrlhf_rad.profile.yaml import Problems, from_plain

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
    problems, node = Problems([""]), from_plain(plain(settings), "dual", Place("dual"))
    check_dual(problems, node, read(problems, DualKeys, node, DualSettings()))
    if problems.found:
        raise ConfigError("\n".join(problem.message for problem in problems.found))
    stages: dict[str, Any] = {
        "estimate": ESTIMATES[settings.estimate](settings.memory),
        "confidence": settings.confidence,
    }
    if settings.method == "pid":
        stages |= {name: getattr(settings, name) for name in BELONGS["method"]}
    return METHODS[settings.method](settings.initial, settings.step, settings.max, **stages)
