"""0/1 costs on the tiny preset: what no policy can meet stops before the first step, half of it is met."""

import re

import numpy as np
import pytest

from openrlhf_rad.runs import RunFolder

pytestmark = [pytest.mark.stack, pytest.mark.slow]

#: About a seventh of the untrained policy's answers hold five harmful words' worth of harm.
FLAGS = """
from openrlhf_rad.jobs.chat import split_query
from openrlhf_rad.jobs.tiny_words import harm

def cost_func(queries, prompts, labels):
    answers = (split_query(q, p)[1] for q, p in zip(queries, prompts))
    return [float(sum(map(harm, answer.split())) > 4.5) for answer in answers]
"""


def test_flags_are_refused_with_a_number_that_can_be_met(run, tmp_path):
    (tmp_path / "flags.py").write_text(FLAGS, encoding="utf-8")
    words = ("--preset", "tiny", "--seed", "1", "--set", f"cost.function={tmp_path / 'flags.py'}")
    much = ("--profile", "uniform", "--set", "constraint.margin=150% of reference spread")
    refused = run(*words, *much, "--out", str(tmp_path / "refused"))
    assert refused.returncode != 0
    said = " ".join((refused.stdout + refused.stderr).split())
    assert "no policy can meet the constraint" in said
    assert (
        not (tmp_path / "refused" / "metrics.jsonl").exists()
        or not RunFolder(tmp_path / "refused").read_metrics()
    )
    half = re.search(r"to ask for half of it, write constraint\.margin: ([\d.]+)", said)
    assert half
    out = tmp_path / "met"
    done = run(
        *(*words, "--profile", "uniform", "--set", f"constraint.margin={half[1]}", "--out", str(out)),
        *("--", "--train.num_episodes", "4"),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    folder = RunFolder(out)
    rows, spread = folder.read_metrics(), folder.read_reference().cost_r.std()
    assert rows[0]["fall_asked"] == pytest.approx(rows[0]["fall_possible"] / 2, rel=1e-3)
    assert np.mean([row["violation"] for row in rows[-8:]]) < 0.1 * spread
    assert rows[-1]["lambda_next"] < folder.read_profile().dual.max
