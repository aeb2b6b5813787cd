"""The risk of a profile: an expression or the long form, to a spectrum.

    risk     = term { "+" term }
    term     = [ number "*" ] measure ( "(" [ arguments ] ")" | [ arguments ] )
    arguments = argument { [ "," ] argument }
    argument = ( name | level ) "=" value

`cvar α=0.9`, `0.8*cvar(alpha=0.9) + 0.2*mean`, `piecewise 0=0.2 0.9=1`: an expression is turned into the
nodes of the long form, each at its token, so that one set of checks serves both and can point at the very
token. There is no recursion and no look-back: the time is linear in the text. Names, ranges and defaults of
the measures are those of :data:`~openrlhf_rad.method.spectrum.MEASURES`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import Any, NamedTuple

from openrlhf_rad.errors import Place, Problem, did_you_mean, shown
from openrlhf_rad.method.spectrum import (
    ALIASES,
    MAX_MEMBERS,
    MAX_STEPS,
    MEAN,
    MEASURES,
    SYMBOLS,
    Flaw,
    MeasureSpectrum,
    Spectrum,
    make_mixture,
    make_piecewise,
    step_flaws,
    weight_flaws,
)
from openrlhf_rad.profile.language import is_number
from openrlhf_rad.profile.yaml import Node, Problems, scalar

#: Longer expressions are unreadable; the long form has no such limit.
MAX_CHARACTERS = 2_000
#: What the long form of a risk begins with; a mapping without one of them only changes a base's parameters.
WHOLE = ("measure", "piecewise", "mixture")
# What str() of the largest spectrum takes.
_OWN_CHARACTERS = 100_000
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


# Longer whole numbers are read as floats: an int of a thousand digits fits none.
_WHOLE_NUMBER = "-?[0-9]{1,15}"


class Token(NamedTuple):
    """A token: number, name, sign, other or end; its text; where it starts."""

    kind: str
    text: str
    offset: int


def read_risk(problems: Problems, node: Node, limit: int = MAX_CHARACTERS) -> Spectrum:
    """The spectrum of a risk as a profile writes it; the mean when it is not valid, with the problems noted.

    Args:
        limit: most characters of an expression.
    """
    held = expand(problems, node, limit) if isinstance(node.value, str) else node
    if held is None:
        return MEAN
    if not isinstance(held.value, dict):
        problems.add(held, "it must be a measure with its parameters", "write cvar α=0.9")
        return MEAN
    return _mixture(problems, held) if "mixture" in held.value else _member(problems, held)


def read_spectrum(text: str) -> Spectrum:
    """The spectrum of an expression, such as `str(spectrum)` gives; places are `risk:1:column`.

    Raises:
        ProfileError: every problem of the text.
    """
    problems, place = Problems(["risk"]), Place("risk", 1, 1)
    spectrum = read_risk(problems, Node(text, "risk", place, place, 1), _OWN_CHARACTERS)
    problems.refuse()
    return spectrum


def expand(problems: Problems, node: Node, limit: int = MAX_CHARACTERS) -> Node | None:
    """The long form of an expression, aliases (α, h, κ, γ, η) spelled out; None where it cannot be read.

    In a mixture a term that cannot be read is a node without a key. What is wrong is noted.
    """
    text = node.value
    if len(text) > limit:
        rule = f"an expression has at most {limit} characters, this one has {len(text)}"
        problems.add(node, rule, "write the long form")
        return None
    terms = _terms(_tokens(text))
    if len(terms) == 1 and not any(token.text == "*" for token in terms[0]):
        return _Term(terms[0], node, node.key, problems).read(weighted=False)
    members = [
        _Term(tokens, node, f"{node.key}.mixture.{index}", problems).read(weighted=True)
        or Node(None, "", node.place, node.place)
        for index, tokens in enumerate(terms)
    ]
    return _mapping(node, {"mixture": Node(members, f"{node.key}.mixture", node.place, node.place)})


def _mapping(node: Node, value: dict[str, Node]) -> Node:
    return Node(value, node.key, node.place, node.key_place)


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
        self.at, self.rule, self.fix = token, rule, fix


class _Term:
    """Reads one term by recursive descent; its nodes go below key."""

    def __init__(self, tokens: list[Token], node: Node, key: str, problems: Problems) -> None:
        self.tokens, self.node, self.key, self.problems = tokens, node, key, problems
        self.position = 0

    @property
    def next(self) -> Token:
        return self.tokens[self.position]

    def take(self) -> Token:
        token = self.next
        self.position = min(self.position + 1, len(self.tokens) - 1)
        return token

    def read(self, *, weighted: bool) -> Node | None:
        """The node of the term; None, with the problem noted, where the grammar is broken."""
        place = self.place(self.next) if weighted else self.node.place
        try:
            return Node(self.term(weighted=weighted), self.key, place, place)
        except _Broken as broken:
            said = shown(self.node.value)
            self.problems.note(Problem(self.place(broken.at), self.node.key, said, broken.rule, broken.fix))
            return None

    def term(self, *, weighted: bool) -> dict[str, Node]:
        data: dict[str, Node] = {}
        if self.next.kind == "number" and self.tokens[self.position + 1].text == "*":
            data["weight"] = self.token("weight", self.take())
            self.take()
        name = self.take()
        if name.kind != "name":
            rule = f"{name.text or 'the end'} stands where a measure belongs"
            raise _Broken(name, rule, "write for instance cvar α=0.9")
        if weighted and not data:
            rule, fix = f"{name.text} has no weight; in a mixture each measure has one", f"0.5*{name.text}"
            raise _Broken(name, rule, f"write for instance {fix}")
        pairs = self.arguments(name)
        if name.text == "piecewise":
            return {**data, "piecewise": self.steps(name, pairs)}
        data["measure"] = self.token("measure", name)
        return {**data, **self.parameters(name, pairs)}

    def token(self, name: str, token: Token, key: Token | None = None) -> Node:
        """The node of a token, and of the token that is its key."""
        value: Any = token.text
        if token.kind == "number":
            value = int(token.text) if re.fullmatch(_WHOLE_NUMBER, token.text) else float(token.text)
        return Node(value, f"{self.key}.{name}", self.place(token), self.place(key or token))

    def place(self, token: Token) -> Place:
        """Where a token stands; where the text does if that cannot be told."""
        at = self.node.place
        return at._replace(column=self.node.column + token.offset) if self.node.column else at

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

    def parameters(self, measure: Token, pairs: list[tuple[Token, Token]]) -> dict[str, Node]:
        data: dict[str, Node] = {}
        for key, value in pairs:
            name = ALIASES.get(key.text, key.text)
            if name in data:
                raise _Broken(key, f"{name} is given twice", "remove one")
            if name in (*WHOLE, "weight") or key.kind == "other":
                raise _Broken(key, f"{shown(name)} is not a parameter of {measure.text}", "remove it")
            data[name] = self.token(name, value, key)
        return data

    def steps(self, measure: Token, pairs: list[tuple[Token, Token]]) -> Node:
        steps = []
        for index, (level, height) in enumerate(pairs):
            path = f"piecewise.{index}"
            step = self.token(path, level)
            step.value = [self.token(f"{path}.0", level), self.token(f"{path}.1", height)]
            steps.append(step)
        whole = self.token("piecewise", measure)
        whole.value = steps
        return whole


def _mixture(problems: Problems, node: Node) -> Spectrum:
    _alone(problems, node, "mixture")
    mixture = node.value["mixture"]
    members = mixture.value
    if not isinstance(members, list) or not 1 <= len(members) <= MAX_MEMBERS:
        rule = f"it must be a list of 1 to {MAX_MEMBERS} measures with their weights"
        problems.add(mixture, rule, "write for instance [{weight: 1, measure: mean}]", _sized(members))
        return MEAN
    before = len(problems.found)
    built: list[tuple[float, Spectrum]] = []
    for member in members:
        if isinstance(member.value, dict) and "mixture" not in member.value:
            built.append((_weight(problems, member), _member(problems, member, weighted=True)))
        elif member.key:  # a term with a fault has its line already
            rule = "it must be a measure or steps, with a weight"
            problems.add(member, rule, "write for instance {weight: 0.8, measure: cvar, alpha: 0.9}")
    weights = [weight for weight, _ in built]
    if len(built) < len(members) or any(math.isnan(weight) for weight in weights):
        return MEAN
    _note(problems, node, weight_flaws(weights))
    return make_mixture(built) if len(problems.found) == before else MEAN


def _weight(problems: Problems, member: Node) -> float:
    """The weight of a member as given; NaN, with a problem noted, when it is not a number."""
    if "weight" not in member.value:
        rule = "each measure of a mixture has one"
        said = Problem(
            member.place, member.below("weight"), "missing", rule, "write for instance weight: 0.5"
        )
        problems.note(said)
        return math.nan
    value = _float(member.value["weight"].value)
    if math.isnan(value):
        problems.add(member.value["weight"], "a weight must be a number ≥ 0", "write for instance 0.5")
    return value


def _member(problems: Problems, node: Node, *, weighted: bool = False) -> Spectrum:
    """A measure or steps; weighted: beside a weight, which the caller reads."""
    if "piecewise" in node.value:
        _alone(problems, node, "piecewise", *(["weight"] if weighted else []))
        return _piecewise(problems, node)
    if weighted:
        node = _mapping(node, {name: held for name, held in node.value.items() if name != "weight"})
    return _measure(problems, node)


def _piecewise(problems: Problems, node: Node) -> Spectrum:
    held = node.value["piecewise"]
    steps = held.value
    if not isinstance(steps, list) or not 1 <= len(steps) <= MAX_STEPS:
        rule = f"it must be a list of 1 to {MAX_STEPS} steps, each [level from which, relative height]"
        problems.add(held, rule, "write for instance [[0, 0.2], [0.9, 1], [0.99, 5]]", _sized(steps))
        return MEAN
    before, sound, example = len(problems.found), True, "write for instance [0.9, 1]"
    for step in steps:
        if not isinstance(step.value, list) or len(step.value) != 2:
            problems.add(step, "a step must be [level from which, relative height]", example)
            sound = False
            continue
        for value, what in zip(step.value, ("a level", "a height"), strict=True):
            if math.isnan(_float(value.value)):
                where = "in [0, 1)" if what == "a level" else "≥ 0"
                problems.add(value, f"{what} must be a number {where}", example)
                sound = False
    # What could not be read has its line already, so that the lines do not tell.
    if not sound:
        return MEAN
    pairs = [(_float(level.value), _float(height.value)) for level, height in (step.value for step in steps)]
    _note(problems, node, step_flaws(pairs))
    return make_piecewise(pairs) if len(problems.found) == before else MEAN


def _measure(problems: Problems, node: Node) -> Spectrum:
    if "measure" not in node.value:
        meant = [did_you_mean(name, WHOLE) for name in node.value]
        fix = next(filter(None, meant), "write for instance measure: cvar")
        rule = "a risk is a measure, piecewise or mixture"
        problems.note(Problem(node.place, node.below("measure"), "missing", rule, fix))
        return MEAN
    held = node.value["measure"]
    measure = held.value
    if not isinstance(measure, str) or measure not in MEASURES:
        hint = did_you_mean(measure, [*MEASURES, "piecewise"])
        problems.add(held, f"it must be one of {', '.join(MEASURES)}", hint)
        return MEAN
    given: dict[str, tuple[str, Node]] = {}
    for written, child in node.value.items():
        name = ALIASES.get(written, written)
        if name in given:
            # The later of the two in the file is kept out, so the text names it first.
            first, other = given[name]
            said = f"given twice, as {first} and as {written}"
            problems.note(Problem(other.key_place, node.below(name), said, "", "remove one"))
        given[name] = (written, child)
    del given["measure"]
    known = MEASURES[measure].parameters
    for name, (_, child) in given.items():
        if name not in known:
            rule = f"{measure} takes {', '.join(known) if known else 'no parameters'}"
            said, hint = f"not a parameter of {measure}", did_you_mean(name, known)
            problems.note(Problem(child.key_place, node.below(name), said, rule, hint))
    return MeasureSpectrum(measure, _parameters(problems, measure, node, given))


def _parameters(
    problems: Problems, measure: str, node: Node, given: dict[str, tuple[str, Node]]
) -> tuple[tuple[str, float], ...]:
    values: list[tuple[str, float]] = []
    for name, parameter in sorted(MEASURES[measure].parameters.items()):
        if name not in given:
            if parameter.default is not None:
                values.append((name, parameter.default))
                continue
            rule = f"{measure} needs {SYMBOLS[name]} in {parameter.range}"
            fix = f"write {MEASURES[measure].example}"
            problems.note(Problem(node.place, node.below(name), "missing", rule, fix))
            continue
        child = given[name][1]
        value = _float(child.value)
        if value in parameter.range:
            values.append((name, value))
            continue
        number = is_number(child.value)
        quoted = isinstance(child.value, str) and is_number(scalar(child.value))
        said = f'"{child.value}"' if quoted else shown(value if math.isinf(value) else child.value)
        rule = f"it must {'lie' if number else 'be a number'} in {parameter.range}"
        fix = "remove the quotes" if quoted else parameter.advice
        # The place belongs to the key as written (α), the message to the full name.
        problems.note(Problem(child.place, node.below(name), said, rule, fix))
        values.append((name, 0.5))
    return tuple(values)


def _alone(problems: Problems, node: Node, *allowed: str) -> None:
    """Note keys beside one that takes none."""
    for name, child in node.value.items():
        if name not in allowed:
            said = f"{allowed[0]}, which takes no more"
            problems.note(Problem(child.key_place, child.key, said, "", "remove one", "stands beside"))


def _note(problems: Problems, node: Node, flaws: Iterable[Flaw]) -> None:
    for flaw in flaws:
        at = node
        for step in flaw.path.split("."):
            at = at.value[int(step) if isinstance(at.value, list) else step]
        problems.note(Problem(at.place, node.below(flaw.path), flaw.value, flaw.rule, flaw.fix))


def _sized(value: object) -> str:
    return f"a list of {len(value)}" if isinstance(value, list) else shown(value)


def _float(value: object) -> float:
    """A number as a float; all else as NaN."""
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
