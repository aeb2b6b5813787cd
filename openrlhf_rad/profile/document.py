"""YAML text to plain data with the line and column of every key and value.

Stricter than PyYAML: a repeated key, an alias and a tag are refused, and scalars follow YAML 1.2, so that
`1e-3` is a number, `010` is ten and `no` is a word. The parser's events are read one by one, so a text
that is too deep or too large is left at the first event that shows it, in bounded time and memory.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NoReturn

import yaml

from openrlhf_rad.errors import ProfileError, printable
from openrlhf_rad.profile.scalars import convert, resolve

# A profile is a page of text; the limits keep a wrong or hostile file from being parsed for minutes.
MAX_CHARACTERS = 100_000
MAX_VALUES = 10_000
MAX_DEPTH = 12
MAX_KEY = 100
# More problems than that are one: the file is no profile.
_MAX_LINES = 100
# PyYAML's own parser words its errors better, but is too slow to ask about a long text.
_MAX_SECOND_LOOK = 5_000

# What YAML allows (5.1), so that the place of any other character can be told.
_FORBIDDEN = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

_FIXES = {
    "'\\t'": "indent with spaces",
    "mapping values are not allowed": "write one key a line, and a text that holds a colon in quotes",
    "expected <block end>": "indent the keys of a mapping alike",
    "cannot start any token": "put the text in quotes",
    "could not find expected ':'": "put a colon and a space after a key",
    "unexpected end of stream": "close the quotes",
    "expected ',' or": "put commas between the items, and close the bracket",
    "expected the node content": "write a value, and close the bracket",
    "unknown escape": "use single quotes for a text with backslashes",
}

#: libyaml's parser where PyYAML has it, eighty times as fast.
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Refused(Exception):
    """The rest of the text is not read; holds the problem's line."""


@dataclass
class Document:
    """Plain data with places. Keys of `places` are dotted paths; a key's own place is at `path + ':'`.

    Attributes:
        source: the file as the user named it, the start of every place.
        data: dicts, lists and scalars.
        places: dotted path → `file:line:column` (or `--set path`), the value's place.
        problems: what was wrong already here, one line a problem.
        texts: place of a text that is written as it reads (one line, no escapes) → column of its first
            character, which quotes move by one.
        sources: the file and those that it extends, in that order.
        incomplete: whether a file that it extends could not be read.
    """

    source: str
    data: Any
    places: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    texts: dict[str, int] = field(default_factory=dict)
    sources: list[str] = field(default_factory=list)
    incomplete: bool = False

    def place(self, path: str, *, key: bool = False) -> str:
        """Where a value (or its key) stands; for a missing one, where the nearest enclosing value does."""
        if key and f"{path}:" in self.places:
            return self.places[f"{path}:"]
        while path and path not in self.places:
            path = path.rpartition(".")[0]
        return self.places.get(path, f"{self.source}:1:1")

    def inside(self, path: str, offset: int) -> str:
        """Where a character of a text stands; where the text does if that cannot be told."""
        place = self.place(path)
        if place not in self.texts:
            return place
        return f"{place.rpartition(':')[0]}:{self.texts[place] + offset}"


def parse(text: str, source: str) -> Document:
    """Read one YAML document. Raises ProfileError for text that is not YAML, with the place."""
    text = text.removeprefix("\ufeff")
    if len(text) > MAX_CHARACTERS:
        raise ProfileError(
            f"{source}:1:1: the file has {len(text)} characters; a profile has at most {MAX_CHARACTERS};"
            " check the path"
        )
    if bad := _FORBIDDEN.search(text):
        before = text[: bad.start()]
        place = f"{source}:{before.count(chr(10)) + 1}:{bad.start() - before.rfind(chr(10))}"
        code = f"U+{ord(bad[0]):04X}"
        raise ProfileError(f"{place}: the text holds the character {code}; YAML allows no such; remove it")
    document = Document(source, None)
    try:
        _Composer(text, document).compose()
    except _Refused as refused:
        raise ProfileError(listed([*document.problems, str(refused)], source)) from None
    except yaml.YAMLError as error:
        lines = [*document.problems, _syntax_problem(error, text, source)]
        raise ProfileError(listed(lines, source)) from None
    return document


def listed(lines: list[str], source: str) -> list[str]:
    """Problems as they are shown: without control characters, and not thousands of them."""
    more = len(lines) - _MAX_LINES
    found = [printable(line) for line in lines[:_MAX_LINES]]
    return found if more <= 0 else [*found, f"{source}: {more} more problems"]


