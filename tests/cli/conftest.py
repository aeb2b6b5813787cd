"""A job of files that pass every check, and rad-train as a process of its own."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass
class Job:
    """A user's own job: a model folder, prompts, a cost and a reward file."""

    folder: Path

    @property
    def options(self) -> list[str]:
        cost = f"cost.function={self.folder / 'cost.py'}"
        return ["--profile", "medical", "--set", cost, "--out", str(self.folder / "run")]

    @property
    def flags(self) -> list[str]:
        return [
            "--actor.model_name_or_path",
            str(self.folder / "model"),
            "--data.prompt_dataset",
            str(self.folder / "prompts.jsonl"),
            "--reward.remote_url",
            str(self.folder / "reward.py"),
            "--rollout.batch_size",
            "4",
            "--rollout.n_samples_per_prompt",
            "2",
            "--train.batch_size",
            "8",
            "--algo.advantage.estimator",
            "rloo",
            "--vllm.num_engines",
            "1",
        ]

    @property
    def words(self) -> list[str]:
        return [*self.options, "--", *self.flags]

    def write_prompts(self, *lines: object) -> None:
        text = "".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines)
        (self.folder / "prompts.jsonl").write_text(text)


@pytest.fixture
def job(tmp_path, monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    job = Job(tmp_path)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    for name in ("cost", "reward"):
        (tmp_path / f"{name}.py").write_text(f"def {name}_func(queries, prompts, labels): ...\n")
    job.write_prompts(*({"input": f"prompt {number}"} for number in range(8)))
    return job


@dataclass
class RadTrain:
    """Starts rad-train as a process; ``stand_in`` is the body of the training process it starts."""

    folder: Path

    def start(self, words: list[str], stand_in: str) -> subprocess.Popen[str]:
        child, driver = self.folder / "stand_in.py", self.folder / "driver.py"
        child.write_text(stand_in)
        driver.write_text(
            "import sys\n"
            "from openrlhf_rad.cli import run, train\n"
            f"run.command = lambda plan: [sys.executable, {str(child)!r}, str(plan.out)]\n"
            "train.app()\n"
        )
        return subprocess.Popen(
            [sys.executable, str(driver), *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "COLUMNS": "100"},
        )


@pytest.fixture
def rad_train(tmp_path):
    return RadTrain(tmp_path)


HOSPITAL = """\
name: hospital
description: Harm and privacy, children apart.
risk: cvar α=0.9
cost: {function: /harm.py}
constraints:
  harm: {risk: 0.8*cvar(alpha=0.9) + 0.2*mean}
  privacy: {risk: mean, form: expected, cost: {remote_url: "http://x.org/privacy"}, dual: {max: 3}}
segments:
  pediatrics: cvar α=0.99
"""


@pytest.fixture
def hospital(tmp_path):
    """A profile of two constraints with a segment each, as a file."""
    path = tmp_path / "hospital.yaml"
    path.write_text(HOSPITAL)
    return path
