"""One answer's harm by a judge: the request, and the number that its reply means.

A reply is read where it is a rating and nothing else, or a JSON object with the key ``rating``. Where the
endpoint gives log-probabilities, the cost is the expected rating Σ r p(r) / Σ p(r), over the ratings r among
the likeliest tokens at the place where the rating stands: it is continuous, and tells answers of one rating
apart. A moderation gives a score for each category; the cost is the log-odds of the largest.
"""

from __future__ import annotations

import importlib.util
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from openrlhf_rad.errors import ConfigError, DataError
from openrlhf_rad.judging.calls import BYTES_A_TOKEN, CallEstimate, JudgingPrompt, load_judging_prompt
from openrlhf_rad.judging.endpoint import Named, Reply, check_address, key_of
from openrlhf_rad.judging.verdict import MalformedReply, VerdictForm, spoken
from openrlhf_rad.profile.addresses import filled
from openrlhf_rad.profile.costs import JudgeSettings

#: As many as OpenAI gives, and vLLM without a flag.
_LIKELIEST = 20
#: A score of 0 or 1 has no log-odds.
_LEAST = 1e-9
_NUMBER = re.compile(r"(?:(?:harm|score|rating)\s*[:=]\s*)?(\d{1,3})(?:\s*/\s*\d+)?", re.I)
_KEY = re.compile(r'"rating"\s*:\s*"?(\d{1,3})"?\s*[,}]')
_TOKEN = re.compile(r"\D*(\d{1,3})\D*")


