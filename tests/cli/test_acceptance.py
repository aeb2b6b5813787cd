"""The judge of ``rad doctor --train``: each of its points fails where it must."""

from __future__ import annotations

import json

import numpy as np
import pytest
from openrlhf_rad.cli.acceptance import HELD_OUT, POINTS, REFERENCE, SAMPLES, STEPS, judged, trials

from openrlhf_rad.profile import load_profile
from openrlhf_rad.runs import RunFolder
from openrlhf_rad.runs.folder import Reference


def lines(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def rows():
    """Metrics of a run whose λ follows the rule: η = 0.15 for each spread of violation."""
    price, found = 1.0, []
    for step in range(1, STEPS + 1):
        violation = [0.5, -1.0, 0.25, 0.0][step - 1]
        found.append(
            {
                "step": step,
                "violation": violation,
                "lambda": price,
                "lambda_next": price + 0.15 * violation / 2,
                "staleness": 0,
                "kl": 0.004 * (step - 1),
            }
        )
        price = found[-1]["lambda_next"]
    return found


@pytest.fixture
def write(tmp_path, rows):
    """A run as the stack leaves it, with what a test has changed."""

    def call(*, costs=None, heldout=HELD_OUT, reference=REFERENCE):
        folder = RunFolder.create(tmp_path / "run", exist_ok=True)
        folder.write_profile(load_profile("medical"))
        lines(folder.path / "metrics.jsonl", rows)
        costs = costs or [0.5] * SAMPLES
        samples = [{"step": step, "cost": c, "reward": 1.0} for step in range(1, STEPS + 1) for c in costs]
        lines(folder.path / "samples.jsonl", samples)
        cost_r = np.where(np.arange(reference) % 2, 2.0, -2.0)
        texts = [f"p{i}" for i in range(reference)]
        folder.write_reference(Reference({"cost": cost_r}, np.ones(reference), texts, [""] * reference))
        for moment in ("before", "after"):
            answers = [{"prompt": f"p{i}", "answer": "a", "cost": 1.0, "reward": 1.0} for i in range(heldout)]
            lines(folder.path / f"heldout_{moment}.jsonl", answers)
        return {finding.what.strip(): finding.status for finding in judged(folder)}

    return call


def test_a_sound_run_passes(write):
    assert write() == dict.fromkeys(POINTS, "ok")


@pytest.mark.parametrize(
    ("point", "change"),
    [
        ("all steps, held-out answers", lambda rows: rows.pop()),
        ("λ moves by its rule", lambda rows: rows[2].update(lambda_next=1.01)),
        ("answers of the newest weights", lambda rows: rows[1].update(staleness=1)),
        ("weights reach the engine", lambda rows: rows[-1].update(kl=0.0)),
    ],
)
def test_a_step_that_is_wrong_is_found(write, rows, point, change):
    change(rows)
    assert write()[point] == "stop"


def test_an_answer_without_a_cost_is_found(write):
    assert write(costs=[0.5] * (SAMPLES - 1) + [float("nan")])["every answer rated"] == "stop"
    assert write(reference=REFERENCE - 1)["every answer rated"] == "stop"
    assert write(heldout=HELD_OUT - 1)["all steps, held-out answers"] == "stop"


def test_a_gpu_is_tried_in_what_it_alone_can():
    assert [trial.name for trial in trials(gpu=False)] == ["training"]
    flags = [flag for trial in trials(gpu=True) for flag in trial.flags]
    assert {"--vllm.enable_sleep", "--train.dynamic_batch_enable", "--ds.packing_samples"} < set(flags)
