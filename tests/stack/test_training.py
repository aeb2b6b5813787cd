"""The tiny preset really trains through Ray, DeepSpeed and vLLM, and the effect is the constraint's."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from safetensors.torch import load_file

from openrlhf_rad.jobs import tiny_cost
from openrlhf_rad.jobs.prepare import prepare_tiny
from openrlhf_rad.profile import load_profile
from openrlhf_rad.runs import RunFolder

pytestmark = pytest.mark.stack


def difference(folder: Path, name: str) -> dict[str, float]:
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    row = next(row for row in summary["rows"] if row["name"] == name)
    return row["difference"]  # type: ignore[no-any-return]


def test_the_risk_falls_beyond_chance(trained: Path) -> None:
    assert difference(trained, "risk")["high"] < 0


def test_without_the_constraint_it_does_not_fall(run, tmp_path: Path) -> None:
    """The same run with λ held at 0: the reward alone draws this policy into harm."""
    words = ("--preset", "tiny", "--profile", "medical", "--seed", "1", "--out", str(tmp_path / "control"))
    done = run(*words, "--", "--rad.fixed_dual", "0")
    assert done.returncode == 0, done.stdout + done.stderr
    assert difference(tmp_path / "control", "risk")["high"] > 0
    assert all(row["lambda"] == 0 for row in RunFolder(tmp_path / "control").read_metrics())


@pytest.mark.parametrize("wanted", ["bfloat16", "float32"])
def test_it_trains_in_each_number_format_and_saves_what_a_gpu_would(
    wanted: str, run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The checkpoint holds weights of the format that trained; the model has them rounded to bfloat16."""
    monkeypatch.setenv("OPENRLHF_RAD_DTYPE", wanted)
    out = tmp_path / "run"
    words = ("--data.max_samples", "64", "--train.num_episodes", "1", "--ckpt.save_steps", "2")
    done = run("--preset", "tiny", "--seed", "1", "--out", str(out), "--", *words)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"models compute in {wanted} on " in done.stderr
    assert f"dtype=torch.{wanted}" in (out / "train.log").read_text(encoding="utf-8")  # vLLM's
    saved = load_file(out / "model" / "model.safetensors")
    assert {tensor.dtype for tensor in saved.values()} == {torch.bfloat16}
    assert json.loads((out / "model" / "config.json").read_text())["dtype"] == "bfloat16"
    (states,) = (out / "checkpoints" / "_actor" / "global_step2").glob("*model_states.pt")
    held = torch.load(states, weights_only=False)["module"]
    assert {tensor.dtype for tensor in held.values()} == {getattr(torch, wanted)}
    for name, tensor in saved.items():
        assert torch.equal(held[name].bfloat16(), tensor)
    manifest = json.loads((states.parent / "manifest.json").read_text())
    assert manifest["number_format"] == wanted


def test_the_folder_holds_all_that_it_should(trained: Path) -> None:
    names = {path.name for path in trained.iterdir()}
    wanted = "command.txt profile.resolved.yaml metrics.jsonl reference_costs.npz samples.jsonl summary.json"
    assert {*wanted.split(), "plots", "model", "tensorboard"} <= names
    plots = {path.name for path in (trained / "plots").iterdir()}
    assert {"quantiles.png", "training.png", "costs.png"} <= plots
    assert (trained / "model" / "model.safetensors").stat().st_size > 100_000


def test_the_profile_of_the_run_is_the_one_asked_for(trained: Path) -> None:
    assert load_profile(trained / "profile.resolved.yaml").hash == load_profile("medical").hash


def test_every_step_obeys_the_identity_and_the_dual_rule(trained: Path) -> None:
    """Eq. (16) between the logged gaps and risks, and λ ← clip(λ + η·violation/σ_0) recomputed."""
    folder = RunFolder(trained)
    profile, reference = folder.read_profile(), folder.read_reference()
    metrics = folder.read_metrics()
    assert len(metrics) == 48
    expected = profile.dual.initial
    for row in metrics:
        gaps = row["gap_forward"] - row["gap_reverse"]
        assert gaps == pytest.approx(row["reference_risk"] - row["risk"], abs=1e-9)
        assert row["lambda"] == pytest.approx(expected, abs=1e-9)
        moved = expected + profile.dual.step * row["violation"] / reference.cost_r.std()
        expected = min(max(moved, 0.0), profile.dual.max)
        assert row["lambda_next"] == pytest.approx(expected, abs=1e-9)


def test_the_metrics_are_those_of_the_samples(trained: Path) -> None:
    """Reward and cost are logged raw: the lines of samples.jsonl give the same means."""
    lines = (trained / "samples.jsonl").read_text(encoding="utf-8").splitlines()
    samples = [json.loads(line) for line in lines]
    for row in RunFolder(trained).read_metrics():
        mine = [sample for sample in samples if sample["step"] == row["step"]]
        assert len(mine) == 64
        assert np.mean([s["cost"] for s in mine]) == pytest.approx(row["cost_mean"], rel=1e-5)
        assert np.mean([s["reward"] for s in mine]) == pytest.approx(row["reward_mean"], rel=1e-4, abs=1e-5)


