"""Runs of the real stack (Ray, DeepSpeed, vLLM) on the tiny preset; each takes a minute or two."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from openrlhf_rad.jobs import policy
from openrlhf_rad.plugin.cpu.backend import environment

Run = Callable[..., subprocess.CompletedProcess[str]]


def words_of(*words: str) -> list[str]:
    """The words of a ``rad-train`` command of this interpreter."""
    return [sys.executable, "-m", "openrlhf_rad.cli.train", *words]


@pytest.fixture
def rad_train() -> Callable[..., list[str]]:
    """The words of a ``rad-train`` command."""
    return words_of


@pytest.fixture(scope="session")
def run() -> Run:
    """Call ``rad-train`` to its end."""

    def call(*words: str) -> subprocess.CompletedProcess[str]:
        env = {**os.environ, "COLUMNS": "100"}
        return subprocess.run(
            words_of(*words), capture_output=True, text=True, check=False, timeout=1500, env=env
        )

    return call


@pytest.fixture(scope="session")
def trained(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of one whole run of the tiny preset under the shipped medical profile."""
    out = tmp_path_factory.mktemp("tiny") / "run"
    done = run("--preset", "tiny", "--profile", "medical", "--seed", "1", "--out", str(out))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "risk" in done.stdout
    return out


@pytest.fixture(scope="session")
def judging_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """vLLM's OpenAI-compatible server on loopback, with the untrained policy of the default job as"
    " `small`."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(policy.prepare())]
    words += ["--served-model-name", "small", "--host", "127.0.0.1", "--port", str(port)]
    words += ["--dtype", "bfloat16", "--max-model-len", "2048", "--max-num-seqs", "8", "--enforce-eager"]
    env = {**os.environ, **environment(), "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1"}
    log = tmp_path_factory.mktemp("server") / "log"
    with open(log, "wb") as output:
        process = subprocess.Popen(words, stdout=output, stderr=subprocess.STDOUT, env=env)
    try:
        _wait(process, f"http://127.0.0.1:{port}/health", log)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        own = psutil.Process(process.pid)
        family = [*own.children(recursive=True), own]
        own.terminate()
        _, alive = psutil.wait_procs(family, timeout=20)
        for member in alive:
            member.kill()
    process.wait(20)


def _wait(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    for _ in range(600):
        assert process.poll() is None, log.read_text(errors="replace")[-4000:]
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(1)
    raise AssertionError(log.read_text(errors="replace")[-4000:])
