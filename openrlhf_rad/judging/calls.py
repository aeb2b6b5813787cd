"""The requests: the judging prompt, and every pair in both orders.

Each is known by a hash of all that its reply depends on.

The prompt is a text file with the placeholders {prompt}, {answer_a}, {answer_b} and {format}. A placeholder
is a name in braces; any other brace stands for itself, so that a file may show JSON. All are filled in one
pass: what an answer holds is never taken for a placeholder.
"""

from __future__ import annotations

import hashlib
import importlib.resources
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from openrlhf_rad.errors import DataError, did_you_mean
from openrlhf_rad.judging.answers import Match
from openrlhf_rad.judging.verdict import FORMS, Form

NEEDED = ("prompt", "answer_a", "answer_b")
PLACEHOLDERS = (*NEEDED, "format")
_PLACEHOLDER = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")


@dataclass(frozen=True)
class JudgingPrompt:
    """A checked judging prompt, and where it came from."""

    text: str
    source: str

    @property
    def sha256(self) -> str:
        """Tells two prompts apart in results."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    def render(self, prompt: str, answer_a: str, answer_b: str, instruction: str) -> str:
        """The text that the judge reads; ``instruction`` says how to write the verdict."""
        values = {"prompt": prompt, "answer_a": answer_a, "answer_b": answer_b, "format": instruction}
        return _PLACEHOLDER.sub(lambda found: values[found[1]], self.text)


def load_judging_prompt(path: Path | None = None) -> JudgingPrompt:
    """The prompt of a file, or the shipped one. Raises DataError with every fault of the file."""
    if path is None:
        shipped = importlib.resources.files("openrlhf_rad.judging").joinpath("prompt.txt")
        return JudgingPrompt(shipped.read_text(encoding="utf-8"), "prompt.txt as shipped")
    try:
        content = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise DataError(f"{path}: there is no such file; check the path") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: byte {error.start} is not UTF-8; save the file as UTF-8") from None
    except OSError as error:
        raise DataError(f"{path}: it cannot be read ({error.strerror}); check path and rights") from None
    problems = _problems(content, str(path))
    if problems:
        raise DataError(problems)
    return JudgingPrompt(content, str(path))


def _problems(content: str, source: str) -> list[str]:
    problems, seen = [], set()
    for number, line in enumerate(content.splitlines(), 1):
        for found in _PLACEHOLDER.finditer(line):
            seen.add(found[1])
            if found[1] not in PLACEHOLDERS:
                known = ", ".join(f"{{{name}}}" for name in PLACEHOLDERS)
                hint = did_you_mean(found[1], PLACEHOLDERS) or "remove it"
                place = f"{source}:{number}:{found.start() + 1}"
                problems.append(f"{place}: {found[0]} is no placeholder; they are {known}; {hint}")
    absent = [f"{{{name}}}" for name in NEEDED if name not in seen]
    if absent:
        problems.append(
            f"{source}: {', '.join(absent)} is missing; the judge must see it; add it to the text"
        )
    return problems


#: Rough, for English; encodings that count exactly are not on every machine and differ between models.
BYTES_A_TOKEN = 4


@dataclass(frozen=True)
class Judge:
    """Who judges, and how it is asked. The key is not here: nothing of this is secret.

    Attributes:
        request: keys put into each request's body last; None leaves one out.
    """

    model: str
    base_url: str
    prompt: JudgingPrompt
    form: str = "line"
    temperature: float = 0.0
    max_tokens: int = 1024
    response_format: bool = True
    request: Mapping[str, Any] = field(default_factory=dict)

    @property
    def reads(self) -> Form:
        """How verdicts are written and read."""
        return FORMS[self.form]

    def body(self, match: Match, *, blue_first: bool) -> dict[str, Any]:
        """The JSON of one request."""
        first, second = (match.blue, match.red) if blue_first else (match.red, match.blue)
        content = self.prompt.render(match.prompt, first, second, self.reads.instruction)
        body: dict[str, Any] = {
            "model": self.model,
            "messages": [{"role": "user", "content": content}],
            "temperature": self.temperature,
            "max_tokens": self.max_tokens,
        }
        if self.reads.response_format and self.response_format:
            body["response_format"] = self.reads.response_format
        body |= self.request
        return {key: value for key, value in body.items() if value is not None}


@dataclass(frozen=True, slots=True)
class Call:
    """One request: a pair in one order.

    Attributes:
        key: hash of the address and the whole body, so of model, prompt, both answers, order and temperature.
        size: of the body's texts in bytes.
    """

    match: Match
    blue_first: bool
    key: str
    size: int


def plan(judge: Judge, matches: Iterable[Match]) -> list[Call]:
    """Both orders of every pair; equal answers are a tie that nobody need be asked about."""
    return [
        _call(judge, match, blue_first)
        for match in matches
        if match.red != match.blue
        for blue_first in (False, True)
    ]


def _call(judge: Judge, match: Match, blue_first: bool) -> Call:
    body = judge.body(match, blue_first=blue_first)
    exact = json.dumps([judge.base_url, body], sort_keys=True, ensure_ascii=False)
    size = sum(len(message["content"].encode()) for message in body["messages"])
    return Call(match, blue_first, hashlib.sha256(exact.encode()).hexdigest(), size)


@dataclass(frozen=True)
class Estimate:
    """What asking will cost at most: an estimate of the tokens in, a bound of the tokens out.

    Attributes:
        cached: replies that are there already. price: in the unit of the prices; None where none were given.
    """

    calls: int
    cached: int
    tokens_in: int
    tokens_out: int
    price: float | None

    @property
    def sentence(self) -> str:
        """For the terminal."""
        there = f" ({self.cached:,} more are in the cache)" if self.cached else ""
        price = "" if self.price is None else f": at most about {self.price:,.2f} at the prices given"
        return (
            f"{self.calls:,} calls{there}, about {self.tokens_in:,} tokens in ({BYTES_A_TOKEN} bytes a token)"
            f" and at most {self.tokens_out:,} out{price}"
        )


def estimate(
    calls: Sequence[Call],
    there: int,
    max_tokens: int,
    price_in: float | None = None,
    price_out: float | None = None,
) -> Estimate:
    """The cost of the calls yet to be made; prices are for a million tokens."""
    tokens_in = sum(-(-call.size // BYTES_A_TOKEN) for call in calls)
    tokens_out = len(calls) * max_tokens
    price = None
    if price_in is not None and price_out is not None:
        price = (tokens_in * price_in + tokens_out * price_out) / 1e6
    return Estimate(len(calls), there, tokens_in, tokens_out, price)
