"""OpenRLHF's modes, each trained end to end in four steps of the tiny preset; modes.toml lists them."""

from __future__ import annotations

import json
import math
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from openrlhf_rad.jobs.prepare import prepare_tiny
from openrlhf_rad.runs import RunFolder

pytestmark = pytest.mark.stack

STEPS, SAMPLES, REFERENCE, HELD_OUT = 4, 64, 64, 32
SMALL = (
    *("--data.max_samples", "128", "--train.num_episodes", "1"),
    # So few steps must move the policy enough for its KL to stand out.
    *("--actor.adam.lr", "1e-2", "--actor.lr_warmup_ratio", "0"),
)
MODES = tomllib.loads(Path(__file__).with_name("modes.toml").read_text(encoding="utf-8"))["mode"]
TRAINED = [mode for mode in MODES if "reason" not in mode]


PARAMETERS = [
    pytest.param(mode, id=mode["name"], marks=() if mode.get("quick") else (pytest.mark.slow,))
    for mode in TRAINED
]


@pytest.fixture
def train(run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Train the tiny preset with flags of a mode; returns the folder, the process and the log."""

    def call(mode: dict[str, Any], *more: str) -> tuple[RunFolder, Any]:
        lines = prepare_tiny().heldout_prompts.read_text(encoding="utf-8").splitlines(keepends=True)
        (tmp_path / "heldout.jsonl").write_text("".join(lines[:HELD_OUT]), encoding="utf-8")
        tiny = str(prepare_tiny().cost_model.parent)
        pairs = [pair.replace("@tiny", tiny) for pair in mode.get("set", [])]
        sets = [word for pair in [f"reference.samples={REFERENCE}", *pairs] for word in ("--set", pair)]
        words = ("--preset", "tiny", "--profile", "medical", "--seed", "1", "--out", str(tmp_path / "run"))
        flags = ("--rad.heldout", str(tmp_path / "heldout.jsonl"), *shlex.split(mode["flags"]))
        done = run(*words, *sets, "--", *SMALL, *flags, *more)
        return RunFolder(tmp_path / "run"), done

    return call


@contextmanager
def ray_nodes(count: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], list[dict[str, str]]]]:
    """A Ray cluster of nodes with one virtual GPU each; gives a call for all actors that it has seen."""
    if not count:
        yield list
        return
    words = [sys.executable, "-W", "ignore", str(Path(__file__).with_name("ray_nodes.py")), str(count)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as cluster:
        assert cluster.stdin is not None
        assert cluster.stdout is not None
        monkeypatch.setenv("RAY_ADDRESS", cluster.stdout.readline().strip())

        def actors() -> list[dict[str, str]]:
            print(file=cluster.stdin, flush=True)
            return json.loads(cluster.stdout.readline())  # type: ignore[no-any-return]

        yield actors  # its input is closed afterwards, which ends it


@pytest.mark.parametrize("mode", PARAMETERS)
def test_mode(mode, train, monkeypatch, record_property) -> None:
    with ray_nodes(mode.get("nodes", 0), monkeypatch) as actors:
        folder, done = train(mode)
        assert done.returncode == 0, done.stdout + done.stderr
        check_steps(folder, mode.get("stale", 0))
        check_answers(folder)
        check_price(folder)
        for check in CHECKS.get(mode["name"], ()):
            check(folder, actors)
    record_property("steps", len(folder.read_metrics()))


def check_steps(folder: RunFolder, stale: int) -> None:
    """All steps are there, and their answers are of the weights that they should be of.

    KL is measured on the answers: were they still the reference's, its mean would be below 0.
    """
    metrics = folder.read_metrics()
    assert [row["step"] for row in metrics] == list(range(1, STEPS + 1))
    assert all(0 <= row["staleness"] <= stale for row in metrics)
    assert metrics[0]["kl"] == pytest.approx(0, abs=1e-3)
    assert metrics[-1]["kl"] > 0.005, [row["kl"] for row in metrics]


def check_answers(folder: RunFolder) -> None:
    """Every answer of every rollout has its cost, and so have the reference's and the held-out ones."""
    samples = [json.loads(line) for line in (folder.path / "samples.jsonl").read_text().splitlines()]
    for step in range(1, STEPS + 1):
        mine = [sample for sample in samples if sample["step"] == step]
        assert len(mine) == SAMPLES
        assert all(math.isfinite(sample["cost"]) and math.isfinite(sample["reward"]) for sample in mine)
    assert folder.read_reference().cost_r.size == REFERENCE
    for moment in ("before", "after"):
        assert len(folder.read_answers(moment)) == HELD_OUT


def check_price(folder: RunFolder) -> None:
    """λ of each step is the one from before it, moved by the violation of the step before."""
    profile, reference = folder.read_profile(), folder.read_reference()
    expected = profile.dual.initial
    for row in folder.read_metrics():
        assert row["lambda"] == pytest.approx(expected, abs=1e-9)
        moved = expected + profile.dual.step * row["violation"] / reference.cost_r.std()
        expected = min(max(moved, 0.0), profile.dual.max)
        assert row["lambda_next"] == pytest.approx(expected, abs=1e-9)


def check_whole_model(folder: RunFolder, actors: Any) -> None:
    assert (folder.path / "model" / "model.safetensors").stat().st_size > 100_000


def check_correction(folder: RunFolder, actors: Any) -> None:
    """Once the policy has moved, answers of earlier weights are told from its own."""
    metrics = folder.read_metrics()
    assert max(row["staleness"] for row in metrics) >= 1
    assert max(abs(row["rollout_kl"]) for row in metrics) > 1e-3


def check_adapters(folder: RunFolder, actors: Any) -> None:
    from safetensors.torch import load_file

    weights = load_file(folder.path / "model" / "adapter_model.safetensors")
    trained = [value for name, value in weights.items() if "lora_B" in name]
    assert len(trained) == 14
    assert all(value.abs().max() > 0 for value in trained)


def check_critic(folder: RunFolder, actors: Any) -> None:
    assert "'critic_loss': " in folder.log.read_text(encoding="utf-8")


def check_placement(folder: RunFolder, actors: Any) -> None:
    """Node ids, from Ray's own table of actors, which names them by OpenRLHF's classes."""
    found = actors()
    models = [*["PolicyModelActor"] * 2, "ReferenceModelActor", "RewardModelActor", "RolloutRayActor"]
    placed = [actor for actor in found if actor["name"] in models]
    assert sorted(actor["name"] for actor in placed) == models
    assert len({actor["node"] for actor in placed}) == len(models)
    (trainer,) = [actor for actor in found if actor["name"] == "PPOTrainer"]
    assert trainer["node"] == trainer["owner"]


CHECKS: dict[str, tuple[Callable[[RunFolder, Any], None], ...]] = {
    "asynchronous": (check_correction,),
    "partial rollout": (check_correction,),
    "two actors, two engines": (check_whole_model,),
    "ZeRO-3, two actors": (check_whole_model,),
    "LoRA": (check_adapters,),
    "several nodes": (check_placement,),
    "GAE with a critic": (check_critic,),
}

COST = """
batches = 0
def cost_func(queries, prompts, labels):
    global batches
    batches += 1
    if batches == 4:
        raise ValueError("the judge is out")
    return [float(len(set(query))) for query in queries]
"""
REWARD = f"""
import torch
answers = 0
def reward_func(queries, prompts, labels):
    global answers
    answers += 1
    if answers > {REFERENCE + HELD_OUT + SAMPLES}:
        raise ValueError("the judge is out")
    return {{"rewards": torch.rand(1)}}
"""


@pytest.mark.slow
@pytest.mark.parametrize("loop", ["cost", "reward"])
def test_a_failure_in_either_loop_of_asynchronous_training_ends_the_run(loop, train, tmp_path) -> None:
    """Costs are scored in the loop that trains, rewards in the one that generates; the other one waits."""
    (mode,) = [mode for mode in TRAINED if mode["name"] == "asynchronous"]
    file = tmp_path / f"{loop}.py"
    file.write_text({"cost": COST, "reward": REWARD}[loop], encoding="utf-8")
    if loop == "cost":
        folder, done = train({**mode, "set": [f"cost.function={file}"]})
        cause = f"cost function {file} failed on a batch of {SAMPLES}, first prompt "
    else:
        folder, done = train(mode, "--reward.remote_url", str(file))
        cause = f"{file} failed for the prompt "
    assert done.returncode == 1, done.stdout + done.stderr
    assert cause in done.stderr
    assert "ValueError: the judge is out" in done.stderr
    assert (folder.path / "error.txt").read_text(encoding="utf-8").startswith(cause)
    assert not (folder.path / "model").exists()
