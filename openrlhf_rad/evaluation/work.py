"""Work for models: requests to processes of :mod:`openrlhf_rad.plugin.answering`, resumable."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from openrlhf_rad.errors import ConfigError, EnvironmentProblem
from openrlhf_rad.evaluation.sources import Rating
from openrlhf_rad.files import explained, write_atomically
from openrlhf_rad.processes import MarkedProcess

#: Prompts or answers of one shard: what a kill can cost.
SHARD = 64
_POLL_SECONDS = 0.3
_LOG_LINES = 20

Row = dict[str, Any]
#: (what, shards done, shards in all) → None.
Show = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Sampling:
    """How models answer; vLLM's names."""

    samples: int = 1
    temperature: float = 1.0
    top_p: float = 1.0
    max_tokens: int = 256
    max_len: int = 2048
    seed: int = 0
    tensor_parallel_size: int = 1


def generate_request(model: str, template: str | None, sampling: Sampling) -> Row:
    """A request for answers, without its paths."""
    return {"task": "generate", "model": model, "template": template, "sampling": asdict(sampling)}


def score_request(rating: Rating, template: str | None) -> Row:
    """A request for rewards or costs, without its paths."""
    return {"task": "score", **asdict(rating), "template": template}


def perform(
    what: str, request: Row, rows: Sequence[Mapping[str, Any]], folder: Path, show: Show
) -> list[Row]:
    """Do a request in a process of its own, or what is left of it, and return its rows.

    Args:
        what: for the progress bar. rows: the input of the process. folder: holds request, input and shards.

    Raises:
        ConfigError: the folder holds the work of another request. EnvironmentProblem: the process failed.
    """
    total = math.ceil(len(rows) / SHARD)
    _prepare(request, rows, folder)
    log = folder / "process.log"
    if _done(folder) < total:
        words = [sys.executable, "-m", "openrlhf_rad.plugin.answering", str(folder / "request.json")]
        (folder / "error.txt").unlink(missing_ok=True)
        process = MarkedProcess(words, log)
        try:
            while process.wait(_POLL_SECONDS) is None:
                show(what, _done(folder), total)
        finally:
            process.sweep(0.0)  # shards are written whole, so nothing is lost
        code = process.poll()
        if code or _done(folder) < total:
            raise EnvironmentProblem(_reason(what, code, folder, log))
    show(what, total, total)
    shards = [folder / f"{number:05d}.jsonl" for number in range(total)]
    return [
        json.loads(line) for path in shards for line in path.read_text(encoding="utf-8").split("\n") if line
    ]


def _prepare(request: Row, rows: Sequence[Mapping[str, Any]], folder: Path) -> None:
    """Write request and input; the same ones of an earlier call are left as they are."""
    with explained(folder, "nothing was changed"):
        folder.mkdir(parents=True, exist_ok=True)
    whole = request | {"rows": str(folder / "input.jsonl"), "out": str(folder), "shard": SHARD}
    texts = {
        "input.jsonl": "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows),
        "request.json": json.dumps(whole, indent=1, sort_keys=True, ensure_ascii=False) + "\n",
    }
    for name, text in texts.items():
        path = folder / name
        if path.exists() and path.read_text(encoding="utf-8") != text and _done(folder):
            raise ConfigError(
                f"{path}: it differs from what this command asks for ({_changed(path, text)}), and the"
                f" folder holds"
                " results; a call goes on only with the same prompts and settings; name another --out,"
                " or remove"
                f" {folder}"
            )
    for name, text in texts.items():
        write_atomically(folder / name, text)


def _changed(path: Path, text: str) -> str:
    """Which keys of a request differ, or that the input does."""
    if path.name != "request.json":
        return "other prompts or answers"
    old, new = json.loads(path.read_text(encoding="utf-8")), json.loads(text)
    keys = [key for key in sorted({*old, *new}) if old.get(key) != new.get(key)]
    return ", ".join(f"{key} {old.get(key)} → {new.get(key)}" for key in keys)


def _done(folder: Path) -> int:
    return len(list(folder.glob("[0-9]" * 5 + ".jsonl")))


def _reason(what: str, code: int | None, folder: Path, log: Path) -> str:
    error = folder / "error.txt"
    if error.exists():
        return error.read_text(encoding="utf-8").rstrip("\n")
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-_LOG_LINES:]
    tail = "\n".join(lines)
    return (
        f"{tail}\n{what}: the process ended with exit code {code}, its last lines stand above; the whole"
        f" log is"
        f" {log}; what was done is kept, run the command again to go on"
    )
