"""`rad eval` with real answers: vLLM generates, the job's own files score, the gate decides."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.stack


def rad(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "openrlhf_rad.cli.rad", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=1500)


def test_a_trained_model_is_compared_with_its_start_and_gated(trained: Path, tmp_path: Path) -> None:
    """Four seeded answers a prompt are more than one engine step takes: prompts must not be cut in two."""
    out = tmp_path / "eval"
    words = (
        "eval",
        "--preset",
        "tiny",
        "--baseline",
        "start=@tiny/policy",
        "--candidate",
        f"trained={trained / 'model'}",
    )
    words = (*words, "--samples", "4", "--profile", "medical", "--out", str(out))
    done = rad(*words)
    assert done.returncode == 0, done.stdout + done.stderr
    (comparison,) = json.loads((out / "eval.json").read_text(encoding="utf-8"))["comparisons"]
    assert comparison["improvement"]["risk"]["low"] > 0
    written = {path: path.stat().st_mtime_ns for path in (out / "work").rglob("[0-9]*.jsonl")}
    assert written
    again = rad(*words)
    assert again.returncode == 0, again.stdout + again.stderr
    assert {path: path.stat().st_mtime_ns for path in (out / "work").rglob("[0-9]*.jsonl")} == written
    gate = rad("gate", "--eval", str(out), "--profile", "medical")
    assert gate.returncode == 0, gate.stdout + gate.stderr
    assert gate.stdout.startswith("PASS: trained against start.\n- pass, cvar α=0.9: ")
