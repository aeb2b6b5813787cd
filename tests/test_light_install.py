"""The wheel alone, in a fresh environment without torch, OpenRLHF or filelock: what promises to be light.

The environment holds what the wheel's metadata asks for, transitively, linked from that of the tests.
"""

import json
import os
import subprocess
import sys
import venv
import zipfile
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
ABSENT = ("torch", "openrlhf", "ray", "vllm", "transformers", "filelock", "deepspeed")
RAD, TRAIN, PLAIN = "openrlhf_rad.cli.rad", "openrlhf_rad.cli.train", "openrlhf_rad"


def linked(site, requirements):
    """Link the distributions of some requirements, and what they ask for themselves."""
    waiting, seen = [Requirement(text) for text in requirements], set()
    while waiting:
        one = waiting.pop()
        name = one.name.lower().replace("_", "-")
        if name in seen or (one.marker and not one.marker.evaluate({"extra": ""})):
            continue
        seen.add(name)
        try:
            found = distribution(one.name)
        except PackageNotFoundError:  # a requirement of other systems
            continue
        waiting += [Requirement(text) for text in found.requires or ()]
        for top in {file.parts[0] for file in found.files or () if file.parts[0] != ".."}:
            if top != "__pycache__" and not (site / top).exists():
                (site / top).symlink_to(found.locate_file(top))
    return seen


@pytest.fixture(scope="module")
def light(tmp_path_factory):
    """Runs a module of the installed wheel in a folder of its own: ``light(RAD, "profile", "list")``."""
    folder = tmp_path_factory.mktemp("light")
    tree = folder / "tree"
    tree.mkdir()
    for name in ("pyproject.toml", "LICENSE", "openrlhf_rad", "cli", "risk_profiles"):
        subprocess.run(["cp", "-r", str(ROOT / name), tree], check=True)
    (tree / "README.md").touch()
    words = ["wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, tree]
    subprocess.run([sys.executable, "-m", "pip", *words], check=True)
    (wheel,) = folder.glob("*.whl")
    venv.create(folder / "venv", symlinks=True)
    (site,) = (folder / "venv").glob("lib/python*/site-packages")
    with zipfile.ZipFile(wheel) as packed:
        packed.extractall(site)
        (metadata,) = [name for name in packed.namelist() if name.endswith(".dist-info/METADATA")]
        lines = packed.read(metadata).decode().splitlines()
    needed = [line.removeprefix("Requires-Dist: ") for line in lines if line.startswith("Requires-Dist: ")]
    assert not linked(site, needed) & set(ABSENT)
    python = folder / "venv" / "bin" / "python"
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))
    }
    (folder / "work").mkdir()

    def run(module, *words):
        return subprocess.run(
            [python, "-m", module, *words],
            cwd=folder / "work",
            capture_output=True,
            text=True,
            env={**environment, "COLUMNS": "200"},
            check=False,
        )

    run.work = folder / "work"
    return run


def test_nothing_heavy_is_there(light):
    for name in ABSENT:
        assert light(name).returncode == 1
    assert "No module named torch" in light("torch").stderr


COMMANDS = {
    "help": (RAD, "--help"),
    "profile list": (RAD, "profile", "list"),
    "profile check": (RAD, "profile", "check", "medical"),
    "profile show": (RAD, "profile", "show", "medical"),
    "profile explain": (RAD, "profile", "explain", "medical"),
    "profile diff": (RAD, "profile", "diff", "cvar", "medical"),
    "profile weights": (RAD, "profile", "weights", "medical", "20"),
    "profile schema": (RAD, "profile", "schema"),
    "profile plot": (RAD, "profile", "plot", "cvar", "wang", "medical", "--out", "spectra.svg"),
    "calibrate": (RAD, "calibrate", "scores.jsonl", "--profile", "medical", "--no-labels"),
    "gate": (RAD, "gate", "--red", "a=scores.jsonl", "--blue", "b=better.jsonl", "--profile", "medical"),
    "prompts": (RAD, "prompts", "prompts.jsonl", "--out", "out.jsonl"),
    "rad-train help": (TRAIN, "--help"),
    "dry run": (TRAIN, "--preset", "tiny", "--dry-run"),
    "plain help": (PLAIN, "--rad.help"),
}
#: Commands whose answer depends on what they are given; each answers, without a traceback.
ANSWERS = {"gate": (0, 1, 2)}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_light_command_runs(name, light):
    for file, shift in (("scores", 0.0), ("better", -0.5)):
        rows = [
            {"id": i, "prompt": f"p{i}", "response": f"r{i}", "cost": i / 400 + shift} for i in range(400)
        ]
        (light.work / f"{file}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (light.work / "prompts.jsonl").write_text('{"prompt": "how?", "label": "harmful"}\n')
    done = light(*COMMANDS[name])
    assert done.returncode in ANSWERS.get(name, (0,)), done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout or done.stderr


def test_what_needs_the_stack_names_the_extra(light):
    (light.work / "cost.py").write_text("def cost_func(queries, prompts, labels): ...\n")
    (light.work / "reward.py").write_text("def reward_func(queries, prompts, labels): ...\n")
    (light.work / "input.jsonl").write_text('{"input": "how?"}\n')
    plain = (
        "--actor.model_name_or_path org/model --data.prompt_dataset input.jsonl --reward.remote_url reward.py"
    )
    rad = "--rad.profile medical --rad.set cost.function=cost.py --rad.out out"
    for words in (plain, f"{plain} {rad}"):
        done = light(PLAIN, *words.split())
        assert done.returncode == 3
        assert "Traceback" not in done.stderr
        assert done.stderr.splitlines() == [
            f'error: {package} is not installed; pip install "openrlhf-rad[gpu]", or make install on a CPU'
            for package in ("openrlhf", "vllm")
        ]
    assert not (light.work / "out").exists()


def test_the_doctor_says_what_is_fine(light):
    done = light(RAD, "doctor")
    assert done.returncode == 1
    assert "profiles, calibration, gates and reports need no more" in done.stdout
    assert done.stdout.count("✗") == 1
