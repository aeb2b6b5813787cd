"""Costs by a judge behind an OpenAI-compatible endpoint: a rollout's requests at once, all or nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from openrlhf_rad.errors import CostError
from openrlhf_rad.judging.asking import Bounds, Outcomes, ask_all
from openrlhf_rad.judging.calls import request_key
from openrlhf_rad.judging.endpoint import Cache, Endpoint, Reply
from openrlhf_rad.judging.rating import Rater, default_cache
from openrlhf_rad.judging.verdict import MalformedReply
from openrlhf_rad.plugin.costs.sources import TextCost
from openrlhf_rad.plugin.costs.texts import RatedText
from openrlhf_rad.profile.costs import JudgeSettings
from openrlhf_rad.secrets import redact_text

_SHOWN = 120


class JudgeCost(TextCost):
    """Rates the words of prompt and answer by a rubric. A reply that is no rating stops the run.

    Replies are kept in a file, by the whole request: an answer that was rated once is not paid for again.

    Raises:
        ConfigError, DataError: an address, a key or a rubric that cannot serve.
    """

    def __init__(self, settings: JudgeSettings) -> None:
        super().__init__()
        self._rater = Rater.of(settings)
        self._settings, self._key = settings, self._rater.key
        self._cache = Cache(Path(settings.cache) if settings.cache else default_cache(), "cost.judge.cache")
        self.name = f"judge {redact_text(settings.location)}"
        #: Whether ratings are continuous; the first says it for all.
        self._continuous: bool | None = None

    def score(self, texts: Sequence[RatedText]) -> list[float]:
        """A request an answer, each different one once.

        Raises:
            CostError: naming the judge and the first prompt that has no rating, and why.
        """
        bodies = {}
        keys = []
        for text in texts:
            body = self._rater.body(*text.pair)
            keys.append(request_key(self._rater.base_url, body))
            bodies[keys[-1]] = body
        replies = self._cache.read(bodies)
        missing = {key: body for key, body in bodies.items() if key not in replies}
        prompt_of = {key: text.prompt for key, text in zip(keys, texts, strict=True)}
        outcome = asyncio.run(self._ask(missing)) if missing else Outcomes()
        replies |= outcome.replies
        if len(replies) < len(bodies):
            self._refuse(outcome, [key for key in bodies if key not in replies], prompt_of)
        costs = {key: self._cost(replies[key], prompt_of[key]) for key in bodies}
        return [costs[key] for key in keys]

    async def _ask(self, bodies: Mapping[str, Mapping[str, Any]]) -> Outcomes:
        settings = self._settings
        endpoint = Endpoint(
            self._rater.base_url,
            self._key,
            self._rater.variable,
            timeout=settings.timeout,
            retries=settings.retries,
            named=self._rater.named,
        )
        asked: dict[str, Callable[[], Mapping[str, Any]]] = {
            key: partial(dict, body) for key, body in bodies.items()
        }
        try:
            return await ask_all(
                asked, endpoint, self._cache, Bounds(settings.at_once, settings.deadline), self._reason
            )
        finally:
            await endpoint.close()

    def _reason(self, key: str, outcome: Outcomes) -> str | None:
        """Why to ask no further: one request that will never have a rating is enough."""
        if key in outcome.rejected:
            return "a request was refused"
        if key in outcome.replies:
            try:
                self._rater.read(outcome.replies[key])
            except MalformedReply:
                return "a reply is no rating"
        return None

    def _cost(self, reply: Reply, prompt: str) -> float:
        try:
            value, continuous = self._rater.read(reply)
        except MalformedReply as reason:
            said = " ".join(reply.content.split())[:_SHOWN]
            raise CostError(
                f"{self.name} gave no rating for the prompt {prompt[:200]!r}: {reason}; it said {said!r}; the"
                " run stops rather than train without costs; mend rubric, form or max_tokens of cost.judge,"
                " or take a larger judge"
            ) from None
        if self._continuous is None:
            self._continuous = continuous
        if continuous != self._continuous:
            raise CostError(
                f"{self.name} gives log-probabilities with some replies and not with others; ratings of both"
                " kinds are no one cost; write cost.judge.score: number, or have it give them always"
            )
        return value

    def _refuse(self, outcome: Outcomes, open_: Sequence[str], prompt_of: Mapping[str, str]) -> None:
        """Say why some answers have no reply; a malformed reply that stopped the asking is told as such."""
        for key, reply in outcome.replies.items():
            self._cost(reply, prompt_of[key])
        reasons = {**outcome.failed, **outcome.rejected}
        key = next((key for key in open_ if key in reasons), open_[0])
        stopped = f"; stopped, as {outcome.stopped}" if outcome.stopped else ""
        raise CostError(
            f"{self.name} failed on {len(open_)} of {len(prompt_of)} answers, first prompt"
            f" {prompt_of[key][:200]!r}: {reasons.get(key, 'it was not asked any more')}{stopped}; the run"
            " stops rather than train without costs; the replies so far are kept; mend it, then resume"
            " from the last checkpoint"
        )
