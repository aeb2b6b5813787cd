"""One request to an OpenAI-compatible endpoint, through the openai client, and the replies already there.

The client retries by itself, with backoff and as Retry-After asks: after 408, 409, 429 and 5xx, a time-out, a
refused or a broken connection. What remains is told apart here by what it means for the run.

The key comes from an environment variable and goes into the request's header, nowhere else. Should an
endpoint repeat it in a reply or an error, it is struck out before anything sees the text.

Replies are kept in one SQLite file: what was paid for once is not asked again. Each is committed by itself,
so a kill loses none, and several processes may share the file. It holds replies under the hash of their
request; neither the request nor the key of the endpoint stand in it.
"""

from __future__ import annotations

import ipaddress
import json
import os
import re
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from openrlhf_rad.errors import ConfigError, EnvironmentProblem

_TABLE = """
CREATE TABLE IF NOT EXISTS replies (
    key TEXT PRIMARY KEY, content TEXT NOT NULL, finish_reason TEXT, model TEXT,
    tokens_in INTEGER, tokens_out INTEGER, logprobs TEXT
)
"""
_COLUMNS = "content, finish_reason, model, tokens_in, tokens_out, logprobs"


@dataclass(frozen=True, slots=True)
class Reply:
    """What the judge said.

    Attributes:
        model: as the endpoint names the one that replied.
        tokens_in, tokens_out: as the endpoint counted them, if it did.
        logprobs: of its tokens, as the endpoint gave them, as JSON; None where it gave none.
    """

    content: str
    finish_reason: str | None
    model: str | None
    tokens_in: int | None
    tokens_out: int | None
    logprobs: str | None = None


