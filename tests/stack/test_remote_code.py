"""A model that comes with code: refused in a Ray worker and by vLLM's arguments, executed when asked for."""

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from openrlhf_rad.jobs.prepare import prepare_tiny

SCRIPT = Path(__file__).with_name("remote_model.py")
REFUSAL = (
    "ConfigError: {} is a model with Python code of its own, and transformers has no class for it; to load it"
    " is to run that code with your rights; read the code, then say --rad.trust_remote_code (rad eval:"
    " --trust-remote-code), or take a model that transformers knows"
)


@pytest.fixture
def loaded(tmp_path):
    """Loads the model folder in processes of their own; what each load said, and whether its code ran."""
    folder, marker = tmp_path / "model", tmp_path / "marker"
    runpy.run_path(str(SCRIPT))["write"](folder, marker, prepare_tiny().policy)
    cache = {"HF_MODULES_CACHE": str(tmp_path / "modules"), "HF_HUB_OFFLINE": "1"}

    def load(what, *trust):
        words = [sys.executable, str(SCRIPT), what, str(folder), str(marker), *trust]
        done = subprocess.run(
            words, capture_output=True, text=True, check=False, timeout=1500, env={**os.environ, **cache}
        )
        assert done.returncode == 0, done.stderr
        return folder, json.loads(done.stdout.splitlines()[-1])

    return load


def test_by_default_a_ray_worker_refuses_and_nothing_runs(loaded):
    folder, found = loaded("ray")
    said = REFUSAL.format(folder)
    assert found == {"config": said, "model": said, "tokenizer": said, "executed": False}


def test_by_default_a_vllm_engine_is_told_not_to_trust(loaded):
    folder, found = loaded("engine")
    assert found == {"trust": "False", "config": REFUSAL.format(folder), "executed": False}


def test_with_the_flag_the_code_runs_in_a_worker(loaded):
    _, found = loaded("ray", "trust")
    assert (found["config"], found["model"], found["executed"]) == ("SecretConfig", "SecretModel", True)


def test_with_the_flag_a_vllm_engine_trusts(loaded):
    _, found = loaded("engine", "trust")
    assert (found["trust"], found["config"], found["executed"]) == ("True", "ModelConfig", True)
