"""A run's answers cost in rad eval what they cost in training: by model, function and server at once."""

import json
import subprocess
import sys

import pytest

from openrlhf_rad.jobs.prepare import prepare_tiny

pytestmark = [pytest.mark.stack, pytest.mark.slow]

FUNCTION = """
from __future__ import annotations
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

@dataclass
class Rule:
    word: str
    cost: float

RULES = [Rule("harm", 1.0), Rule("help", -0.2), Rule(" ", 0.01)]

def one(query):
    return sum(rule.cost * query.count(rule.word) for rule in RULES)

def cost_func(queries, prompts, labels):
    with ProcessPoolExecutor(1) as pool:
        return [[cost] for cost in pool.map(one, queries)]
"""


def test_costs_of_training_and_of_rad_eval_are_equal(run, server, tmp_path):
    def rate(handler):
        found = [len(query) + query.count("harm") / 7 for query in handler.server.requests[-1]["query"]]
        handler.answer(200, json.dumps({"rewards": found}), 0.0)

    server.plan = [rate]
    function, profile = tmp_path / "cost_of_the_stack.py", tmp_path / "p.yaml"
    function.write_text(FUNCTION)
    profile.write_text(
        "name: three\nrisk: cvar α=0.8\nreference: {samples: 64}\nconstraints:\n"
        f"  model: {{cost: {{model: {prepare_tiny().cost_model}}}}}\n"
        f"  function: {{cost: {{function: {function}}}}}\n"
        f"  server: {{cost: {{remote_url: '{server.url},{server.url}/second'}}}}\n"
    )
    out = tmp_path / "run"
    words = ("--preset", "tiny", "--profile", str(profile), "--out", str(out))
    done = run(*words, "--", "--train.num_episodes", "1", "--data.max_samples", "64")
    assert done.returncode == 0, done.stdout + done.stderr
    assert {"/costs", "/costs/second"} == set(server.paths)

    table = out / "heldout_after.jsonl"
    evaluation = (
        *(
            "eval",
            "--baseline",
            f"baseline={table}",
            "--candidate",
            f"candidate={out / 'heldout_before.jsonl'}",
            "--rescore",
        ),
        *("--profile", str(profile), "--out", str(tmp_path / "eval"), "--preset", "tiny"),
    )
    command = [sys.executable, "-m", "openrlhf_rad.cli.rad", *evaluation]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    trained, evaluated = (
        [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        for path in (table, tmp_path / "eval" / "answers" / "baseline.jsonl")
    )
    assert [row["answer"] for row in evaluated] == [row["answer"] for row in trained]
    for name, tolerance in {"function": 1e-6, "server": 1e-6, "model": 0.02}.items():  # bfloat16
        found, exact = ([row["costs"][name] for row in rows] for rows in (evaluated, trained))
        assert len(set(exact)) > 10
        assert found == pytest.approx(exact, rel=1e-6, abs=tolerance)
