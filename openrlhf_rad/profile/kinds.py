"""What a key may hold: how its value is read, its JSON Schema and its range in words, from one source.

The records of :mod:`openrlhf_rad.profile.model` give every field a :class:`Key`.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from openrlhf_rad.errors import did_you_mean
from openrlhf_rad.method.measures import Interval
from openrlhf_rad.method.settings import NUMBER, PATTERN
from openrlhf_rad.profile import checks
from openrlhf_rad.profile.checks import Problems

Schema = dict[str, Any]


class Kind(ABC):
    """The values that a key may hold."""

    @abstractmethod
    def read(self, problems: Problems, path: str, raw: Any, default: Any) -> Any:
        """The checked value; the default, with a problem noted at path, when raw is not valid."""

    @abstractmethod
    def schema(self) -> Schema:
        """JSON Schema of the values."""

    @abstractmethod
    def __str__(self) -> str:
        """The values in words, for the reference."""


@dataclass(frozen=True)
class Number(Kind):
    """A finite number in an interval; optional: null, read as None, is one too."""

    range: Interval
    advice: str
    optional: bool = False

    def read(self, problems: Problems, path: str, raw: Any, default: Any) -> Any:
        if self.optional and raw is None:
            return None
        return checks.number(problems, path, raw, default, self)

    def schema(self) -> Schema:
        number = {"type": "number", **bounds(self.range)}
        return {"anyOf": [number, {"type": "null"}]} if self.optional else number

    def __str__(self) -> str:
        return f"a number in {self.range}{' or `null`' if self.optional else ''}"


@dataclass(frozen=True)
class Whole(Kind):
    """A whole number; with `auto`, also that word, read as None."""

    at_least: int
    at_most: int
    auto: str = ""

    def read(self, problems: Problems, path: str, raw: Any, default: Any) -> Any:
        if self.auto and raw == "auto":
            return None
        whole = isinstance(raw, int) and not isinstance(raw, bool)
        if whole and self.at_least <= raw <= self.at_most:
            return raw
        bound = f"at most {self.at_most}" if whole and raw > 0 and raw > self.at_most else ""
        rule = f"a whole number of {bound or f'at least {self.at_least}'}"
        fix = self.auto or f"{default} is the default"
        problems.add(path, raw, f"it must be {'auto or ' if self.auto else ''}{rule}", fix)
        return default

    def schema(self) -> Schema:
        whole = {"type": "integer", "minimum": self.at_least, "maximum": self.at_most}
        return {"anyOf": [{"const": "auto"}, whole]} if self.auto else whole

    def __str__(self) -> str:
        text = f"a whole number, {self.at_least} to {self.at_most:,}"
        return f"`auto` or {text}" if self.auto else text


@dataclass(frozen=True)
class Choice(Kind):
    """One of a few words."""

    options: tuple[str, ...]

    def read(self, problems: Problems, path: str, raw: Any, default: Any) -> Any:
        if isinstance(raw, str) and raw in self.options:
            return raw
        hint = did_you_mean(raw, self.options)
        problems.add(path, raw, f"it must be one of {', '.join(self.options)}", hint)
        return default

    def schema(self) -> Schema:
        return {"enum": list(self.options)}

    def __str__(self) -> str:
        return ", ".join(f"`{option}`" for option in self.options)


@dataclass(frozen=True)
class Amount(Kind):
    """A :class:`Level`, ≥ 0 unless signed."""

    signed: bool = False
    #: Whether a quantile of the reference can be meant; who reads it must check the form.
    quantile: bool = False

    def read(self, problems: Problems, path: str, raw: Any, default: Any) -> Any:
        return checks.level(problems, path, raw, default, signed=self.signed, quantile=self.quantile)

    def schema(self) -> Schema:
        number: Schema = {"type": "number"} if self.signed else {"type": "number", "minimum": 0}
        quantile = rf"|reference\s+quantile\s+{NUMBER}" if self.quantile else ""
        text = {"type": "string", "pattern": rf"^\s*({PATTERN}{quantile})\s*$"}
        return {"anyOf": [number, text]}

    def __str__(self) -> str:
        return "a level" if self.quantile else "a level ≥ 0, no quantile"


@dataclass(frozen=True)
class Text(Kind):
    """A text; optional: null, read as None, is one too."""

    optional: bool = False
    #: What it is, in words; all but a mere text must not be empty.
    what: str = "a text"

    @property
    def _filled(self) -> bool:
        return self.what != "a text"

    def read(self, problems: Problems, path: str, raw: Any, default: Any) -> Any:
        if self.optional and raw is None:
            return None
        return checks.text(problems, path, raw, default, filled=self._filled)

    def schema(self) -> Schema:
        text = {"type": "string", **({"minLength": 1} if self._filled else {})}
        return {"anyOf": [text, {"type": "null"}]} if self.optional else text

    def __str__(self) -> str:
        return f"{self.what} or `null`" if self.optional else self.what


@dataclass(frozen=True)
class Key:
    """One key of a section.

    Attributes:
        kind: what it may hold.
        meaning: what it does, in a line.
        unit: of its number.
        source: where its default comes from: an equation of the paper, a peer, a measurement.
        default: the default in words, where it is no single value.
    """

    kind: Kind
    meaning: str
    unit: str = "—"
    source: str = "—"
    default: str = ""


def about(
    kind: Kind, meaning: str, *, unit: str = "—", source: str = "—", default: str = ""
) -> Mapping[str, Key]:
    """Metadata of a record's field."""
    return {"key": Key(kind, meaning, unit, source, default)}


#: The keys of records that do not carry them as metadata, those of the method.
KEYS_OF: dict[type[Any], dict[str, Key]] = {}


def keys(record: type[Any]) -> dict[str, Key]:
    """The keys of a record, in its order."""
    if record in KEYS_OF:
        return KEYS_OF[record]
    return {item.name: item.metadata["key"] for item in fields(record) if "key" in item.metadata}


def bounds(interval: Interval) -> Schema:
    """An interval as JSON Schema."""
    found: Schema = {}
    if math.isfinite(interval.low):
        found["exclusiveMinimum" if interval.low_open else "minimum"] = interval.low
    if math.isfinite(interval.high):
        found["exclusiveMaximum" if interval.high_open else "maximum"] = interval.high
    return found
