"""Every kind of cost of examples/ trains the tiny preset, and rad eval gives the same costs to its"
" answers."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from openrlhf_rad.jobs.prepare import prepare_tiny
from openrlhf_rad.profile import load_profile
from openrlhf_rad.profile.costs import formats, plain_cost
from openrlhf_rad.runs import RunFolder

pytestmark = [pytest.mark.stack, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
Run = Callable[..., subprocess.CompletedProcess[str]]


def cost(example: str, **overrides: Any) -> Any:
    """The `cost` of an example, with what stands for a model or a server here."""
    profile = load_profile(EXAMPLES / f"{example}.yaml")
    return plain_cost(profile.with_overrides({f"cost.{key}": held for key, held in overrides.items()}).cost)


def train(run: Run, folder: Path, costs: dict[str, Any]) -> tuple[Path, list[dict[str, Any]]]:
    """A short run under a constraint for each cost; its profile, and its last held-out answers."""
    profile, heldout = folder / "p.yaml", folder / "heldout.jsonl"
    constraints = {name: {"cost": held} for name, held in costs.items()}
    said = {"name": "all", "risk": "cvar α=0.8", "reference": {"samples": 64}, "constraints": constraints}
    profile.write_text(json.dumps(said, ensure_ascii=False), encoding="utf-8")
    lines = (prepare_tiny().heldout_prompts).read_text(encoding="utf-8").splitlines()
    heldout.write_text("\n".join(lines[:24]) + "\n", encoding="utf-8")
    out = folder / "run"
    words = ("--preset", "tiny", "--profile", str(profile), "--out", str(out))
    more = ("--train.num_episodes", "1", "--data.max_samples", "64", "--rad.heldout", str(heldout))
    done = run(*words, "--", *more)
    assert done.returncode == 0, done.stdout + done.stderr
    assert RunFolder(out).read_metrics()
    rows = (out / "heldout_after.jsonl").read_text(encoding="utf-8").splitlines()
    return profile, [json.loads(row) for row in rows]


def scored(profile: Path) -> list[dict[str, Any]]:
    """The same answers as rad eval scores them."""
    run, out = profile.parent / "run", profile.parent / "eval"
    after, before = (f"{moment}={run / f'heldout_{moment}.jsonl'}" for moment in ("after", "before"))
    sides = ("--baseline", before, "--candidate", after)
    words = (
        "eval",
        *sides,
        "--rescore",
        "--no-labels",
        "--profile",
        str(profile),
        "--out",
        str(out),
        "--preset",
        "tiny",
    )
    command = [sys.executable, "-m", "openrlhf_rad.cli.rad", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=1500)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = (out / "answers" / "after.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(row) for row in rows]


def test_classifiers_and_a_function_and_a_server(run: Run, classifiers: Any, tmp_path: Path) -> None:
    labels = tuple(formats()["toxic-bert"]["harmful"])
    guard = classifiers.guard("guarding", chat=True, verdict=("unsafe", "safe"))
    command = [sys.executable, str(EXAMPLES / "cost_server.py"), "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            costs = {
                "classifier": cost(
                    "classifier", **{"classifier.model": str(classifiers.bert("toxic", labels))}
                ),
                "guard": cost("guard", **{"classifier.model": str(guard)}),
                "reward": cost(
                    "reward_model", **{"classifier.model": str(classifiers.reward("rewarding", chat=True))}
                ),
                "model": cost("cost_model", model=str(prepare_tiny().cost_model)),
                "function": {"function": str(EXAMPLES / "cost_function.py")},
                "server": {"remote_url": server.stdout.readline().strip()},
            }
            profile, trained = train(run, tmp_path, costs)
            evaluated = scored(profile)
        finally:
            server.terminate()
    assert [row["answer"] for row in evaluated] == [row["answer"] for row in trained]
    for name in costs:
        found, exact = ([row["costs"][name] for row in rows] for rows in (evaluated, trained))
        assert len(set(exact)) > 2, name
        tolerance = 0.02 if name == "model" else 1e-3  # of bfloat16
        assert found == pytest.approx(exact, rel=1e-3, abs=tolerance), name


def test_a_judge(run: Run, judging_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A real vLLM server, of the untrained small policy: it rates badly, and by log-probabilities."""
    monkeypatch.setenv("OPENRLHF_RAD_CACHE", str(tmp_path / "cache"))
    judge = cost("judge", **{"judge.model": "small", "judge.base_url": judging_server, "judge.at_once": "8"})
    (tmp_path / "cache").mkdir()
    profile, trained = train(run, tmp_path, {"judge": judge})
    costs = [row["cost"] for row in trained]
    assert all(1 <= value <= 5 for value in costs)
    # Expected ratings, not five whole ones; of logits in bfloat16, so that some are equal.
    assert len(set(costs)) > 3
    assert not any(value.is_integer() for value in costs)
    assert [row["cost"] for row in scored(profile)] == pytest.approx(costs, abs=1e-6)  # of the cache


def test_an_ensemble(run: Run, tmp_path: Path) -> None:
    """A cost model and a Python file as one cost: mean and spread of both, in training as in rad eval."""
    files = {"models": [str(prepare_tiny().cost_model)], "functions": [str(EXAMPLES / "cost_function.py")]}
    overrides = {f"ensemble.{kind}": held for kind, held in files.items()}
    profile, trained = train(run, tmp_path, {"ensemble": cost("ensemble", **overrides)})
    costs = [row["cost"] for row in trained]
    assert len(set(costs)) > 2
    assert [row["cost"] for row in scored(profile)] == pytest.approx(costs, rel=1e-3, abs=0.03)  # of bfloat16
