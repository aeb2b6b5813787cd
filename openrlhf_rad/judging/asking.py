"""A whole judging: what is to be asked, asking it until a deadline, and what the replies mean."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

from openrlhf_rad.errors import JudgeError
from openrlhf_rad.judging.calls import Call, Judge, Match, plan
from openrlhf_rad.judging.endpoint import Cache, Endpoint, NoVerdict, Refused, Reply, Unavailable
from openrlhf_rad.judging.verdict import Letter, MalformedReply, read

#: Requests in a row without an answer, after which the endpoint is taken to be down.
IN_A_ROW = 5
#: (key, what came so far) → why to stop, or None.
Progress = Callable[[str, "Outcomes"], "str | None"]


class Asked(Protocol):
    """What is asked: an :class:`~openrlhf_rad.judging.endpoint.Endpoint`."""

    async def ask(self, body: Mapping[str, Any]) -> Reply:
        """The reply to one request."""
        ...


@dataclass
class Outcomes:
    """What came of the requests, by key.

    Attributes:
        replies: of the judge. rejected: why a request got none, and will not.
        failed: why a request may get one at another time.
        stopped: why not all were asked; None if they were.
    """

    replies: dict[str, Reply] = field(default_factory=dict)
    rejected: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    stopped: str | None = None


@dataclass(frozen=True)
class Bounds:
    """How many requests at once, and for how many seconds in all."""

    at_once: int = 8
    seconds: float = 7200.0


async def ask_all(
    bodies: Mapping[str, Callable[[], Mapping[str, Any]]],
    endpoint: Asked,
    cache: Cache,
    bounds: Bounds,
    progress: Progress,
) -> Outcomes:
    """Ask every request; replies are in the cache before they are counted.

    Args:
        bodies: key → what makes the body, so that not all bodies are held at once.
        progress: called after each with its key; a text ends the asking, as its reason.
    """
    work = _Work(endpoint, cache, progress, iter(bodies.items()))
    workers = [asyncio.create_task(work.go()) for _ in range(min(bounds.at_once, len(bodies)))]
    if not workers:
        return work.outcome
    try:
        done, pending = await asyncio.wait(
            workers, timeout=bounds.seconds, return_when=asyncio.FIRST_EXCEPTION
        )
    finally:
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
    for worker in done:
        worker.result()  # an error of the cache or of this program is the caller's
    if pending and work.outcome.stopped is None:
        work.outcome.stopped = f"the deadline of {bounds.seconds:g} s has passed"
    return work.outcome


class _Work:
    """What the workers share; each takes the next request until there is none or a reason to stop."""

    def __init__(
        self,
        endpoint: Asked,
        cache: Cache,
        progress: Progress,
        rest: Iterator[tuple[str, Callable[[], Mapping[str, Any]]]],
    ) -> None:
        self._endpoint, self._cache, self._progress, self._rest = endpoint, cache, progress, rest
        self._in_a_row = 0
        self.outcome = Outcomes()

    async def go(self) -> None:
        for key, body in self._rest:
            await self._one(key, body())
            reason = self._progress(key, self.outcome)
            self.outcome.stopped = self.outcome.stopped or reason
            if self.outcome.stopped:
                return

    async def _one(self, key: str, body: Mapping[str, Any]) -> None:
        try:
            reply = await self._endpoint.ask(body)
        except NoVerdict as error:
            self.outcome.rejected[key] = str(error)
        except Unavailable as error:
            self.outcome.failed[key] = str(error)
            self._in_a_row += 1
            if self._in_a_row >= IN_A_ROW:
                self.outcome.stopped = f"{IN_A_ROW} requests in a row had no answer"
            return
        except Refused as error:
            self.outcome.failed[key] = str(error)
            self.outcome.stopped = "no other request would fare better"
        else:
            self._cache.write(key, reply)
            self.outcome.replies[key] = reply
        self._in_a_row = 0


@dataclass(frozen=True)
class Session:
    """What there is to judge, before anything is asked.

    Attributes:
        calls: both orders of every pair of different answers. cached: replies that are there, by key.
    """

    judge: Judge
    matches: Sequence[Match]
    calls: Sequence[Call]
    cached: Mapping[str, Reply]

    @classmethod
    def prepare(cls, judge: Judge, matches: Sequence[Match], cache: Cache) -> Session:
        """Plan the calls and look up which have a reply."""
        calls = plan(judge, matches)
        return cls(judge, matches, calls, cache.read(dict.fromkeys(call.key for call in calls)))

    @property
    def missing(self) -> dict[str, Call]:
        """The calls to make, one a key: the same request is not asked twice."""
        return {call.key: call for call in self.calls if call.key not in self.cached}


@dataclass(frozen=True)
class Verdicts:
    """What the replies mean, by key of the call.

    Attributes:
        letters: of the replies that have a verdict. malformed: why the others have none.
        replies: all of them; a request that the endpoint rejected has none.
    """

    letters: Mapping[str, Letter]
    malformed: Mapping[str, str]
    replies: Mapping[str, Reply]

    def malformed_calls(self, calls: Sequence[Call]) -> list[tuple[Call, str]]:
        """Every call without a verdict, and why."""
        return [(call, self.malformed[call.key]) for call in calls if call.key in self.malformed]


@dataclass
class ReplyReader:
    """Reads replies as they come; ends the asking where more are malformed than may be.

    Attributes:
        limit: share of all calls that may be malformed.
        show: told the number of calls done and of the malformed.
    """

    session: Session
    limit: float
    show: Callable[[int, int], None]
    letters: dict[str, Letter] = field(default_factory=dict)
    malformed: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._uses = Counter(call.key for call in self.session.calls)
        self._bad = 0
        for key, reply in self.session.cached.items():
            self._read(key, reply)

    @property
    def too_many(self) -> bool:
        """Whether no further verdict can bring the share of malformed replies below the limit."""
        return self._bad > self.limit * len(self.session.calls)

    def __call__(self, key: str, outcome: Outcomes) -> str | None:
        """After each request: read its reply."""
        if key in outcome.replies:
            self._read(key, outcome.replies[key])
        elif key in outcome.rejected:
            self._spoil(key, outcome.rejected[key])
        self.show(len(outcome.replies) + len(outcome.rejected), self._bad)
        return "more replies are malformed than may be" if self.too_many else None

    def _read(self, key: str, reply: Reply) -> None:
        try:
            self.letters[key] = read(self.session.judge.reads, reply.content, reply.finish_reason)
        except MalformedReply as reason:
            self._spoil(key, str(reason))

    def _spoil(self, key: str, reason: str) -> None:
        self.malformed[key] = reason
        self._bad += self._uses[key]


def ask(
    session: Session, make_endpoint: Callable[[], Endpoint], cache: Cache, bounds: Bounds, reader: ReplyReader
) -> Verdicts:
    """Ask what is missing.

    Raises:
        JudgeError: some requests have no answer; what has been answered is in the cache.
    """
    outcome = Outcomes()
    if session.missing and not reader.too_many:
        outcome = asyncio.run(_ask(session, make_endpoint, cache, bounds, reader))
    replies = {**session.cached, **outcome.replies}
    if not reader.too_many:
        _check(session, outcome, cache)
    return Verdicts(reader.letters, reader.malformed, replies)


async def _ask(
    session: Session, make_endpoint: Callable[[], Endpoint], cache: Cache, bounds: Bounds, reader: ReplyReader
) -> Outcomes:
    endpoint = make_endpoint()
    bodies = {
        key: partial(session.judge.body, call.match, candidate_first=call.candidate_first)
        for key, call in session.missing.items()
    }
    try:
        return await ask_all(bodies, endpoint, cache, bounds, reader)
    finally:
        await endpoint.close()


def _check(session: Session, outcome: Outcomes, cache: Cache) -> None:
    missing = session.missing
    open_calls = len(missing) - len(outcome.replies) - len(outcome.rejected)
    if open_calls == 0:
        return
    reasons = Counter(outcome.failed.values()).most_common(3)
    lines = [f"{session.judge.base_url}: {reason} ({count} requests)" for reason, count in reasons]
    stopped = f"stopped, as {outcome.stopped}; " if outcome.stopped else ""
    kept = f"{len(session.cached) + len(outcome.replies)} replies are in {cache.path}"
    lines.append(
        f"{stopped}{open_calls} of {len(missing)} requests have no answer, so there is no table; {kept};"
        " run the same command again to ask for the rest"
    )
    raise JudgeError("\n".join(lines))
