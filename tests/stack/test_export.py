"""The policy takes a checkpoint's model and exports it under its name: DeepSpeed and the disk, no Ray."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from openrlhf_rad.jobs.prepare import prepare_tiny

pytestmark = pytest.mark.stack

SCRIPT = """
import runpy, sys, warnings
warnings.simplefilter("ignore")
from openrlhf_rad.plugin.cpu import activate, backend
activate()
import torch
from openrlhf.utils import config, get_strategy
hierarchize = config.hierarchize

class Parsed(Exception):
    pass

def capture(flat):
    global args
    args = hierarchize(flat)
    raise Parsed

config.hierarchize = capture
sys.argv = ["train", *sys.argv[1:]]
try:
    runpy.run_module("openrlhf.cli.train_ppo_ray", run_name="__main__")
except Parsed:
    pass
backend.set_cpu_flags(args)
args.actor.eps_clip_low_high = (0.2, 0.2)

from openrlhf_rad.plugin.actor import PolicyActor
actor = PolicyActor("profile", 1, 0, None, None)
actor.init_model_from_pretrained(get_strategy(args), args.actor.model_name_or_path, 4, None)

def sizes():
    return {name: weight.detach().float().sum().item() for name, weight in actor.actor.named_parameters()}

first = sizes()
actor.save_checkpoint("global_step5", {"global_step": 5})
with torch.no_grad():
    for weight in actor.actor.parameters():
        weight.add_(1)
actor.save_checkpoint("global_step8", {"global_step": 8})
assert sizes() != first
actor.load_weights("global_step5")
assert sizes() == first
actor.name_model("medical-step5", "the notice")
actor.save_model()
try:
    actor.load_weights("global_step6")
except Exception:
    print("refused")
"""


def test_a_checkpoint_of_an_earlier_step_is_exported(tmp_path: Path) -> None:
    policy = prepare_tiny().policy
    flags = {
        "--actor.model_name_or_path": policy,
        "--reward.remote_url": "reward.py",
        "--ckpt.path": tmp_path / "saved",
        "--ckpt.output_dir": tmp_path / "model",
        "--train.batch_size": 8,
        "--rollout.batch_size": 4,
    }
    words = [sys.executable, "-c", SCRIPT, *(str(word) for pair in flags.items() for word in pair)]
    done = subprocess.run(
        words, capture_output=True, text=True, check=False, timeout=600, env={**os.environ, "LOCAL_RANK": "0"}
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "refused", done.stdout
    assert (tmp_path / "model" / "README.md").read_text() == "the notice"
    assert json.loads((tmp_path / "model" / "config.json").read_text())["_name_or_path"] == "medical-step5"
    from safetensors.torch import load_file

    start, shipped = (load_file(path / "model.safetensors") for path in (policy, tmp_path / "model"))
    assert all((shipped[name].float() == value.float()).all() for name, value in start.items())
