"""YAML text to nodes: plain values, each with its dotted key and its place, and back.

Stricter than PyYAML: a repeated key, an alias and a tag are refused, and scalars follow YAML 1.2, so that
`1e-3` is a number, `010` is ten and `no` is a word. PyYAML's own composer recurses before anything could
stop it; here its events are composed one by one, so that a text which is too deep or too large is left at the
first event that shows it, in bounded time and memory.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, NoReturn

import yaml

from openrlhf_rad.errors import Place, Problem, ProfileError, did_you_mean, shown

# A profile is a page of text; the limits keep a wrong or hostile file from being parsed for minutes.
MAX_CHARACTERS = 100_000
MAX_VALUES = 10_000
MAX_DEPTH = 12
MAX_KEY = 100
# More problems than that are one: the file is no profile. Nor does guessing what is meant help it.
_MAX_PROBLEMS = 100
_MAX_GUESSES = 30
# PyYAML's own parser words its errors better, but is too slow to ask about a long text.
_MAX_SECOND_LOOK = 5_000
# Whole numbers that a float holds exactly; longer ones are read as floats, for int() takes quadratic time.
_MAX_DIGITS = 15

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


@dataclass(slots=True)
class Node:
    """A value of a file.

    Attributes:
        value: a scalar, a list of nodes, or a mapping of them.
        key: its dotted path as written; "" for the whole file.
        place: where it stands. key_place: where its key does.
        column: of the first character of a text that is written as it reads (one line, no escapes); else 0.
        keys: the nodes of a mapping; none of anything else.
    """

    value: Any
    key: str
    place: Place
    key_place: Place
    column: int = 0
    keys: dict[str, Node] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.keys = self.value if isinstance(self.value, dict) else {}

    def plain(self) -> Any:
        """The value as plain data."""
        if isinstance(self.value, dict):
            return {name: node.plain() for name, node in self.value.items()}
        return [node.plain() for node in self.value] if isinstance(self.value, list) else self.value

    def below(self, name: str) -> str:
        """The dotted path of a key of this mapping."""
        return f"{self.key}.{name}" if self.key else name

    def named(self, key: str) -> Node:
        """The same at another path."""
        value = self.value
        if isinstance(value, dict):
            value = {name: node.named(f"{key}.{name}") for name, node in value.items()}
        elif isinstance(value, list):
            value = [node.named(f"{key}.{index}") for index, node in enumerate(value)]
        return replace(self, value=value, key=key)


@dataclass
class Problems:
    """All problems of a file and of those it extends, so that one run shows them.

    Attributes:
        sources: the file and those that it extends, in that order.
        incomplete: whether a file that it extends could not be read, so that much may be missing.
    """

    sources: list[str]
    found: list[Problem] = field(default_factory=list)
    incomplete: bool = False
    _unread: set[Place | None] = field(default_factory=set)

    def unreadable(self, problem: Problem) -> None:
        """A value that could not be read; what stands there is not checked as well."""
        self.found.append(problem)
        self._unread.add(problem.place)

    def note(self, problem: Problem) -> None:
        """Any problem."""
        if problem.place not in self._unread:
            self.found.append(problem)

    def add(self, node: Node, rule: str, fix: str = "", value: str | None = None) -> None:
        """A value that breaks a rule, placed at the value."""
        self.note(Problem(node.place, node.key, shown(node.value) if value is None else value, rule, fix))

    def unknown_keys(self, node: Node, known: Iterable[str]) -> None:
        """Every key of a mapping that does not exist, with the likeliest meant."""
        names = list(known)
        rule = f"the keys are {', '.join(names)}"
        for count, name in enumerate(name for name in node.keys if name not in names):
            hint = did_you_mean(name, names) if count < _MAX_GUESSES else ""
            said = f"not a key of {node.key or 'a profile'}"
            self.note(Problem(node.keys[name].key_place, shown(node.below(name)), said, rule, hint))

    def refuse(self) -> None:
        """Raise one ProfileError if there is any problem."""
        if self.found:
            raise ProfileError(self.in_order())

    def in_order(self) -> list[Problem]:
        """From the top of the file to its end, then of those it extends, then of overrides; at most 100."""

        def position(problem: Problem) -> tuple[int, int, int]:
            place = problem.place
            if place is None or not place.line or place.source not in self.sources:
                return len(self.sources), 0, 0
            return self.sources.index(place.source), place.line, place.column

        # Constraints that inherit a value all find the same fault in it.
        return _bounded(sorted(dict.fromkeys(self.found), key=position), self.sources[0])


def _bounded(problems: list[Problem], source: str) -> list[Problem]:
    more = len(problems) - _MAX_PROBLEMS
    rest = [Problem(Place(source), f"{more} more problems")] if more > 0 else []
    return problems[:_MAX_PROBLEMS] + rest


def parse(text: str, source: str) -> tuple[Node, list[Problem]]:
    """One YAML document, and what in it could not be read; an empty one holds None.

    Raises:
        ProfileError: the text is not YAML, or no profile by its size.
    """
    text = text.removeprefix("\ufeff")
    start = Place(source, 1, 1)
    if len(text) > MAX_CHARACTERS:
        rule = f"a profile has at most {MAX_CHARACTERS}"
        held = f"{len(text)} characters"
        raise ProfileError(Problem(start, "the file", held, rule, "check the path", "has"))
    if bad := _FORBIDDEN.search(text):
        before = text[: bad.start()]
        place = Place(source, before.count("\n") + 1, bad.start() - before.rfind("\n"))
        held, rule = f"the character U+{ord(bad[0]):04X}", "YAML allows no such"
        raise ProfileError(Problem(place, "the text", held, rule, "remove it", "holds"))
    composer = _Composer(text, source)
    try:
        root = composer.document()
    except _Refused as refused:
        raise ProfileError(_bounded([*composer.problems, refused.problem], source)) from None
    except yaml.YAMLError as error:
        problem = _syntax_problem(error, text, source)
        raise ProfileError(_bounded([*composer.problems, problem], source)) from None
    return root or Node(None, "", start, start), composer.problems


def from_plain(value: Any, key: str, place: Place) -> Node:
    """Plain data as nodes that all stand at one place."""
    if isinstance(value, dict):
        value = {str(name): from_plain(held, f"{key}.{name}", place) for name, held in value.items()}
    elif isinstance(value, list | tuple):
        value = [from_plain(held, f"{key}.{index}", place) for index, held in enumerate(value)]
    elif isinstance(value, int) and abs(value) >= 10**300:
        value = math.copysign(math.inf, value > 0 or -1)
    return Node(value, key, place, place)


class _Refused(Exception):
    """The rest of the text is not read."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem


