"""Checks of single values. Each returns the value, or notes a problem and returns the default."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import Any, Protocol

from openrlhf_rad.errors import did_you_mean
from openrlhf_rad.errors import shown as show
from openrlhf_rad.method.measures import Interval
from openrlhf_rad.method.settings import Level
from openrlhf_rad.profile.document import Document, listed
from openrlhf_rad.profile.scalars import scalar

_MAX_GUESSES = 30


class Problems:
    """Collects problems as lines `place: key is VALUE; RULE; FIX`, so that one run shows them all."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.lines = list(document.problems)
        # What could not be read at all is not checked as well.
        self._unread = {line.partition(": ")[0] for line in document.problems}

    def add(self, key: str, value: Any, rule: str, fix: str = "") -> None:
        """A value that breaks a rule, placed at the value."""
        self.add_text(self.document.place(key), f"{key} is {show(value)}; {rule}", fix)

    def add_text(self, place: str, text: str, fix: str = "") -> None:
        """Any problem, at a place."""
        if place not in self._unread:
            self.lines.append(f"{place}: {text}" + (f"; {fix}" if fix else ""))

    def in_order(self) -> list[str]:
        """The problems from the top of the file to its end, then of those it extends, then of overrides."""

        sources = self.document.sources or [self.document.source]

        def position(line: str) -> tuple[float, float, float]:
            for rank, source in enumerate(sources):
                if match := re.match(rf"{re.escape(source)}:(\d+):(\d+): ", line):
                    return (rank, float(match[1]), float(match[2]))
            return (math.inf, 0, 0)

        # Constraints that inherit a value all find the same fault in it.
        return listed(sorted(dict.fromkeys(self.lines), key=position), self.document.source)

    def unknown_keys(self, section: str, data: dict[str, Any], known: Iterable[str]) -> None:
        """Note every key of a section that does not exist, with the likeliest meant."""
        names = list(known)
        unknown = [key for key in data if key not in names]
        for count, key in enumerate(unknown):
            dotted = f"{section}.{key}" if section else key
            allowed = f"is not a key of {section or 'a profile'}; the keys are {', '.join(names)}"
            place = self.document.place(dotted, key=True)
            # A file with more of them is no profile, and guessing takes its time.
            hint = did_you_mean(key, names) if count < _MAX_GUESSES else ""
            self.add_text(place, f"{show(dotted)} {allowed}", hint)


class Layers:
    """A section whose keys may stand in several mappings; the first that has a key gives its value.

    Args:
        layers: (dotted path of a mapping, the mapping), the innermost first.
    """

    def __init__(self, *layers: tuple[str, dict[str, Any]]) -> None:
        self._layers = layers

    def __contains__(self, key: str) -> bool:
        return any(key in mapping for _, mapping in self._layers)

    def get(self, key: str, default: Any) -> Any:
        """The value of the innermost mapping that has the key."""
        return next((mapping[key] for _, mapping in self._layers if key in mapping), default)

    def path(self, key: str) -> str:
        """The dotted path of that value; of a missing one, where it would stand in the innermost mapping."""
        base = next((path for path, mapping in self._layers if key in mapping), self._layers[0][0])
        return f"{base}.{key}" if base else key

    def without(self, keys: tuple[str, ...], depth: int) -> Layers:
        """The same, with some keys taken from the ``depth`` innermost mappings only."""
        return Layers(
            *(
                (path, mapping if place < depth else {k: v for k, v in mapping.items() if k not in keys})
                for place, (path, mapping) in enumerate(self._layers)
            )
        )


def is_number(value: Any) -> bool:
    """Whether YAML gave a number; truth values are none."""
    return isinstance(value, int | float) and not isinstance(value, bool)


class _Ranged(Protocol):
    @property
    def range(self) -> Interval: ...

    @property
    def advice(self) -> str: ...


def number(problems: Problems, key: str, value: Any, default: float, parameter: _Ranged) -> float:
    """A finite number in the parameter's range."""
    allowed = parameter.range
    if is_number(value) and value in allowed:
        return float(value)
    rule = f"it must lie in {allowed}" if is_number(value) else f"it must be a number in {allowed}"
    quoted = isinstance(value, str) and is_number(scalar(value))
    if quoted:
        problems.add(key, f'"{value}"', rule, "remove the quotes")
    else:
        problems.add(key, value, rule, parameter.advice)
    return default


def text(problems: Problems, key: str, value: Any, default: str, *, filled: bool = False) -> str:
    """A text; filled: not an empty one."""
    if isinstance(value, str) and (value.strip() or not filled):
        return value
    fix = "put it in quotes" if is_number(value) else ""
    problems.add(key, value, "it must be a text", fix)
    return default


def level(
    problems: Problems, key: str, value: Any, default: Level, *, signed: bool, quantile: bool = False
) -> Level:
    """An amount of cost, see :class:`Level`; ≥ 0 unless signed, a quantile only if allowed."""
    parsed = _parsed_level(value)
    if parsed is None:
        rule = 'it must be a number in the cost\'s own units, or a share such as "20% of reference risk"'
        problems.add(key, value, rule, 'or write "0.5 of reference spread"')
        return default
    if parsed.unit == "quantile":
        return _quantile(problems, key, parsed, default, quantile)
    if parsed.value < 0 and not signed:
        problems.add(key, value, "it must be ≥ 0", "a dominance gap is never negative")
        return default
    return parsed


def _parsed_level(value: Any) -> Level | None:
    if not is_number(value) and not isinstance(value, str):
        return None
    try:
        parsed = Level.parse(value)
    except (ValueError, OverflowError):
        return None
    return parsed if -1e300 < parsed.value < 1e300 else None


def _quantile(problems: Problems, key: str, parsed: Level, default: Level, allowed: bool) -> Level:
    if not allowed:
        rule = "a quantile of the reference is a cost to stay below, and this is an amount"
        problems.add(key, str(parsed), rule, "write for instance 20% of reference spread")
        return default
    if not 0 < parsed.value < 1:
        problems.add(key, str(parsed), "the quantile must lie in (0, 1)", "write reference quantile 0.9")
        return default
    return parsed
