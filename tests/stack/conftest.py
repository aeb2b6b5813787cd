"""Runs of the real stack (Ray, DeepSpeed, vLLM) on the tiny preset; each takes a minute or two."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

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
