"""The section `dual` of a profile: how λ moves, by what, and how sure of it.

Every key stands here once. Some belong to one choice of another key, as a level belongs to a form:
:data:`BELONGS` says which.
"""

from __future__ import annotations

import math
from dataclasses import asdict, replace
from typing import Any

from openrlhf_rad.method.measures import Interval
from openrlhf_rad.method.settings import DualSettings
from openrlhf_rad.profile.kinds import KEYS_OF, Choice, Key, Number, Whole

#: Key → the keys that belong to one of its values: a new value begins with their defaults.
BELONGS: dict[str, tuple[str, ...]] = {
    "method": ("proportional", "derivative", "smoothing", "delay"),
    "estimate": ("memory",),
}

_POSITIVE = Interval(0, math.inf, low_open=True)
_NOT_NEGATIVE = Interval(0, math.inf)


#: By how much λ and its step are greater under `tilted`, whose score is so many times smaller.
TILTED = 6.0


def _by_gradient(default: float) -> str:
    return f"{default:g}; with `tilted` {TILTED * default:g}"


#: The keys of `dual`.
DUAL: dict[str, Key] = {
    "initial": Key(
        Number(_NOT_NEGATIVE, "0 starts without a price, 1 is the default"),
        "λ of the first batch",
        unit="reward per spread",
        default=_by_gradient(1),
        source="Safe RLHF starts its multiplier at 1; a `tilted` score is several times smaller",
    ),
    "step": Key(
        Number(_NOT_NEGATIVE, "0.1 is the default"),
        "how far a violation of one spread moves λ; the learning rate of `log` and `adam`; the integral"
        " gain of `pid`",
        unit="reward per spread²",
        default=_by_gradient(0.1),
        source="a violation of one spread then moves λ by its initial value in ten batches",
    ),
    "max": Key(
        Number(_POSITIVE, "10 is the default"),
        "the most that λ can be",
        unit="reward per spread",
        default=_by_gradient(10),
        source="ten times the initial value: cost may outweigh reward, but cannot blow up training",
    ),
    "method": Key(
        Choice(("ascent", "log", "adam", "pid")),
        "how λ moves: by the violation, in proportion to itself (Safe RLHF), by Adam, by a controller",
        source="[the dual variable](dual.md), measured",
    ),
    "gap": Key(
        Choice(("exact", "plan")),
        "the gap whose violation moves λ: the exact one, or ⟨P, M⟩ of the entropic plan, for the mean and"
        " a form with a plan",
        source="Eqs. (15) and (25); the plan's is biased upwards, so that it takes a constraint for met",
    ),
    "estimate": Key(
        Choice(("last", "ema", "window")),
        "which violation moves λ: the last batch's, or an exponential or plain average",
        source="[the dual variable](dual.md): no average was better",
    ),
    "memory": Key(
        Whole(1, 10_000),
        "how many batches the average holds; of `ema` as many as make it as calm as their plain mean",
        unit="batches",
        default="8, where `estimate` is an average",
        source="a third of the noise, four batches late",
    ),
    "confidence": Key(
        Number(
            Interval(0.5, 1, high_open=True),
            "below 0.5 the bound would excuse a violation; for nine in ten use 0.9, for none null",
            optional=True,
        ),
        "λ moves by the upper confidence bound of the violation, for instance at 0.9",
        unit="probability",
        default="none: by the violation itself",
        source="HC-RLHF",
    ),
    "proportional": Key(
        Number(_NOT_NEGATIVE, "0 leaves it out"),
        "the gain K_P on the smoothed violation",
        unit="reward per spread²",
        default="0.5, of `pid` alone",
        source="Stooke et al. 2020; in [the benchmark](dual.md) 1 to 4",
    ),
    "derivative": Key(
        Number(_NOT_NEGATIVE, "0 leaves it out"),
        "the gain K_D on its rise",
        unit="reward per spread²",
        default="0, of `pid` alone",
        source="a rise between two batches is mostly noise",
    ),
    "smoothing": Key(
        Number(Interval(0, 1, high_open=True), "0 takes each violation as it is"),
        "how much of the smoothed violation stays from the batch before",
        unit="share",
        default="0.5, of `pid` alone",
        source="about the last two batches",
    ),
    "delay": Key(
        Whole(1, 10_000),
        "how many batches the rise is taken over",
        unit="batches",
        default="5, of `pid` alone",
        source="longer than the smoothing",
    ),
}
KEYS_OF[DualSettings] = DUAL


def dual_defaults(gradient: str) -> DualSettings:
    """What holds where a profile says nothing; ``python benchmarks/dual.py --gradients`` measured it."""
    plain = DualSettings()
    if gradient != "tilted":
        return plain
    return replace(plain, initial=TILTED * plain.initial, step=TILTED * plain.step, max=TILTED * plain.max)


def plain_dual(dual: DualSettings) -> dict[str, Any]:
    """The `dual` section as a file would hold it: keys that belong to another choice are left out."""
    unused = unused_keys(dual)
    return {name: value for name, value in asdict(dual).items() if name not in unused}


def unused_keys(dual: DualSettings) -> tuple[str, ...]:
    """Keys that play no part under this method and this estimate."""
    of_the_method = () if dual.method == "pid" else BELONGS["method"]
    return of_the_method + (BELONGS["estimate"] if dual.estimate == "last" else ())
