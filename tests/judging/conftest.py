"""A judge as a real HTTP server on loopback, which answers as a test tells it; and files of answers."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

KEY = "sk-rad-test-5f2c81d09a7b"
#: How harmful an answer of the tests is stands in it.
_HARM = re.compile(r"harm (\d+)")


@dataclass(frozen=True)
class Asked:
    """A request as the server got it."""

    body: dict[str, Any]
    authorization: str | None
    time: float

    @property
    def answers(self) -> tuple[str, str]:
        """What stands between the tags of the shipped judging prompt."""
        content = self.body["messages"][0]["content"]
        a, b = (re.search(f"<answer_{x}>\n(.*?)\n</answer_{x}>", content, re.DOTALL) for x in "ab")
        assert a
        assert b
        return a[1], b[1]


def fair(asked: Asked) -> str:
    """An unbiased judge: the lesser harm, else a tie."""
    a, b = (int(_HARM.search(answer)[1]) for answer in asked.answers)
    return "Considered.\n[[" + ("C" if a == b else "A" if a < b else "B") + "]]"


@dataclass
class Server:
    """The judge. ``answer`` makes the reply's text, or a whole response.

    Attributes:
        asked: every request so far. at_once: the most that were being answered at one time.
    """

    url: str = ""
    answer: Callable[[Asked], str | Response] = fair
    delay: float = 0.0
    asked: list[Asked] = field(default_factory=list)
    at_once: int = 0
    _now: int = 0

    async def handle(self, request: Request) -> Response:
        asked = Asked(await request.json(), request.headers.get("authorization"), time.monotonic())
        self.asked.append(asked)
        self._now += 1
        self.at_once = max(self.at_once, self._now)
        try:
            await asyncio.sleep(self.delay)
            made = self.answer(asked)
        finally:
            self._now -= 1
        return made if isinstance(made, Response) else JSONResponse(completion(made))


def completion(content: object, finish_reason: str = "stop") -> dict[str, Any]:
    """A chat completion as such endpoints send it."""
    message = {"role": "assistant", "content": content}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "judge-2026-01",
        "choices": [{"index": 0, "message": message, "finish_reason": finish_reason}],
        "usage": {"prompt_tokens": 100, "completion_tokens": 7, "total_tokens": 107},
    }


@pytest.fixture
def server() -> Iterator[Server]:
    held = Server()
    paths = ("/v1/chat/completions", "/v1/moderations")
    app = Starlette(routes=[Route(path, held.handle, methods=["POST"]) for path in paths])
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        held.url = f"http://127.0.0.1:{listening.getsockname()[1]}/v1"
        running = uvicorn.Server(uvicorn.Config(app, log_level="critical", lifespan="off", ws="none"))
        thread = threading.Thread(target=running.run, kwargs={"sockets": [listening]})
        thread.start()
        while not running.started:
            time.sleep(0.01)
        yield held
        running.should_exit = running.force_exit = True
        thread.join(10)


@pytest.fixture
def chat() -> Callable[..., dict[str, Any]]:
    return completion


@pytest.fixture
def key(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    return KEY


@dataclass
class Files:
    """Answer files: each answer says how harmful it is."""

    folder: Path

    def write(self, name: str, harms: list[int], prompts: list[str] | None = None) -> str:
        path = self.folder / f"{name}.jsonl"
        rows = [
            {"prompt": prompts[i] if prompts else f"question {i}", "answer": f"{name} says harm {harm}"}
            for i, harm in enumerate(harms)
        ]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return str(path)


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


@dataclass
class Rad:
    """Runs ``rad judge`` in this process, against the server."""

    folder: Path
    server: Server
    capsys: pytest.CaptureFixture[str]
    out: str = ""
    err: str = ""

    def judge(self, *words: str, base_url: str | None = None) -> int:
        from openrlhf_rad.cli.rad import app

        common = ["judge", "--model", "m", "--base-url", base_url or self.server.url, "--yes"]
        common += ["--cache", str(self.folder / "cache.sqlite"), "--out", str(self.folder / "out")]
        code = 0
        try:
            app([*common, *words], standalone_mode=True)
        except SystemExit as exit_:
            code = exit_.code
        self.out, self.err = self.capsys.readouterr()
        return code

    @property
    def summary(self) -> dict[str, Any]:
        return json.loads((self.folder / "out" / "judge.json").read_text())

    @property
    def verdicts(self) -> list[dict[str, Any]]:
        return [
            json.loads(line) for line in (self.folder / "out" / "verdicts.jsonl").read_text().splitlines()
        ]


@pytest.fixture
def rad(tmp_path: Path, server: Server, key: str, capsys: pytest.CaptureFixture[str], monkeypatch) -> Rad:
    monkeypatch.setenv("COLUMNS", "120")
    return Rad(tmp_path, server, capsys)
