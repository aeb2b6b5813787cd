"""`rad judge` with a real judge: vLLM's OpenAI-compatible server on loopback, with the untrained policy.

A model of 135 million parameters judges badly. What counts is that every reply is asked for, read, counted
and shown as it is.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import urllib.request
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from openrlhf_rad.jobs import prompts

pytestmark = [pytest.mark.stack, pytest.mark.slow]

PAIRS = 20


@pytest.fixture(scope="module")
def server(judging_server: str) -> str:
    """The address of the judge."""
    return judging_server


@pytest.fixture(scope="module")
def sides(server: str, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Two files of answers by the served model: one cool, one hot, and one answer too long for the judge."""
    folder = tmp_path_factory.mktemp("answers")
    asked = prompts.texts(prompts.prepare() / "train.jsonl", "harmful", PAIRS)
    words = []
    for side, temperature in (("baseline", 1.0), ("candidate", 0.2)):
        rows = [{"prompt": text, "answer": _answer(server, text, temperature)} for text in asked]
        if side == "baseline":
            rows[-1]["answer"] = "word " * 4000
        path = folder / f"{side}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        words += [f"--{side}", str(path)]
    return words


def _answer(server: str, prompt: str, temperature: float) -> str:
    body = {"model": "small", "messages": [{"role": "user", "content": prompt}], "max_tokens": 24, "seed": 1}
    request = urllib.request.Request(
        f"{server}/chat/completions",
        json.dumps(body | {"temperature": temperature}).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=120) as response:
        return str(json.load(response)["choices"][0]["message"]["content"])


def judge(
    server: str, sides: list[str], folder: Path, *words: str
) -> tuple[subprocess.CompletedProcess[str], Any]:
    """Call rad judge; what it printed, and judge.json with the lines of verdicts.jsonl under `lines`."""
    command = [sys.executable, "-m", "openrlhf_rad.cli.rad", "judge", *sides, "--model", "small"]
    command += ["--base-url", server, "--yes", "--cache", str(folder / "cache"), "--max-tokens", "100"]
    out = folder / "out"
    done = subprocess.run(
        [*command, "--out", str(out), *words], capture_output=True, text=True, check=False, timeout=1500
    )
    assert (out / "judge.json").exists(), done.stdout + done.stderr
    found = json.loads((out / "judge.json").read_text())
    return done, found | {
        "lines": [json.loads(line) for line in (out / "verdicts.jsonl").read_text().splitlines()]
    }


def test_replies_in_json_are_forced_by_the_server(server: str, sides: list[str], tmp_path: Path) -> None:
    """Guided decoding leaves a small model no other form; the request that is too long is told apart."""
    words = ("--form", "json", "--max-malformed", "0.2")
    done, found = judge(server, sides, tmp_path, *words)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (found["malformed"]["calls"], found["judge"]["replies_asked"]) == (2 * PAIRS, 2 * PAIRS - 2)
    refused = [line for line in found["lines"] if line["reply"] is None]
    assert len(refused) == 2
    for line in refused:
        assert line["malformed"].startswith("the endpoint refused the request: HTTP 400 (")
    results: dict[int, set[str]] = {}
    for place, line in enumerate(found["lines"]):
        if line["reply"] is not None and line["malformed"] is None:
            letter = json.loads(line["reply"])["verdict"]
            first = "candidate" if line["order"] == "candidate first" else "baseline"
            other = "baseline" if first == "candidate" else "candidate"
            results.setdefault(place // 2, set()).add({"A": first, "B": other, "C": "tie"}[letter])
        elif line["reply"] is not None:
            assert line["malformed"] == "the reply was cut off; raise --max-tokens"
    both = [
        held
        for place, held in results.items()
        if all(line["malformed"] is None for line in found["lines"][2 * place : 2 * place + 2])
    ]
    wins = Counter(
        "win" if held == {"candidate"} else "lose" if held == {"baseline"} else "tie" for held in both
    )
    assert len(both) >= PAIRS // 2
    for name in ("win", "tie", "lose"):
        assert found["result"]["seeds"][0][name]["count"] == wins[name]
    assert (tmp_path / "out" / "judge.png").stat().st_size > 5000
    again, kept = judge(server, sides, tmp_path, *words)
    assert again.stdout == done.stdout
    # The refused requests are asked again: another time the server may hold them.
    assert (kept["judge"]["replies_from_cache"], kept["judge"]["replies_asked"]) == (2 * PAIRS - 2, 0)


def test_replies_that_are_no_verdict_are_counted_and_shown(
    server: str, sides: list[str], tmp_path: Path
) -> None:
    done, found = judge(server, sides, tmp_path, "--max-malformed", "1")
    replies = [line["reply"] for line in found["lines"] if line["reply"] is not None]
    assert len(replies) == 2 * PAIRS - 2
    # Without a letter by itself there can be no verdict.
    clear = [reply for reply in replies if re.search(r"\b[abc]\b", reply, re.IGNORECASE)]
    malformed = found["malformed"]
    assert malformed["count"] >= 2 * PAIRS - len(clear)
    assert sum(malformed["reasons"].values()) == malformed["count"]
    assert malformed["count"] == sum(line["malformed"] is not None for line in found["lines"])
    assert f"Malformed: {malformed['count']} of {2 * PAIRS} calls (" in done.stdout
    assert done.returncode == (0 if found["result"] else 2)
    assert bool(found["result"]) == (tmp_path / "out" / "judge.png").exists()
