"""A study on the real stack that is killed, in a run and in the evaluation, ends with the same tables."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
STUDY = """
name: stack
out: {out}
seeds: 1
ask: 20% of reference spread
baselines: [safe-rlhf]
profiles: [cvar]
set: {{cost.function: "@jobs/two_harms.py"}}
job:
  preset: tiny
  flags:
    reward.remote_url: "@jobs/two_harms_reward.py"
    train.num_episodes: 1
    data.max_samples: 128
    ckpt.save_steps: 2
evaluation:
  held-out: "@tiny/heldout.jsonl"
  other: {other}
  limit: 80
  independent: "@jobs/two_harms_judge.py"
  threshold: 2
"""


@pytest.mark.stack
@pytest.mark.slow
def test_a_study_killed_in_a_run_and_in_the_evaluation_ends_with_the_same_tables(tmp_path):
    alone, killed = (study(tmp_path, name) for name in ("alone", "killed"))
    finish(alone)
    out = tmp_path / "killed"
    kill_when(killed, lambda: lines(out / "runs" / "safe-rlhf" / "0" / "metrics.jsonl") >= 2)
    kill_when(killed, lambda: any((out / "evaluation" / "cvar").rglob("00000.jsonl")))
    finish(killed)
    for name in ("tables.json", "data/answers.parquet", "data/runs.parquet"):
        assert (out / name).read_bytes() == (tmp_path / "alone" / name).read_bytes()
    found = {table["title"]: table for table in json.loads((out / "tables.json").read_text())}
    judged = "Table 4, other: model costs less, as much, more by an independent cost, %"
    assert [row[0] for row in found[judged]["rows"]][:2] == ["sft vs safe-rlhf", "sft vs cvar"]
    models = found["Models, held-out"]
    assert models["head"][-5:] == ["perplexity", "distinct1", "distinct2", "words", "empty"]
    # Of the start itself: about as many equally likely words as the tiny model knows.
    assert 100 < float(models["rows"][0][-5]) < 500


def study(folder, name):
    path = folder / f"{name}.yaml"
    path.write_text(STUDY.format(out=folder / name, other=ROOT / "studies" / "small_other.jsonl"))
    return [sys.executable, "-m", "openrlhf_rad.cli.rad", "study", str(path)]


def finish(command):
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=900)
    assert done.returncode == 0, done.stderr[-3000:]


def kill_when(command, ready):
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 600
    while not ready():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.2)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    time.sleep(25)  # the processes of the run end by themselves: see openrlhf_rad.processes.Parent


def lines(path):
    return len(path.read_text().splitlines()) if path.is_file() else 0