@dataclass(frozen=True)
class Rater:
    """A judge of single answers, ready to make requests and to read replies; it asks nothing itself.

    Attributes:
        place: where the profile names it, as ``cost.judge``.
        base_url: the address, variables put in.
    """

    settings: JudgeSettings
    place: str
    rubric: JudgingPrompt
    base_url: str

    @classmethod
    def of(cls, settings: JudgeSettings, place: str = "cost.judge") -> Rater:
        """Raises ConfigError or DataError: no address, a variable without value, a bad rubric."""
        path = Path(settings.rubric) if settings.rubric else None
        rubric = load_judging_prompt(path, "rubric.txt", ("prompt", "answer"))
        return cls(settings, place, rubric, check_address(filled(settings.base_url)))

    @property
    def named(self) -> Named:
        """What messages of the endpoint call its settings."""
        kept = f"{self.place}.request: '{{{{\"{{key}}\": null}}}}'"
        instead = dict.fromkeys(("logprobs", "top_logprobs"), f"{self.place}.score: number") | {
            "response_format": f"{self.place}.form: number"
        }
        base_url, model, key = (f"{self.place}.{name}" for name in ("base_url", "model", "api_key"))
        return Named(base_url, model, key, kept, instead)

    @property
    def variable(self) -> str:
        """The name of the environment variable with the key."""
        return (self.settings.api_key or "${OPENAI_API_KEY}")[2:-1]

    @property
    def key(self) -> str:
        """The key. Raises ConfigError where there is none and one is needed."""
        return key_of(self.variable, self.base_url, self.named)

    @property
    def ratings(self) -> range:
        """All ratings."""
        return range(self.settings.lowest, self.settings.highest + 1)

    @property
    def _form(self) -> VerdictForm:
        low, high = self.settings.lowest, self.settings.highest
        scale = f"from {low} (no harm) to {high} (most harmful)"
        if self.settings.form == "number":
            said = f"Reply with one whole number {scale} and nothing else."
            return VerdictForm(said, "the reply is no rating")
        value = {"type": "integer", "enum": list(self.ratings)}
        schema: dict[str, Any] = {"type": "object", "properties": {"rating": value}, "required": ["rating"]}
        schema |= {"additionalProperties": False}
        format_ = {"name": "rating", "strict": True, "schema": schema}
        said = f'Reply with one JSON object and nothing else: {{"rating": {high}}}, a whole number {scale}.'
        return VerdictForm(said, "the reply holds no rating", {"type": "json_schema", "json_schema": format_})

    def body(self, prompt: str, answer: str) -> dict[str, Any]:
        """The JSON of one request."""
        settings = self.settings
        extra = json.loads(settings.request or "{}")
        if settings.ask == "moderation":
            body: dict[str, Any] = {"model": settings.model, "input": answer}
        else:
            form = self._form
            content = self.rubric.render(prompt=prompt, answer=answer, format=form.instruction)
            body = {
                "model": settings.model,
                "messages": [{"role": "user", "content": content}],
                "temperature": 0.0,
                "max_tokens": settings.max_tokens,
            }
            if settings.score == "expected" or (settings.score == "auto" and settings.highest <= 9):
                body |= {"logprobs": True, "top_logprobs": _LIKELIEST}
            if form.response_format:
                body["response_format"] = form.response_format
        return {name: value for name, value in (body | extra).items() if value is not None}

    def read(self, reply: Reply) -> tuple[float, bool]:
        """The cost, and whether it is continuous: an expected rating, or a moderation's score.

        Raises:
            MalformedReply: why it holds none; log-probabilities that were asked for and are not there.
        """
        if self.settings.ask == "moderation":
            return self._moderated(json.loads(reply.content)), True
        said = spoken(reply.content, reply.finish_reason, f"{self.place}.max_tokens")
        bare = said.strip("*_`'\"#>. \n")
        found = _NUMBER.fullmatch(bare) or _KEY.search(said)
        if found is None:
            raise MalformedReply(self._form.missing)
        if int(found[1]) not in self.ratings:
            raise MalformedReply(f"the rating {found[1]} is not from {self.ratings[0]} to {self.ratings[-1]}")
        if self.settings.score == "number":
            return float(found[1]), False
        if reply.logprobs is None:
            if self.settings.score == "expected":
                raise MalformedReply(
                    "the endpoint gives no log-probabilities, and an expected rating is asked for; have it"
                    f" give them, or write {self.place}.score: number"
                )
            return float(found[1]), False
        return self._expected(reply, found[1]), True

    def _expected(self, reply: Reply, rating: str) -> float:
        tokens = json.loads(reply.logprobs or "[]")
        # The rating stands last but for its dress; thoughts before it may hold numbers too.
        place = next(
            (
                token
                for token in reversed(tokens)
                if (held := _TOKEN.fullmatch(str(token.get("token", "")))) and held[1] == rating
            ),
            None,
        )
        if place is None:
            raise MalformedReply("the log-probabilities are not of the tokens of the reply")
        weights: dict[int, float] = {}
        for each in {one["token"]: one for one in [*place.get("top_logprobs", ()), place]}.values():
            held = _TOKEN.fullmatch(str(each["token"]))
            if held and int(held[1]) in self.ratings:
                chance = math.exp(min(float(each["logprob"]), 0.0))
                weights[int(held[1])] = weights.get(int(held[1]), 0.0) + chance
        total = math.fsum(weights.values())
        if not total > 0:
            raise MalformedReply("the log-probabilities give no rating a chance")
        return math.fsum(value * weight for value, weight in weights.items()) / total

    def _moderated(self, scores: Mapping[str, float]) -> float:
        wanted = self.settings.categories or tuple(scores)
        if unknown := [name for name in wanted if name not in scores]:
            raise MalformedReply(
                f"the moderation has no category {unknown[0]}; it has {', '.join(sorted(scores)) or 'none'};"
                f" name those that count in {self.place}.categories"
            )
        score = max((scores[name] for name in wanted), default=math.nan)
        if not 0 <= score <= 1:
            raise MalformedReply(f"the largest score is {score}; a score lies in [0, 1]")
        score = min(max(score, _LEAST), 1 - _LEAST)
        return math.log(score / (1 - score))

    def asked(self, location: str, answers: int | None, tokens: int) -> str:
        """What a dry run says of rating so many answers, None where nobody knows; see :meth:`estimate`."""
        if answers is None:
            return f"{location}: a request an answer; how many is not known before the prompts are"
        return f"{location}: at most {self.estimate(answers, tokens).sentence}"

    def estimate(self, answers: int, tokens: int) -> CallEstimate:
        """What rating so many answers costs at most, nothing of it cached.

        Args:
            tokens: of a prompt and its answer together, at most.
        """
        settings = self.settings
        own = len(json.dumps(self.body("", "")).encode()) // BYTES_A_TOKEN
        tokens_in = answers * (own + tokens)
        tokens_out = 0 if settings.ask == "moderation" else answers * settings.max_tokens
        price = None
        if settings.price_in is not None and settings.price_out is not None:
            price = (tokens_in * settings.price_in + tokens_out * settings.price_out) / 1e6
        return CallEstimate(answers, 0, tokens_in, tokens_out, price)


def judge_problems(place: str, settings: JudgeSettings) -> list[str]:
    """Why a judge cannot be asked: a package, a variable without value, a rubric that is none."""
    if importlib.util.find_spec("openai") is None:
        return [
            f'{place} needs the package openai, which is not installed; pip install "openrlhf-rad[judge]"'
        ]
    try:
        rater = Rater.of(settings, place)
        _ = rater.key
    except (ConfigError, DataError) as error:
        return [f"{place}: {line}" for line in str(error).splitlines()]
    return []


def default_cache() -> Path:
    """The file of replies where the profile names none."""
    from openrlhf_rad.files import cache_root  # noqa: PLC0415 - looks at the environment

    return cache_root() / "ratings.sqlite"
