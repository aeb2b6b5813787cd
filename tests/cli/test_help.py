"""``--help`` answers at once and a dry run needs no torch."""

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

COMMAND = Path(sys.executable).with_name("rad-train")


def test_help_answers_in_half_a_second():
    seconds = []
    for _ in range(3):
        began = time.perf_counter()
        done = subprocess.run([COMMAND, "--help"], capture_output=True, text=True, check=True)
        seconds.append(time.perf_counter() - began)
    assert statistics.median(seconds) < 0.5, (
        f"{seconds} with load {os.getloadavg()} on {os.cpu_count()} cores"
    )
    options = ("--profile", "--config", "--preset", "--seed", "--out", "--set", "--dry-run", "--report")
    assert [option for option in options if option not in done.stdout] == []


def test_neither_help_nor_dry_run_imports_torch():
    for words in (["--help"], ["--preset", "tiny", "--dry-run"]):
        done = subprocess.run(
            [sys.executable, "-X", "importtime", str(COMMAND), *words],
            capture_output=True,
            text=True,
            check=True,
        )
        imported = {line.rpartition("|")[2].strip().split(".")[0] for line in done.stderr.splitlines()}
        assert imported & {"torch", "transformers", "ray", "vllm", "openrlhf"} == set()
        assert "openrlhf_rad" in imported
