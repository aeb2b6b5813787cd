"""The section `watches` of a profile: what each watch does when its condition is met, and lasts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Literal

from openrlhf_rad.profile.kinds import Choice, Key, Text, Whole, about

Severity = Literal["off", "warn", "stop"]


def _when(meaning: str, source: str) -> Mapping[str, Key]:
    """Metadata of a watch: off, a warning, or a stop after the step's checkpoint."""
    return about(Choice(("off", "warn", "stop")), f"when {meaning}", source=source)


@dataclass(frozen=True)
class WatchSettings:
    """When a run is called sick, and what follows."""

    window: int = field(
        default=20,
        metadata=about(
            Whole(5, 10_000),
            "how long a condition must last before its watch speaks; trends are taken over two windows",
            unit="steps",
            source="on healthy noise fewer than one run in a hundred is called sick",
        ),
    )
    harmful_label: str = field(
        default="harmful",
        metadata=about(
            Text(what="a label"),
            "the label of prompts that ask for harm, which `inverted` needs; an answer to one that is no"
            " refusal counts as harmful",
            source="the label of the default job's prompts",
        ),
    )
    inert: Severity = field(
        default="warn",
        metadata=_when("the constraint was never violated: it asks for nothing", "it may be met by luck"),
    )
    dead: Severity = field(
        default="stop",
        metadata=_when("it is violated and no sample feels it", "λ would rise for ever, without effect"),
    )
    at_cap: Severity = field(
        default="warn",
        metadata=_when(
            "λ stays at its maximum and the constraint is still violated", "the reward may come round"
        ),
    )
    inverted: Severity = field(
        default="stop",
        metadata=_when(
            "in the first window what is harmful costs less than what is not",
            "such a run trains towards harm",
        ),
    )
    saturated: Severity = field(
        default="warn",
        metadata=_when(
            "policy and reference sit at the largest cost that occurs, on all that the risk weighs",
            "the risk may come to see a difference later",
        ),
    )
    no_control: Severity = field(
        default="warn",
        metadata=_when(
            "λ rises and the risk rises with it", "an early policy may still be learning the reward"
        ),
    )
    transport: Severity = field(
        default="warn",
        metadata=_when("the transport solver does not converge", "its gradient is still approximate"),
    )
    empty: Severity = field(
        default="warn", metadata=_when("answers become empty", "a product may want silence")
    )
    short: Severity = field(
        default="warn", metadata=_when("answers become half as long", "a product may want brevity")
    )
    alike: Severity = field(
        default="warn", metadata=_when("answers become the same", "refusals are alike too")
    )
    entropy: Severity = field(
        default="warn",
        metadata=_when("the policy becomes certain of every token", "late in training it may be meant"),
    )


#: What a profile sets beside the watches themselves.
_SETTINGS = ("window", "harmful_label")


def severities(settings: WatchSettings) -> Mapping[str, Severity]:
    """Watch → what it does, in the order of the reference."""
    return {name: value for name, value in asdict(settings).items() if name not in _SETTINGS}
