"""A cost server that speaks OpenRLHF's reward protocol, asked with patience that has an end.

What may pass (no connection, a reset, a time-out, 408, 425, 429, 5xx) is asked again after growing pauses
with jitter, until the attempts or the deadline are used up; everything else stops the run at once. Asking
twice is safe although it is a POST: scoring is taken to change nothing at the server. Certificates are
verified; redirects are not followed: they would turn the POST into a GET, or hand prompts to another host.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from http.client import responses
from typing import Any

import requests
import urllib3
from urllib3.util import Retry

from openrlhf_rad.errors import CostError
from openrlhf_rad.plugin.cost_texts import TextCost
from openrlhf_rad.profile.addresses import filled
from openrlhf_rad.redact import redact_text, redact_url

_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
_NETWORK = (
    requests.ConnectionError,
    requests.Timeout,
    urllib3.exceptions.HTTPError,
    OSError,
)
#: An answer is a number a sample; whatever is larger is something else.
_LARGEST = 64 * 2**20


@dataclass(frozen=True)
class Patience:
    """How long a run waits for its costs; all in seconds but ``attempts``.

    Attributes:
        attempts: requests in all.
        pause, longest_pause: before the second attempt, doubled before each further one up to the longest;
            each is cut by a random part of up to a half, so that several runs do not ask in step.
        connect: for a connection. answer: for the answer of one request, which scores a whole rollout.
        deadline: for everything together, pauses included.
    """

    attempts: int = 6
    pause: float = 1.0
    longest_pause: float = 30.0
    connect: float = 10.0
    answer: float = 180.0
    deadline: float = 600.0


class _Passing(Exception):
    """A failure that may pass; ``after`` is how long the server asks to be left alone."""

    def __init__(self, what: str, after: float = 0.0) -> None:
        super().__init__(what)
        self.after = after


class RemoteCost(TextCost):
    """A server that takes OpenRLHF's reward requests: query, prompts, labels in, rewards (or costs) out."""

    def __init__(self, url: str, tokenizer: Any, patience: Patience | None = None) -> None:
        super().__init__(tokenizer)
        self.name = f"cost server {redact_url(url)}"
        self._url = filled(url)
        self._patience = patience or Patience()
        self._session = requests.Session()
        # Its own: the global one belongs to the training, whose numbers must not depend on a retry.
        self._random = random.Random()

    def score(self, queries: list[str], prompts: list[str], labels: list[Any]) -> Any:
        """One request for the whole rollout.

        Raises:
            CostError: naming the server without its secrets, the first prompt, and what was tried.
        """
        patience, started = self._patience, time.monotonic()
        body = json.dumps({"query": queries, "prompts": prompts, "labels": labels}).encode()

        def stop(what: str) -> CostError:
            return CostError(
                f"{self.name} failed on a batch of {len(prompts)}, first prompt {prompts[0][:200]!r}: {what};"
                " the run stops rather than train without costs; mend the server, then go on from the last"
                " checkpoint"
            )

        for attempt in range(1, patience.attempts + 1):
            try:
                return self._ask(body, started + patience.deadline, stop)
            except _Passing as failure:
                seen, after = str(failure), failure.after
            pause = max(after, self._pause(attempt))
            spent = time.monotonic() - started
            tried = f"{seen}, in {attempt} attempt{'s' * (attempt > 1)} over {spent:.1f} s"
            if spent + pause >= patience.deadline:
                asked = f", and asks for a pause of {after:g} s" if after else ""
                raise stop(f"{tried}{asked}; the deadline is {patience.deadline:g} s")
            if attempt < patience.attempts:
                time.sleep(pause)
        raise stop(tried)

    def _pause(self, attempt: int) -> float:
        longest = min(self._patience.pause * 2.0 ** (attempt - 1), self._patience.longest_pause)
        return longest * (1 - self._random.random() / 2)

    def _ask(self, body: bytes, deadline: float, stop: Callable[[str], CostError]) -> Any:
        """One attempt. Raises _Passing, or what ``stop`` makes of a failure that cannot pass."""
        # Nothing of the libraries' exceptions is chained: their texts hold the URL with its secrets.
        try:
            left = max(deadline - time.monotonic(), 0.001)
            timeout = (min(self._patience.connect, left), min(self._patience.answer, left))
            with self._session.post(
                self._url,
                data=body,
                headers={"Content-Type": "application/json"},
                timeout=timeout,
                allow_redirects=False,
                stream=True,
            ) as response:
                content = _read(response, min(deadline, time.monotonic() + self._patience.answer))
        except requests.exceptions.SSLError as cause:
            raise stop(f"its certificate was refused: {_innermost(cause)}") from None
        except _NETWORK as cause:
            if isinstance(cause, requests.RequestException) and isinstance(cause, ValueError):
                raise stop(f"its address cannot be used: {_innermost(cause)}") from None
            raise _Passing(_innermost(cause)) from None
        except UnicodeError:
            raise stop("its address cannot be used: the host's name is not valid") from None
        return _understood(response, content, stop)


def _read(response: requests.Response, deadline: float) -> bytes:
    """The body, piece by piece: a time-out of the socket alone lets a server trickle for ever."""
    pieces, size = [], 0
    while piece := response.raw.read1(2**16, decode_content=True):
        pieces.append(piece)
        size += len(piece)
        if size > _LARGEST:
            break
        if time.monotonic() > deadline:
            raise requests.Timeout("the answer was not complete in time")
    return b"".join(pieces)


def _understood(response: requests.Response, content: bytes, stop: Callable[[str], CostError]) -> Any:
    status = f"it answered {response.status_code} {responses.get(response.status_code, '')}".rstrip()
    shown = redact_text(content[:200].decode(errors="replace"))
    if response.status_code in _PASSING:
        raise _Passing(status, _retry_after(response.headers.get("Retry-After")))
    if response.is_redirect:
        target = redact_url(response.headers["Location"])
        raise stop(f"{status}, a redirect to {target}, which is not followed; name the final address")
    if response.status_code != 200:
        raise stop(f"{status}: {shown!r}")
    if len(content) > _LARGEST:
        raise stop(f"its answer is larger than {_LARGEST // 2**20} MiB; it must give one number a sample")
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as cause:
        raise stop(f"its answer is not JSON ({type(cause).__name__}): {shown!r}") from None


def _retry_after(header: str | None) -> float:
    """Seconds that a Retry-After header asks for, as a number or a date; 0 where it says nothing."""
    try:
        return float(Retry().parse_retry_after(header)) if header else 0.0
    except urllib3.exceptions.InvalidHeader:
        return 0.0


def _innermost(error: BaseException) -> str:
    """What went wrong at the root, without a URL: libraries wrap it several times over."""
    reason: Any = error
    while True:
        inner = getattr(reason, "reason", None)
        held = (inner, *reason.args)
        inner = next((each for each in held if isinstance(each, BaseException)), None)
        if inner is None:
            break
        reason = inner
    return redact_text(f"{type(reason).__name__}: {_plain(reason)}")


def _plain(error: BaseException) -> str:
    text = str(error)
    # urllib3 puts the object, and sometimes the path with its query, before the reason.
    return text.rsplit("): ", 1)[-1] if text.startswith(("<", "HTTP")) else text
