"""``--help`` imports next to nothing, so it is quick (``benchmarks/startup.py``); a dry run, no torch."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from openrlhf_rad import __version__

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


def told(command, *words, **environment):
    path = Path(sys.executable).with_name(command)
    done = subprocess.run(
        [path, *words], capture_output=True, text=True, check=True, env={**os.environ, **environment}
    )
    return done.stdout


@pytest.mark.parametrize(("words", "least"), [((), 8), (("profile",), 8), (("cost",), 1)])
def test_the_list_of_commands_is_whole_at_80_columns(words, least):
    listed = told("rad", *words, "--help", COLUMNS="80").partition("Commands:\n")[2].splitlines()
    assert len(listed) >= least
    assert [line for line in listed if not line.endswith(".") or line.endswith("..")] == []


def test_the_commands_stand_in_the_order_of_work():
    listed = told("rad", "--help").partition("Commands:\n")[2].splitlines()
    order = "profile cost calibrate prompts pairs eval gate judge study report doctor"
    assert [line.split()[0] for line in listed] == order.split()


@pytest.mark.parametrize("command", ["rad", "rad-train"])
def test_the_version(command):
    assert told(command, "--version") == f"openrlhf_rad {__version__}\n"


@pytest.mark.parametrize(
    ("command", "typed", "completed"),
    [
        ("rad", "rad ga", "gate"),
        ("rad", "rad gate --con", "--confidence"),
        ("rad-train", "rad-train --dr", "--dry-run"),
    ],
)
def test_a_shell_completes(command, typed, completed):
    """As the script that --show-completion prints asks for it."""
    variable = f"_{command.upper().replace('-', '_')}_COMPLETE"
    at = str(len(typed.split()) - 1)
    asked = {variable: "complete_bash", "COMP_WORDS": typed, "COMP_CWORD": at}
    assert told(command, **asked).split() == [completed]