class _Composer:
    """Builds the data of a document from the parser's events."""

    def __init__(self, text: str, document: Document) -> None:
        self.document = document
        self.events: Iterator[Any] = iter(yaml.parse(text, Loader=_Loader))
        self.values = 0

    def compose(self) -> None:
        """Fill the document. Raises _Refused or YAMLError."""
        next(self.events)
        if isinstance(next(self.events), yaml.StreamEndEvent):
            return
        self.document.data = self.value(next(self.events), "", 0)
        next(self.events)
        following = next(self.events)
        if not isinstance(following, yaml.StreamEndEvent):
            self.refuse(following, "a second document begins; a profile is one", "remove all from --- on")

    def value(self, event: Any, path: str, depth: int) -> Any:
        """The value that begins with the event; its places are noted below path."""
        self.values += 1
        if self.values > MAX_VALUES:
            rule = f"the text has more than {MAX_VALUES} values; a profile has far fewer"
            self.refuse(event, rule, "check the path")
        if depth > MAX_DEPTH:
            rule = f"the text is nested too deeply, more than {MAX_DEPTH} levels"
            self.refuse(event, f"{rule}; a profile has at most ten", "check the brackets")
        if isinstance(event, yaml.AliasEvent):
            self.refuse(event, "this is not valid YAML: an alias (*name) is used", "write the value out")
        self.document.places[path] = self.place(event)
        if isinstance(event, yaml.MappingStartEvent):
            return self.tagged(event, "map", self.mapping(path, depth), path)
        if isinstance(event, yaml.SequenceStartEvent):
            return self.tagged(event, "seq", self.sequence(path, depth), path)
        return self.scalar(event, path)

    def mapping(self, path: str, depth: int) -> dict[str, Any]:
        data: dict[str, Any] = {}
        lines: dict[str, int] = {}
        while not isinstance(event := next(self.events), yaml.MappingEndEvent):
            key = self.key(event)
            dotted = f"{path}.{key}" if path else key
            place = self.place(event)
            if key not in data:
                self.document.places[f"{dotted}:"] = place
                lines[key] = event.start_mark.line + 1
                data[key] = self.value(next(self.events), dotted, depth + 1)
                continue
            self.document.problems.append(
                f"{place}: {dotted} is given twice; a key may appear once;"
                f" remove this one or the one in line {lines[key]}"
            )
            known = len(self.document.problems)
            # Its places must not replace those of the first, and its faults are not worth a line.
            self.value(next(self.events), "\0", depth + 1)
            del self.document.problems[known:]
        return data

    def key(self, event: Any) -> str:
        if not isinstance(event, yaml.ScalarEvent):
            self.refuse(
                event, "a key is a list, a mapping or an alias; it must be a word", "check the brackets"
            )
        key = str(event.value)
        if len(key) > MAX_KEY:
            self.refuse(event, f"a key has {len(key)} characters; it may have {MAX_KEY}", "shorten it")
        return key

    def sequence(self, path: str, depth: int) -> list[Any]:
        data: list[Any] = []
        while not isinstance(event := next(self.events), yaml.SequenceEndEvent):
            data.append(self.value(event, f"{path}.{len(data)}", depth + 1))
        return data

    def scalar(self, event: Any, path: str) -> Any:
        text, quotes = str(event.value), 1 if event.style in ("'", '"') else 0
        begin, end = event.start_mark, event.end_mark
        if begin.line == end.line and len(text) + 2 * quotes == end.column - begin.column:
            self.document.texts[self.place(event)] = begin.column + 1 + quotes
        kind = resolve(text) if event.implicit[0] and not event.style else "str"
        kind = str(event.tag).rpartition(":")[2] if event.tag not in (None, "!") else kind
        try:
            return self.tagged(event, kind, convert(kind, text), path)
        except (KeyError, ValueError):
            return self.tagged(event, "", None, path)

    def tagged(self, event: Any, kind: str, value: Any, path: str) -> Any:
        """The value, or None and a problem where it carries a tag other than its kind's own."""
        if event.tag in (None, "!", f"tag:yaml.org,2002:{kind}"):
            return value
        tag = event.tag.replace("tag:yaml.org,2002:", "!!")[:60]
        self.document.problems.append(
            f"{self.place(event)}: {path or 'the file'} has the tag {tag}; profiles hold plain"
            " text and numbers; remove the tag"
        )
        return None

    def place(self, event: Any) -> str:
        return f"{self.document.source}:{event.start_mark.line + 1}:{event.start_mark.column + 1}"

    def refuse(self, event: Any, rule: str, fix: str) -> NoReturn:
        raise _Refused(f"{self.place(event)}: {rule}; {fix}")


def _syntax_problem(error: yaml.YAMLError, text: str, source: str) -> str:
    mark = getattr(error, "problem_mark", None)
    if mark is not None and mark.index <= _MAX_SECOND_LOOK:
        try:
            # Enough of the text for the second look to come to the same place.
            list(yaml.parse(text[: mark.index + _MAX_SECOND_LOOK], Loader=yaml.SafeLoader))
        except yaml.YAMLError as second:
            error, mark = second, getattr(second, "problem_mark", None) or mark
    place = f"{source}:{mark.line + 1}:{mark.column + 1}" if mark else f"{source}:1:1"
    problem = str(getattr(error, "problem", None) or getattr(error, "reason", None) or "it cannot be read")
    fix = next((f"; {fix}" for part, fix in _FIXES.items() if part in problem), "")
    return f"{place}: this is not valid YAML: {problem}{fix}"