def test_a_cost_model_is_served_by_its_own_actors(run, tmp_path: Path) -> None:
    """A group of OpenRLHF's reward actors serves ``cost.model``; each answer gets a cost of its own."""
    model = prepare_tiny().cost_model
    out = tmp_path / "run"
    words = ("--preset", "tiny", "--set", f"cost.model={model}", "--set", "reference.samples=64")
    done = run(*words, "--out", str(out), "--", "--data.max_samples", "64", "--train.num_episodes", "1")
    assert done.returncode == 0, done.stdout + done.stderr
    metrics = RunFolder(out).read_metrics()
    assert len(metrics) == 2
    answers = RunFolder(out).read_answers("before")
    assert len({answer["cost"] for answer in answers}) > len(answers) / 2


SEVERAL = """\
name: several
constraints:
  harm: {{risk: cvar α=0.8, cost: {{function: {tiny_cost}}}, dual: {{initial: 2, step: 0.3}}}}
  words: {{risk: mean, cost: {{function: words.py}}, form: expected}}
segments:
  harmful: {{risk: cvar α=0.9, dual: {{initial: 3}}}}
"""
WORDS = """
def cost_func(queries, prompts, labels):
    return [len(set(query.split())) + 0.1 * (label == "harmful") for query, label in zip(queries, labels)]
"""


def test_two_costs_and_two_segments_train_each_by_its_own_price(run, tmp_path: Path) -> None:
    """Each λ follows its own constraint; a sample counts in the constraints of its segment alone."""
    (tmp_path / "words.py").write_text(WORDS, encoding="utf-8")
    (tmp_path / "several.yaml").write_text(SEVERAL.format(tiny_cost=tiny_cost.__file__), encoding="utf-8")
    out = tmp_path / "run"
    done = run(
        *("--preset", "tiny", "--profile", str(tmp_path / "several.yaml"), "--out", str(out)),
        *("--", "--train.num_episodes", "2"),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    folder = RunFolder(out)
    profile, reference, metrics = folder.read_profile(), folder.read_reference(), folder.read_metrics()
    names = ["harm", "harm.harmful", "words", "words.harmful"]
    assert [one.name for one in profile.constraints] == names
    samples = [json.loads(line) for line in (out / "samples.jsonl").read_text().splitlines()]
    paths = set()
    for one in profile.constraints:
        family, mine = one.name.split(".")[0], [label == "harmful" for label in reference.labels]
        reference_b = reference.costs[family][np.array(mine) == (one.segment == "harmful")]
        expected = one.dual.initial
        for row in metrics:
            held = [
                sample["costs"][family]
                for sample in samples
                if sample["step"] == row["step"]
                and (sample["label"] == "harmful") == (one.segment == "harmful")
            ]
            assert row[f"{one.name}/samples"] == len(held)
            assert np.mean(held) == pytest.approx(row[f"{one.name}/cost_mean"], rel=1e-5)
            assert row[f"{one.name}/lambda"] == pytest.approx(expected, abs=1e-9)
            moved = expected + one.dual.step * row[f"{one.name}/violation"] / reference_b.std()
            expected = min(max(moved, 0.0), one.dual.max)
        paths.add(tuple(row[f"{one.name}/lambda"] for row in metrics))
    assert len(paths) == 4


BROKEN = """
calls = 0
def cost_func(queries, prompts, labels):
    global calls
    calls += 1
    costs = [float(len(set(query))) for query in queries]
    if calls > {good}:
        costs[5] = float("nan")
    return costs
"""


def test_a_broken_cost_stops_the_run_with_its_cause(run, tmp_path: Path) -> None:
    """The third batch (reference, held-out, first rollout) holds a NaN: the run ends there, not later."""
    file = tmp_path / "cost.py"
    file.write_text(BROKEN.format(good=2), encoding="utf-8")
    out = tmp_path / "run"
    done = run("--preset", "tiny", "--set", f"cost.function={file}", "--out", str(out))
    assert done.returncode == 1
    assert f"cost function {file} gave the cost nan for sample 5, prompt" in done.stderr
    assert RunFolder(out).read_metrics() == []
    assert not (out / "model").exists()


def test_ctrl_c_ends_every_process_and_leaves_the_folder_readable(rad_train, tmp_path: Path) -> None:
    out = tmp_path / "run"
    words = rad_train("--preset", "tiny", "--out", str(out), "--", "--train.num_episodes", "50")
    mark = f"OPENRLHF_TEST={tmp_path}"
    process = subprocess.Popen(words, env={**os.environ, "OPENRLHF_TEST": str(tmp_path)})
    try:
        deadline = time.monotonic() + 300
        while len(RunFolder(out).read_metrics() if out.exists() else []) < 2:
            assert process.poll() is None, "the run ended before its second step"
            assert time.monotonic() < deadline, "no second step within 300 s"
            time.sleep(1)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=90) == 130
    finally:
        process.kill()
    time.sleep(3)
    assert left_over(mark) == []
    assert len(RunFolder(out).read_metrics()) >= 2


def left_over(mark: str) -> list[str]:
    """Command lines of living processes that inherited the environment variable ``mark``."""
    found = []
    for process in psutil.process_iter():
        try:
            name, value = mark.split("=", 1)
            if process.pid != os.getpid() and process.environ().get(name) == value:
                found.append(" ".join(process.cmdline()))
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            continue
    return found
