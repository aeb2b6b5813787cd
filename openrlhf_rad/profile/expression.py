"""The short form of a risk: `cvar α=0.9`, `cvar(alpha=0.9)`, `wang η=0.75`, `mean`."""

from __future__ import annotations

import re
from typing import Any

from openrlhf_rad.measures import ALIASES
from openrlhf_rad.profile.document import scalar

_SHAPE = re.compile(r"^\s*([^\W\d]\w*)\s*(?:\((.*)\)|(.*))\s*$", re.DOTALL)
_ARGUMENT = re.compile(r"([^\W\d]\w*)\s*=\s*([^\s,=()]+)")


def parse_expression(text: str) -> dict[str, Any]:
    """The measure and its parameters as the long form would hold them; aliases (α, h, κ, γ, η) spelled out.

    Names and values are not checked here. Raises ValueError with rule and fix when the shape is wrong.
    """
    match = _SHAPE.match(text)
    if not match:
        raise ValueError("it must be a measure with its parameters; write for instance cvar α=0.9")
    measure, inside, after = match.groups()
    arguments = inside if inside is not None else after
    rest = _ARGUMENT.sub("", arguments)
    if rest.strip(" \t\n,"):
        raise ValueError(
            f"{rest.strip(' ,')} is not of the form name=value; write for instance {measure} α=0.9"
        )
    data: dict[str, Any] = {"measure": measure}
    for name, value in _ARGUMENT.findall(arguments):
        full = ALIASES.get(name, name)
        if full in data:
            raise ValueError(f"{full} is given twice; remove one")
        data[full] = scalar(value)
    return data
