"""The requests: every pair in both orders, each known by a hash of all that its reply depends on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from openrlhf_rad.judging.answers import Match
from openrlhf_rad.judging.prompt import JudgingPrompt
from openrlhf_rad.judging.verdict import FORMS, Form

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
