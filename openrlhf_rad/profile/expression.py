"""The expressions of a risk: `cvar α=0.9`, `0.8*cvar(alpha=0.9) + 0.2*mean`, `piecewise 0=0.2 0.9=1`.

    risk     = term { "+" term }
    term     = [ number "*" ] measure ( "(" [ arguments ] ")" | [ arguments ] )
    arguments = argument { [ "," ] argument }
    argument = ( name | level ) "=" value

An expression is turned into the plain data of the long form, with the offset of every token, so that
one set of checks serves both and can point at the very token. There is no recursion and no look-back:
the time is linear in the text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from openrlhf_rad.errors import shown as show
from openrlhf_rad.method.measures import ALIASES

#: Longer ones are unreadable; the long form has no such limit.
MAX_CHARACTERS = 2_000

# Possessive (++): a long run of digits is never tried again in parts.
_TOKEN = re.compile(
    r"""
        (?P<number>-?+(?:[0-9]++\.?+[0-9]*+|\.[0-9]++)(?:[eE][-+]?[0-9]++)?+)(?![^\s()*+=,])
      | (?P<sign>[()*+=,])
      | (?P<name>[^\W\d]\w*+)(?![^\s()*+=,])
      | (?P<other>[^\s()*+=,]++)
    """,
    re.VERBOSE,
)
#: Stands for a member of a mixture that has a fault.
FAULTY = object()
# Keys that the long form keeps for itself.
_RESERVED = ("measure", "weight", "piecewise", "mixture")


class Token(NamedTuple):
    """A token: number, name, sign, other or end; its text; where it starts."""

    kind: str
    text: str
    offset: int


class Fault(NamedTuple):
    """A place in an expression where the grammar is broken."""

    offset: int
    rule: str
    fix: str


@dataclass
class Parsed:
    """An expression as the long form's data.

    Attributes:
        data: `{measure: …}`, `{piecewise: …}` or `{mixture: […]}`. In a mixture FAULTY stands for a term
            with a fault; when the only term has one, data is None.
        offsets: dotted path below the risk → where its value starts; `path + ':'`: where its key does.
        faults: broken grammar, in order. Names and values are not checked here.
    """

    data: dict[str, Any] | None = None
    offsets: dict[str, int] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)


def parse_expression(text: str, limit: int = MAX_CHARACTERS) -> Parsed:
    """Read an expression; aliases (α, h, κ, γ, η) are spelled out. Never raises."""
    if len(text) > limit:
        rule = f"an expression has at most {limit} characters, this one has {len(text)}"
        return Parsed(faults=[Fault(0, rule, "write the long form")])
    terms = _terms(_tokens(text))
    parsed = Parsed()
    mixture = len(terms) > 1 or any(token.text == "*" for token in terms[0])
    members: list[Any] = []
    for index, tokens in enumerate(terms):
        term = _Term(tokens, f"mixture.{index}." if mixture else "", parsed)
        try:
            members.append(term.read(weighted=mixture))
        except _Broken as error:
            parsed.faults.append(error.fault)
            members.append(FAULTY)
    if mixture:
        parsed.data = {"mixture": members}
    elif members[0] is not FAULTY:
        parsed.data = members[0]
    return parsed


def _tokens(text: str) -> list[Token]:
    tokens = [
        Token(str(match.lastgroup), match[str(match.lastgroup)], match.start(str(match.lastgroup)))
        for match in _TOKEN.finditer(text)
    ]
    return [*tokens, Token("end", "", len(text))]


def _terms(tokens: list[Token]) -> list[list[Token]]:
    """The tokens of each term; each list ends with an end token where the term does."""
    terms: list[list[Token]] = [[]]
    for token in tokens:
        if token.text == "+":
            terms[-1].append(Token("end", "", token.offset))
            terms.append([])
        else:
            terms[-1].append(token)
    return terms


class _Broken(Exception):
    def __init__(self, token: Token, rule: str, fix: str) -> None:
        self.fault = Fault(token.offset, rule, fix)


class _Term:
    """Reads one term by recursive descent; places go below prefix."""

    def __init__(self, tokens: list[Token], prefix: str, parsed: Parsed) -> None:
        self.tokens, self.prefix, self.parsed = tokens, prefix, parsed
        self.position = 0

    @property
    def next(self) -> Token:
        return self.tokens[self.position]

    def take(self) -> Token:
        token = self.next
        self.position = min(self.position + 1, len(self.tokens) - 1)
        return token

    def read(self, *, weighted: bool) -> dict[str, Any]:
        """The data of the term."""
        data: dict[str, Any] = {}
        if self.prefix:
            self.parsed.offsets[self.prefix.rstrip(".")] = self.next.offset
        if self.next.kind == "number" and self.tokens[self.position + 1].text == "*":
            weight = self.take()
            data["weight"] = self.mark("weight", weight)
            self.take()
        name = self.take()
        if name.kind != "name":
            rule = f"{name.text or 'the end'} stands where a measure belongs"
            raise _Broken(name, rule, "write for instance cvar α=0.9")
        if weighted and "weight" not in data:
            rule, fix = f"{name.text} has no weight; in a mixture each measure has one", f"0.5*{name.text}"
            raise _Broken(name, rule, f"write for instance {fix}")
        pairs = self.arguments(name)
        if name.text == "piecewise":
            return {**data, **self.steps(name, pairs)}
        data["measure"] = self.mark("measure", name)
        return {**data, **self.parameters(name, pairs)}

    def mark(self, path: str, token: Token, key: Token | None = None) -> Any:
        """Note where a value (and its key) stands; the value as data."""
        self.parsed.offsets[self.prefix + path] = token.offset
        if key:
            self.parsed.offsets[f"{self.prefix}{path}:"] = key.offset
        if token.kind != "number":
            return token.text
        # Long whole numbers as floats: an int of a thousand digits fits no float.
        return int(token.text) if re.fullmatch(r"-?[0-9]{1,15}", token.text) else float(token.text)

    def arguments(self, measure: Token) -> list[tuple[Token, Token]]:
        """Pairs of key and value up to the end of the term."""
        opening = self.take() if self.next.text == "(" else None
        pairs: list[tuple[Token, Token]] = []
        while self.next.kind != "end" and not (opening and self.next.text == ")"):
            if self.next.text == "," and pairs:
                self.take()
                continue
            pairs.append(self.argument(measure))
        if opening and self.take().text != ")":
            raise _Broken(opening, "this bracket is not closed", "write ) after the last parameter")
        if self.next.kind != "end":
            raise _Broken(self.next, f"{self.next.text} stands after the closing bracket", "put + before it")
        return pairs

    def argument(self, measure: Token) -> tuple[Token, Token]:
        key = self.take()
        example = "0.9=1" if measure.text == "piecewise" else "α=0.9"
        if key.text.startswith("-") and self.next.text != "=":
            raise _Broken(key, "a mixture is a sum of weights ≥ 0", "write + and a weight ≥ 0")
        if key.text in ("*", "(", ")"):
            rule = f"{key.text} is not expected here"
            raise _Broken(key, rule, f"write for instance 0.8*{measure.text} {example} + 0.2*mean")
        if key.kind == "sign" or self.take().text != "=" or self.next.kind in ("sign", "end"):
            rule = f"{key.text} is not of the form name=value"
            raise _Broken(key, rule, f"write for instance {measure.text} {example}")
        return key, self.take()

    def parameters(self, measure: Token, pairs: list[tuple[Token, Token]]) -> dict[str, Any]:
        data: dict[str, Any] = {}
        for key, value in pairs:
            name = ALIASES.get(key.text, key.text)
            if name in data:
                raise _Broken(key, f"{name} is given twice", "remove one")
            if name in _RESERVED or key.kind == "other":
                raise _Broken(key, f"{show(name)} is not a parameter of {measure.text}", "remove it")
            data[name] = self.mark(name, value, key)
        return data

    def steps(self, measure: Token, pairs: list[tuple[Token, Token]]) -> dict[str, Any]:
        self.parsed.offsets[f"{self.prefix}piecewise"] = measure.offset
        steps = []
        for index, (key, value) in enumerate(pairs):
            path = f"piecewise.{index}"
            self.parsed.offsets[f"{self.prefix}{path}"] = key.offset
            steps.append([self.mark(f"{path}.0", key), self.mark(f"{path}.1", value)])
        return {"piecewise": steps}
