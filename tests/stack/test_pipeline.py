"""examples/pipeline/pipeline.sh from end to end: OpenRLHF's train_sft and train_rm, then rad-train."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "examples" / "pipeline" / "pipeline.sh"


@pytest.mark.stack
@pytest.mark.slow
def test_from_preference_data_to_a_run(tmp_path):
    """At tiny size; the reward and the cost are told apart by what they score, and the run knows both."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    env = {**os.environ, "TINY": "1", "OUT": str(tmp_path), "PATH": path, "COLUMNS": "100"}
    done = subprocess.run(
        ["bash", str(SCRIPT)], env=env, capture_output=True, text=True, check=False, timeout=1500
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    harm = [json.loads(line) for line in (tmp_path / "harm.jsonl").read_text().splitlines()]
    counts = [(row["chosen"].count("harm-"), row["rejected"].count("harm-")) for row in harm]
    assert all(worse >= better for worse, better in counts)
    for model in ("sft", "helpful", "harm", "model"):
        assert (tmp_path / model / "config.json").is_file()
    metrics = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert metrics
    assert all(row["cost_mean"] != row["reward_mean"] for row in metrics)


def test_a_gpu_would_be_given_flags_that_openrlhf_has():
    """What no CPU can run is at least read by the parsers of the commands."""
    from openrlhf_rad.plugin.command_line import installed

    text = SCRIPT.read_text(encoding="utf-8")
    gpu = text.partition("else\n")[2].partition("\nfi")[0].partition("RAD=(")[2].partition(")")[0]
    given = {}
    for word in gpu.replace('"$GPUS"', "8").split():
        if word.startswith("--"):
            values = given.setdefault(word.removeprefix("--"), [])
        else:
            values.append(word)
    assert given.pop("rad.cost_num_gpus_per_node") == ["8"]
    command = installed()
    assert command is not None
    assert len(given) > 10
    assert [problem for name, values in given.items() if (problem := command.problem(name, values))] == []