class Cache:
    """The file, opened for each reading and writing; ``named``: what messages call the setting."""

    def __init__(self, path: Path, named: str = "--cache") -> None:
        self.path, self._named = path, named
        with self._open() as database:
            database.execute("PRAGMA journal_mode=WAL")
            database.execute(_TABLE)
            held = {row[1] for row in database.execute("PRAGMA table_info(replies)")}
            if "logprobs" not in held:  # of a version before there were any
                database.execute("ALTER TABLE replies ADD COLUMN logprobs TEXT")

    def read(self, keys: Iterable[str]) -> dict[str, Reply]:
        """The replies of those keys that have one."""
        query = f"SELECT {_COLUMNS} FROM replies WHERE key = ?"
        with self._open() as database:
            rows = {key: database.execute(query, (key,)).fetchone() for key in keys}
        return {key: Reply(*row) for key, row in rows.items() if row}

    def write(self, key: str, reply: Reply) -> None:
        """Keep a reply; it is on the disk when this returns."""
        values = [key, *(getattr(reply, name) for name in _COLUMNS.split(", "))]
        insert = f"INSERT OR REPLACE INTO replies (key, {_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?)"
        with self._open() as database:
            database.execute(insert, values)

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        """One transaction. Raises EnvironmentProblem where the file cannot be used."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with closing(sqlite3.connect(self.path, timeout=30)) as database, database:
                yield database
        except (sqlite3.Error, OSError) as error:
            raise EnvironmentProblem(
                f"{self._named} is {self.path}; it cannot be used ({error}); remove the file or name another"
            ) from error


#: Shorter keys are dummies of local servers, as EMPTY; striking them out would garble replies.
_SECRET_FROM = 8
_STRUCK = "[key]"
#: What no retry and no other request would mend.
_FATAL = {
    401: "the endpoint does not accept the key; set {variable}",
    403: "the endpoint forbids it; check the key's rights and {model}",
    404: "the endpoint does not know the address or the model; check {base_url} and {model}",
}
#: How an endpoint says that it never takes a key of the request; that one prompt is too long is not said so.
_NOT_TAKEN = re.compile(
    r"unsupported|not support|unrecogni[sz]ed|unknown|unexpected|not permitted|not allowed|deprecated"
    r"|only the default|extra (?:inputs|fields)|invalid (?:parameter|argument)",
    re.I,
)


@dataclass(frozen=True)
class Named:
    """What messages call the settings of an endpoint: options of a command, or keys of a profile.

    Attributes:
        without: how a key is left out of a request, with {key} in it; instead: of some keys, how else.
    """

    base_url: str = "--base-url"
    model: str = "--model"
    key: str = "--key-env"
    without: str = "--request {key}=null"
    instead: Mapping[str, str] = field(
        default_factory=lambda: {
            "max_tokens": "--request max_tokens=null --request max_completion_tokens={max_tokens}",
            "response_format": "--no-response-format",
        }
    )


OPTIONS = Named()


class NoVerdict(Exception):
    """This request got an answer that is no reply of a judge; others may."""


class Unavailable(Exception):
    """The endpoint did not answer, after all retries."""


class Refused(Exception):
    """The endpoint will answer no request of this kind."""


def key_of(variable: str, base_url: str, named: Named = OPTIONS) -> str:
    """The key in an environment variable; a server of this machine needs none.

    Raises:
        ConfigError: there is none, or it cannot be a key.
    """
    key = os.environ.get(variable, "").strip()
    if not key and not _is_loopback(base_url):
        raise ConfigError(
            f"{variable} is empty; {base_url} needs a key; set it, or name another by {named.key}"
        )
    if any(not 32 < ord(character) < 127 for character in key):
        raise ConfigError(f"{variable} holds a character that no key has; set it to the key alone")
    return key or "none"


def check_address(base_url: str) -> str:
    """The address without a slash at its end. Raises ConfigError, which shows no secret of the address."""
    example = "write for instance http://127.0.0.1:8000/v1"
    try:
        parts = urlsplit(base_url)
        _ = parts.port
    except ValueError:
        raise ConfigError(f"--base-url is not an address; {example}") from None
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ConfigError(
            "--base-url holds more than an address (a user, a password or a query); keys come from the"
            f" environment variable of --key-env alone; {example}"
        )
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(f"--base-url is {base_url}; it must be an http:// or https:// address; {example}")
    return base_url.rstrip("/")


class Endpoint:
    """An endpoint, to be asked many times at once; close it in the end."""

    def __init__(
        self,
        base_url: str,
        key: str,
        variable: str,
        *,
        timeout: float,
        retries: int,
        named: Named = OPTIONS,
    ) -> None:
        try:
            import openai  # noqa: PLC0415 - a second that a dry run need not wait
        except ImportError:
            raise EnvironmentProblem(
                "the judge needs the package openai, which is not installed;"
                ' run: pip install "openrlhf-rad[judge]"'
            ) from None
        self._openai, self._key, self._variable = openai, key, variable
        self._timeout, self._named = timeout, named
        # A proxy of the environment cannot reach a server of this machine.
        transport = openai.DefaultAsyncHttpxClient(trust_env=not _is_loopback(base_url))
        self._client = openai.AsyncOpenAI(
            api_key=key, base_url=base_url, timeout=timeout, max_retries=retries, http_client=transport
        )

    async def ask(self, body: Mapping[str, Any]) -> Reply:
        """The judge's reply; to an `input` in place of `messages` that of a moderation, its scores as JSON.

        Raises NoVerdict, Unavailable or Refused.
        """
        api = self._openai
        moderation = "input" in body
        what = "input" if moderation else "messages"
        kind: Any = self._client.moderations if moderation else self._client.chat.completions
        rest = {key: value for key, value in body.items() if key not in ("model", what)}
        try:
            response = await kind.with_raw_response.create(
                model=body["model"], **{what: body[what]}, extra_body=rest
            )
            content = response.text
        except api.APITimeoutError as error:
            raise Unavailable(f"no answer within {self._timeout:g} s{_tried(error)}") from None
        except api.APIConnectionError as error:
            raise Unavailable(self._cause(error) + _tried(error)) from None
        except api.APIStatusError as error:
            raise self._of_status(error, body) from None
        return self._scores(content) if moderation else self._reply(content)

    async def close(self) -> None:
        """End all connections."""
        await self._client.close()

    def _cause(self, error: Exception) -> str:
        """The innermost reason of a connection that failed, and what to look at if there was none at all."""
        kinds = set()
        while isinstance(error.__cause__, Exception):
            error = error.__cause__
            kinds.add(type(error).__name__)
        reason = self._strike(str(error)) or type(error).__name__
        advice = (
            f"; check {self._named.base_url}, and that the server runs" if "ConnectError" in kinds else ""
        )
        return f"the connection failed ({reason}){advice}"

    def _of_status(self, error: Any, body: Mapping[str, Any]) -> Exception:
        status, content = error.status_code, error.response.text
        said = f"HTTP {status}{self._said(content)}"
        if status in _FATAL:
            named = self._named
            fix = _FATAL[status].format(variable=self._variable, model=named.model, base_url=named.base_url)
            return Refused(f"{said}: {fix}")
        if status in (408, 409, 429) or status >= 500:
            return Unavailable(said + _tried(error))
        if key := _refused_key(content, body):
            advice = self._named.instead.get(key, self._named.without).format(**{**body, "key": key})
            return Refused(f"{said}: the endpoint takes no {key}; leave it out by {advice}")
        return NoVerdict(f"the endpoint refused the request: {said}")

    def _said(self, content: str) -> str:
        """The endpoint's own words, where it wrote an error as OpenAI does."""
        try:
            error = json.loads(content)["error"]
            words = error if isinstance(error, str) else error["message"]
        except (json.JSONDecodeError, RecursionError, KeyError, TypeError):
            words = content
        plain = " ".join(self._strike(str(words)).split())
        return f" ({plain[:200]})" if plain else ""

    def _reply(self, content: str) -> Reply:
        try:
            data = json.loads(content)
            choice = data["choices"][0]
            said = choice["message"].get("content")
            usage = data.get("usage") or {}
            counts = [usage.get(name) for name in ("prompt_tokens", "completion_tokens")]
            told = [choice.get("finish_reason"), data.get("model")]
            tokens = (choice.get("logprobs") or {}).get("content")
        except (json.JSONDecodeError, RecursionError):
            raise NoVerdict("the endpoint's answer is not JSON") from None
        except (KeyError, IndexError, TypeError, AttributeError):
            raise NoVerdict("the endpoint's answer is not a chat completion") from None
        if isinstance(said, list):
            said = _joined(said)
        if said is not None and not isinstance(said, str):
            raise NoVerdict("the endpoint's answer is not a chat completion")
        finish, model = (self._strike(word) if isinstance(word, str) else None for word in told)
        tokens_in, tokens_out = (count if type(count) is int else None for count in counts)
        logprobs = self._strike(json.dumps(tokens)) if tokens else None
        return Reply(self._strike(said or ""), finish, model, tokens_in, tokens_out, logprobs)

    def _scores(self, content: str) -> Reply:
        try:
            data = json.loads(content)
            scores = {
                str(name): float(score) for name, score in data["results"][0]["category_scores"].items()
            }
        except (ValueError, RecursionError, KeyError, IndexError, TypeError, AttributeError):
            raise NoVerdict("the endpoint's answer is not a moderation with category_scores") from None
        model = data.get("model")
        model = self._strike(model) if isinstance(model, str) else None
        return Reply(self._strike(json.dumps(scores)), "stop", model, None, None)

    def _strike(self, words: str) -> str:
        whole = words.encode("utf-8", "replace").decode()
        return whole.replace(self._key, _STRUCK) if len(self._key) >= _SECRET_FROM else whole


