"""``--help`` imports next to nothing, so it is quick (``benchmarks/startup.py``); a dry run, no torch."""

import subprocess
import sys
from pathlib import Path

import pytest

COMMAND = Path(sys.executable).with_name("rad-train")
HEAVY = {"torch", "transformers", "ray", "vllm", "openrlhf"}


def imported(*words):
    """Output, and the top-level modules that the command imports."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", str(COMMAND), *words],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout, {line.rpartition("|")[2].strip().split(".")[0] for line in done.stderr.splitlines()}


def test_help_names_the_options_and_imports_nothing_heavy():
    text, modules = imported("--help")
    options = ("--profile", "--config", "--preset", "--seed", "--out", "--set", "--dry-run", "--report")
    assert [option for option in options if option not in text] == []
    assert modules & (HEAVY | {"scipy", "matplotlib", "ot", "pandas"}) == set()


@pytest.mark.parametrize("preset", ["tiny", "default"])
def test_a_dry_run_needs_no_torch(preset):
    _, modules = imported("--preset", preset, "--dry-run")
    assert modules & HEAVY == set()
    assert "openrlhf_rad" in modules