class _Composer:
    """Builds the nodes of a document from the parser's events."""

    def __init__(self, text: str, source: str) -> None:
        self.source = source
        self.problems: list[Problem] = []
        self.events: Iterator[Any] = iter(yaml.parse(text, Loader=_Loader))
        self.values = 0

    def document(self) -> Node | None:
        """The only document; None where there is none. Raises _Refused or YAMLError."""
        next(self.events)
        if isinstance(next(self.events), yaml.StreamEndEvent):
            return None
        event = next(self.events)
        root = self.node(event, "", self.place(event), 0)
        next(self.events)
        following = next(self.events)
        if not isinstance(following, yaml.StreamEndEvent):
            fix = "remove all from --- on"
            self.refuse(
                Problem(self.place(following), "a second document begins", "", "a profile is one", fix)
            )
        return root

    def node(self, event: Any, path: str, key_place: Place, depth: int) -> Node:
        """The node that begins with the event."""
        place, fix = self.place(event), "check the brackets"
        self.values += 1
        if self.values > MAX_VALUES:
            held, rule = f"more than {MAX_VALUES} values", "a profile has far fewer"
            self.refuse(Problem(place, "the text", held, rule, "check the path", "has"))
        if depth > MAX_DEPTH:
            held = f"nested too deeply, more than {MAX_DEPTH} levels"
            self.refuse(Problem(place, "the text", held, "a profile has at most ten", fix))
        if isinstance(event, yaml.AliasEvent):
            held = "not valid YAML: an alias (*name) is used"
            self.refuse(Problem(place, "this", held, "", "write the value out"))
        kind, column = "seq", 0
        value: Any
        if isinstance(event, yaml.MappingStartEvent):
            kind, value = "map", self.mapping(path, depth)
        elif isinstance(event, yaml.SequenceStartEvent):
            value = self.sequence(path, depth)
        else:
            kind, value, column = self.scalar(event)
        if event.tag not in (None, "!", f"tag:yaml.org,2002:{kind}"):
            tag = event.tag.replace("tag:yaml.org,2002:", "!!")[:60]
            held, rule = f"the tag {tag}", "profiles hold plain text and numbers"
            self.problems.append(Problem(place, path or "the file", held, rule, "remove the tag", "has"))
            value = None
        return Node(value, path, place, key_place, column)

    def mapping(self, path: str, depth: int) -> dict[str, Node]:
        nodes: dict[str, Node] = {}
        while not isinstance(event := next(self.events), yaml.MappingEndEvent):
            name, place = self.key(event), self.place(event)
            dotted = f"{path}.{name}" if path else name
            if name in nodes:
                fix = f"remove this one or the one in line {nodes[name].key_place.line}"
                self.problems.append(Problem(place, dotted, "given twice", "a key may appear once", fix))
            known = len(self.problems)
            node = self.node(next(self.events), dotted, place, depth + 1)
            if name in nodes:
                del self.problems[known:]  # its own faults are not worth a line
            else:
                nodes[name] = node
        return nodes

    def key(self, event: Any) -> str:
        place = self.place(event)
        if not isinstance(event, yaml.ScalarEvent):
            held = "a list, a mapping or an alias"
            self.refuse(Problem(place, "a key", held, "it must be a word", "check the brackets"))
        key = str(event.value)
        if len(key) > MAX_KEY:
            held, rule = f"{len(key)} characters", f"it may have {MAX_KEY}"
            self.refuse(Problem(place, "a key", held, rule, "shorten it", "has"))
        return key

    def sequence(self, path: str, depth: int) -> list[Node]:
        nodes: list[Node] = []
        while not isinstance(event := next(self.events), yaml.SequenceEndEvent):
            nodes.append(self.node(event, f"{path}.{len(nodes)}", self.place(event), depth + 1))
        return nodes

    def scalar(self, event: Any) -> tuple[str, Any, int]:
        """Kind and value of a scalar, and the column of its text; a kind of "" that no tag names is wrong."""
        text, quotes = str(event.value), 1 if event.style in ("'", '"') else 0
        begin, end = event.start_mark, event.end_mark
        as_read = begin.line == end.line and len(text) + 2 * quotes == end.column - begin.column
        column = begin.column + 1 + quotes if as_read else 0
        kind = resolve(text) if event.implicit[0] and not event.style else "str"
        kind = str(event.tag).rpartition(":")[2] if event.tag not in (None, "!") else kind
        try:
            return kind, convert(kind, text), column
        except (KeyError, ValueError):
            return "", None, column

    def place(self, event: Any) -> Place:
        return Place(self.source, event.start_mark.line + 1, event.start_mark.column + 1)

    def refuse(self, problem: Problem) -> NoReturn:
        raise _Refused(problem)