def _refused_key(content: str, body: Mapping[str, Any]) -> str | None:
    """The key of the request that an endpoint's error says it does not take, if it says so of one."""
    if not _NOT_TAKEN.search(content):
        return None
    keys = [key for key in body if key not in ("model", "messages")]
    return next((key for key in keys if re.search(rf"(?<![a-z_]){re.escape(key)}(?![a-z_])", content)), None)


def _joined(parts: list[Any]) -> str:
    """The text of a content that comes as a list of parts; thoughts and refusals among them are left out."""
    texts = [part.get("text") if isinstance(part, dict) else part for part in parts]
    kinds = [part.get("type", "text") if isinstance(part, dict) else "text" for part in parts]
    held = [text for text, kind in zip(texts, kinds, strict=True) if kind in ("text", "output_text")]
    words = [text for text in held if isinstance(text, str)]
    if len(words) < len(held):
        raise NoVerdict("the endpoint's answer is not a chat completion")
    return "".join(words)


def _tried(error: Any) -> str:
    """How often the client asked; it gives up early where Retry-After is longer than it waits."""
    count = error.request.headers.get("x-stainless-retry-count", "")
    if not count.isdecimal():
        return ""
    return f", tried {int(count) + 1} times" if int(count) else ", tried once"


def _is_loopback(base_url: str) -> bool:
    host = urlsplit(base_url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
