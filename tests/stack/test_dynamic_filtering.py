"""Dynamic filtering: the reward learns from what is kept, the constraint from all that was sampled."""

import json

import numpy as np
import pytest

from openrlhf_rad.runs import RunFolder

pytestmark = [pytest.mark.stack, pytest.mark.slow]

#: Prompts whose answers' mean reward lies above it are dropped: about half of the untrained policy's.
MOST = 0.5


def test_the_constraint_counts_the_answers_that_were_filtered_out(run, tmp_path):
    out = tmp_path / "run"
    filtering = ("--algo.dynamic_filtering_enable", "--algo.dynamic_filtering_range", "-1000", str(MOST))
    size = ("--data.max_samples", "64", "--train.num_episodes", "1")
    done = run("--preset", "tiny", "--profile", "medical", "--out", str(out), "--", *size, *filtering)
    assert done.returncode == 0, done.stdout + done.stderr
    check(RunFolder(out))


def check(folder):
    """A run whose 64 prompts made one step, two answers each; its risk is CVaR 0.9."""
    (step,) = folder.read_metrics()
    answers = [json.loads(line) for line in (folder.path / "samples.jsonl").read_text("utf-8").splitlines()]
    cost_b, reward_b = (np.array([row[name] for row in answers]) for name in ("cost", "reward"))
    prompts = sorted({row["prompt"] for row in answers})
    prompt_b = np.array([prompts.index(row["prompt"]) for row in answers])
    assert np.bincount(prompt_b).tolist() == [2] * 64
    kept_b = (np.bincount(prompt_b, reward_b) / 2 < MOST)[prompt_b]
    assert 0.1 < kept_b.mean() < 0.9
    assert step["filtered_share"] == pytest.approx(1 - kept_b.mean())
    assert step["reward_mean"] == pytest.approx(reward_b[kept_b].mean(), abs=1e-5)
    assert step["samples"] == cost_b.size == 128
    assert step["cost_mean"] == pytest.approx(cost_b.mean(), rel=1e-5)
    worst_b = np.sort(cost_b)[::-1]
    assert step["risk"] == pytest.approx((worst_b[:12].sum() + 0.8 * worst_b[12]) / 12.8, rel=1e-3)
    assert step["cost_mean"] != pytest.approx(cost_b[kept_b].mean(), rel=0.02)