def _syntax_problem(error: yaml.YAMLError, text: str, source: str) -> Problem:
    mark = getattr(error, "problem_mark", None)
    if mark is not None and mark.index <= _MAX_SECOND_LOOK:
        try:
            # Enough of the text for the second look to come to the same place.
            list(yaml.parse(text[: mark.index + _MAX_SECOND_LOOK], Loader=yaml.SafeLoader))
        except yaml.YAMLError as second:
            error, mark = second, getattr(second, "problem_mark", None) or mark
    said = str(getattr(error, "problem", None) or getattr(error, "reason", None) or "it cannot be read")
    fix = next((fix for part, fix in _FIXES.items() if part in said), "")
    place = Place(source, mark.line + 1, mark.column + 1) if mark else Place(source, 1, 1)
    return Problem(place, "this", f"not valid YAML: {said}", "", fix)


_RESOLVERS = [
    ("tag:yaml.org,2002:null", re.compile(r"^(?:~|null|)$"), ["~", "n", ""]),
    ("tag:yaml.org,2002:bool", re.compile(r"^(?:true|false)$"), list("tf")),
    ("tag:yaml.org,2002:int", re.compile(r"^[-+]?[0-9]+$"), list("-+0123456789")),
    (
        "tag:yaml.org,2002:float",
        re.compile(r"^[-+]?(?:(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?|\.(?:inf|nan))$"),
        list("-+.0123456789"),
    ),
]


class _Dumper(yaml.SafeDumper):
    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - the name and type are PyYAML's

    def represent_text(self, text: str) -> yaml.ScalarNode:
        # YAML takes the first three for line breaks, which only double quotes can escape.
        style = '"' if any(sign in text for sign in "\x85\u2028\u2029\ufeff") else None
        return self.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _Dumper.represent_text)
for _tag, _pattern, _first in _RESOLVERS:
    _Dumper.add_implicit_resolver(_tag, _pattern, _first)


def dump(data: Any) -> str:
    """YAML text that :func:`parse` reads back as the same data."""
    return str(yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100))


def scalar(text: str) -> Any:
    """One scalar as it would read in a profile: `0.2` a number, `true` a truth value, the rest text."""
    return convert(resolve(text.strip()), text.strip())


def resolve(text: str) -> str:
    """The kind of a plain scalar: null, bool, int, float or str."""
    kinds = (tag for tag, pattern, _ in _RESOLVERS if pattern.match(text))
    return next(kinds, "str").rpartition(":")[2]


def convert(kind: str, text: str) -> Any:
    """A scalar's value. Raises KeyError for an unknown kind, ValueError for a text of another one."""
    if kind == "float" and text.lstrip("-+") in {".inf", ".nan"}:
        text = text.replace(".", "", 1)
    if kind == "int" and len(text) > _MAX_DIGITS:
        kind = "float"
    converters: dict[str, Any] = {
        "null": lambda _: None,
        "bool": lambda word: {"true": True, "false": False}[word],
        "int": int,
        "float": float,
        "str": str,
    }
    return converters[kind](text)
