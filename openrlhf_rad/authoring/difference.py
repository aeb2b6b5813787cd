"""Two profiles compared: the weights in words and as a picture, and every setting that differs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from openrlhf_rad.authoring import show, words
from openrlhf_rad.authoring.words import parts
from openrlhf_rad.method.spectrum import Spectrum
from openrlhf_rad.profile import Constraint, RiskProfile

# Ratios nearer to 1 than this are said to be the same.
_SAME = 0.005
_GRID = np.linspace(0, 1, 2001)


@dataclass(frozen=True)
class Setting:
    """A value that differs; None on the side that has no such key."""

    key: str
    a: Any
    b: Any


@dataclass(frozen=True)
class Counterparts:
    """A constraint of both profiles, or of one of them where the other is None."""

    name: str
    a: Constraint | None
    b: Constraint | None


def settings(a: RiskProfile, b: RiskProfile) -> list[Setting]:
    """Every value that differs between the resolved profiles, section by section."""
    left, right = _flat(a.resolved()), _flat(b.resolved())
    sections = list(dict.fromkeys([*a.resolved(), *b.resolved()]))
    keys = [key for key in dict.fromkeys([*left, *right]) if left.get(key) != right.get(key)]
    keys.sort(key=lambda key: sections.index(key.partition(".")[0]))
    return [Setting(key, left.get(key), right.get(key)) for key in keys]


def pairs(a: RiskProfile, b: RiskProfile) -> list[Counterparts]:
    """The constraints of both, matched by name; two single ones are matched whatever their names."""
    left, right = parts(a), parts(b)
    if len(left) == len(right) == 1:
        return [Counterparts("", left[0], right[0])]
    named = [{part.name: part for part in side} for side in (left, right)]
    return [
        Counterparts(name, named[0].get(name), named[1].get(name))
        for name in dict.fromkeys([*named[0], *named[1]])
    ]


def sentences(pair: Counterparts) -> Iterator[str]:
    """What changes from A to B, the weights first."""
    if pair.a is None or pair.b is None:
        has, lacks, part = ("A", "B", pair.a) if pair.b is None else ("B", "A", pair.b)
        assert part is not None  # a pair holds at least one
        yield f"{has} has a constraint {part.name}, on {words.bounded(part.risk)}; {lacks} has none."
        return
    a, b = pair.a, pair.b
    if a.risk == b.risk:
        yield f"Both bound {words.bounded(a.risk)}, with the same weights."
    else:
        yield f"A bounds {words.bounded(a.risk)}."
        yield f"B bounds {words.bounded(b.risk)}."
        yield from (_tail_sentence(a.risk, b.risk, tail) for tail in words.TAILS)
        yield from _order_sentence(a.risk, b.risk)
    yield from _ask_sentence(a, b)


def picture_lines(pair: Counterparts, width: int) -> list[str]:
    """The weights of A above those of B on one scale."""
    sides = [(letter, part) for letter, part in (("A", pair.a), ("B", pair.b)) if part is not None]
    top = show.highest_weight([part.risk for _, part in sides], width)
    lines: list[str] = []
    for letter, part in sides:
        drawn = show.weight_picture(part.risk, width, rows=3, top=top)
        # The axis is named once, under the last show.
        lines += [f"{letter}  {part.risk}", *(drawn if part is sides[-1][1] else drawn[:-1])]
    return lines


def _tail_sentence(a: Spectrum, b: Spectrum, tail: float) -> str:
    left, right = words.share_on_worst(a, tail), words.share_on_worst(b, tail)
    where = f"on the worst {tail} %"
    shares = f"({words.percent(right)} against {words.percent(left)})"
    if abs(right - left) <= _SAME * max(left, right):
        return f"Both put {words.percent(left)} of their weight {where}."
    if left == 0 or right == 0:
        some, none, share = ("B", "A", right) if left == 0 else ("A", "B", left)
        return f"{some} puts {words.percent(share)} of its weight {where}, {none} puts none there."
    return f"B puts {right / left:.2g} times the weight {where} {shares}."


def _order_sentence(a: Spectrum, b: Spectrum) -> Iterator[str]:
    """G_B ≤ G_A everywhere means ρ_B ≥ ρ_A for every distribution of costs."""
    difference = b.cumulative(_GRID) - a.cumulative(_GRID)
    if np.all(difference <= 1e-12):
        yield "B never judges a model less risky than A does, whatever its costs."
    elif np.all(difference >= -1e-12):
        yield "B never judges a model more risky than A does, whatever its costs."
    else:
        yield "Neither is stricter throughout: which one finds a model riskier depends on its costs."


def _ask_sentence(a: Constraint, b: Constraint) -> Iterator[str]:
    left, right = (words.asked_reduction(part.settings) for part in (a, b))
    if left is None or right is None:
        if a.settings != b.settings:
            yield f"A asks: {words.requirement(a.settings)}."
            yield f"B asks: {words.requirement(b.settings)}."
    elif left == right:
        yield f"Both ask for a risk lower by {words.amount(left)}."
    else:
        more = (
            ""
            if left.unit != right.unit
            else (", more than A" if right.value > left.value else ", less than A")
        )
        yield f"B asks for a risk lower by {words.amount(right)}{more}, which asks for {words.amount(left)}."


def _flat(data: Any, prefix: str = "") -> dict[str, Any]:
    """Dotted keys → scalars; entries of a list of mappings by their name, others by their number."""
    if isinstance(data, dict):
        items = [(str(key), value) for key, value in data.items()]
    elif isinstance(data, list) and any(isinstance(item, dict) for item in data):
        items = [
            (str(item.get("name", index)) if isinstance(item, dict) else str(index), item)
            for index, item in enumerate(data)
        ]
    else:
        return {prefix: data}
    flat: dict[str, Any] = {}
    for key, value in items:
        flat.update(_flat(value, f"{prefix}.{key}" if prefix else key))
    return flat
