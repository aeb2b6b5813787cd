"""A server that rates answers by OpenRLHF's reward protocol, asked with patience that has an end.

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
from http.client import responses
from typing import Any

import requests
import urllib3
from urllib3.util import Retry

from openrlhf_rad.plugin.arguments import Patience
from openrlhf_rad.profile.addresses import filled
from openrlhf_rad.secrets import redact_text, redact_url

_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
_NETWORK = (
    requests.ConnectionError,
    requests.Timeout,
    urllib3.exceptions.HTTPError,
    OSError,
)
#: It gives a number an answer; whatever is larger is something else.
_LARGEST = 64 * 2**20


class _Passing(Exception):
    """A failure that may pass; ``after`` is how long the server asks to be left alone."""

    def __init__(self, what: str, after: float = 0.0) -> None:
        super().__init__(what)
        self.after = after


class RatingServer:
    """A server that rates answers; it knows its name without secrets, and is asked until patience ends."""

    def __init__(self, url: str, patience: Patience) -> None:
        self.shown = redact_url(url)
        self._url = filled(url)
        self._patience = patience
        # Its own: the global one belongs to the training, whose numbers must not depend on a retry.
        self._random = random.Random()

    def ask(self, payload: Any, failed: Callable[[str], Exception]) -> Any:
        """The JSON that it answers; any number of threads may ask at a time.

        Args:
            payload: what to send, as JSON.
            failed: makes the exception of what went wrong, in words without secrets.
        """
        patience, started = self._patience, time.monotonic()
        body = json.dumps(payload).encode()
        for attempt in range(1, patience.attempts + 1):
            try:
                return self._once(body, started + patience.deadline, failed)
            except _Passing as failure:
                seen, after = str(failure), failure.after
            pause = max(after, self._pause(attempt))
            spent = time.monotonic() - started
            tried = f"{seen}, in {attempt} attempt{'s' * (attempt > 1)} over {spent:.1f} s"
            if spent + pause >= patience.deadline:
                asked = f", and asks for a pause of {after:g} s" if after else ""
                raise failed(f"{tried}{asked}; the deadline is {patience.deadline:g} s")
            if attempt < patience.attempts:
                time.sleep(pause)
        raise failed(tried)

    def _pause(self, attempt: int) -> float:
        longest = min(self._patience.pause * 2.0 ** (attempt - 1), self._patience.longest_pause)
        return longest * (1 - self._random.random() / 2)

    def _once(self, body: bytes, deadline: float, failed: Callable[[str], Exception]) -> Any:
        """One attempt. Raises _Passing, or what ``failed`` makes of a failure that cannot pass."""
        # Nothing of the libraries' exceptions is chained: their texts hold the URL with its secrets.
        try:
            left = max(deadline - time.monotonic(), 0.001)
            timeout = (min(self._patience.connect, left), min(self._patience.answer, left))
            with requests.post(
                self._url,
                data=body,
                headers={"Content-Type": "application/json"},
                timeout=timeout,
                allow_redirects=False,
                stream=True,
            ) as response:
                content = _read(response, min(deadline, time.monotonic() + self._patience.answer))
        except requests.exceptions.SSLError as cause:
            raise failed(f"its certificate was refused: {_innermost(cause)}") from None
        except _NETWORK as cause:
            if isinstance(cause, requests.RequestException) and isinstance(cause, ValueError):
                raise failed(f"its address cannot be used: {_innermost(cause)}") from None
            raise _Passing(_innermost(cause)) from None
        except UnicodeError:
            raise failed("its address cannot be used: the host's name is not valid") from None
        return _understood(response, content, failed)


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


def _understood(response: requests.Response, content: bytes, failed: Callable[[str], Exception]) -> Any:
    status = f"it answered {response.status_code} {responses.get(response.status_code, '')}".rstrip()
    shown = redact_text(content[:200].decode(errors="replace"))
    if response.status_code in _PASSING:
        raise _Passing(status, _retry_after(response.headers.get("Retry-After")))
    if response.is_redirect:
        target = redact_url(response.headers["Location"])
        raise failed(f"{status}, a redirect to {target}, which is not followed; name the final address")
    if response.status_code != 200:
        raise failed(f"{status}: {shown!r}")
    if len(content) > _LARGEST:
        raise failed(f"its answer is larger than {_LARGEST // 2**20} MiB; it must give one number an answer")
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as cause:
        raise failed(f"its answer is not JSON ({type(cause).__name__}): {shown!r}") from None


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
