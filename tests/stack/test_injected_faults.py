"""An error in any hook, on either side of a collective, ends the run with its cause within a minute."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import pytest

from openrlhf_rad.jobs.prepare import prepare_tiny

pytestmark = pytest.mark.stack

RUNNER = "vllm.v1.worker.gpu_model_runner:GPUModelRunner"
POLICY = "openrlhf.trainer.ray.ppo_actor"
STRATEGY = "openrlhf.utils.deepspeed.deepspeed:DeepspeedStrategy"
CPU = "openrlhf_rad.plugin.cpu.device"
TWO = ("--actor.num_gpus_per_node", "2")
CRITIC = ("--algo.advantage.estimator", "gae", "--algo.advantage.lambd", "1")
#: Where it raises, flags of OpenRLHF, what the run says.
FAULTS = {
    "weight sync, engine": (
        {"at": f"{CPU}:CpuWorkerExtension.update_weight", "call": 3},
        (),
        "FailClosedRollout.update_weight failed: .*injected into update_weight",
    ),
    "weight sync, policy": (
        {"at": f"{CPU}:GlooCommunicator.broadcast", "call": 3, "engine": False},
        (),
        "PolicyActor.broadcast_to_vllm failed: ValueError: injected into broadcast",
    ),
    "group of the weight sync, engine": (
        {"at": f"{CPU}:CpuWorkerExtension.init_process_group"},
        (),
        "FailClosedRollout.init_process_group failed: .*injected into init_process_group",
    ),
    "start of the engine": (
        {"at": "vllm.v1.worker.cpu_model_runner:CPUModelRunner.load_model"},
        (),
        "a vLLM engine did not start: ValueError: injected into load_model",
    ),
    "generation, engine": (
        {"at": f"{RUNNER}.execute_model", "call": 4, "engine": True},
        (),
        "a vLLM engine failed: ValueError: injected into execute_model",
    ),
    "generation, worker": (
        {"at": "openrlhf.trainer.ray.vllm_engine:RolloutRayActor.generate", "call": 9},
        (),
        "FailClosedRollout.generate_responses failed: ValueError: injected into generate",
    ),
    "forward of the policy": (
        {"at": f"{POLICY}:PolicyModelActor.forward", "rank": "1"},
        (*TWO, "--ds.zero_stage", "3"),
        "PolicyActor.execute_batch failed: ValueError: injected into forward",
    ),
    "forward of the reference": (
        {"at": "openrlhf.trainer.ray.launcher:ReferenceModelActor.forward"},
        (),
        "ReferenceActor.execute_batch failed: ValueError: injected into forward",
    ),
    "forward of the cost model": (
        {"at": "openrlhf.trainer.ray.launcher:RewardModelActor.forward"},
        (),
        "cost model .* failed on a batch of .*injected into forward",
    ),
    "forward of the critic": (
        {"at": "openrlhf.trainer.ray.ppo_critic:CriticModelActor.forward"},
        CRITIC,
        "CriticActor.execute_batch failed: ValueError: injected into forward",
    ),
    "training, first rank": (
        {"at": f"{POLICY}:ActorPPOTrainer.training_step", "rank": "0"},
        TWO,
        "PolicyActor.fit failed: ValueError: injected into training_step",
    ),
    "training, second rank": (
        {"at": f"{POLICY}:ActorPPOTrainer.training_step", "rank": "1"},
        TWO,
        "PolicyActor.fit failed: ValueError: injected into training_step",
    ),
    "checkpoint, first rank": (
        {"at": f"{STRATEGY}.save_ckpt", "rank": "0"},
        (*TWO, "--ckpt.save_steps", "1"),
        "PolicyActor.save_checkpoint failed: ValueError: injected into save_ckpt",
    ),
    "checkpoint, second rank": (
        {"at": f"{STRATEGY}.save_ckpt", "rank": "1"},
        (*TWO, "--ckpt.save_steps", "1"),
        "PolicyActor.save_checkpoint failed: ValueError: injected into save_ckpt",
    ),
    "model": (
        {"at": f"{STRATEGY}.save_model", "rank": "0"},
        TWO,
        "PolicyActor.save_model failed: ValueError: injected into save_model",
    ),
}
#: The case that was seen; the others take as long each.
QUICK = {"weight sync, engine"}
CASES = [pytest.param(name, marks=() if name in QUICK else (pytest.mark.slow,)) for name in FAULTS]


@pytest.mark.parametrize("case", CASES)
def test_an_error_ends_the_run_with_its_cause(case, run, tmp_path: Path, monkeypatch) -> None:
    fault, flags, said = FAULTS[case]
    stamp, out = tmp_path / "stamp", tmp_path / "run"
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).with_name("injection")))
    monkeypatch.setenv("RAD_TEST_FAULT", json.dumps({**fault, "stamp": str(stamp)}))
    cost = ("--set", f"cost.model={prepare_tiny().cost_model}") if "cost model" in case else ()
    words = ("--preset", "tiny", "--profile", "medical", "--set", "reference.samples=64", *cost)
    short = ("--data.max_samples", "32", "--train.num_episodes", "1")
    done = run(*words, "--out", str(out), "--", *short, *flags)
    seconds = time.time() - stamp.stat().st_mtime
    assert done.returncode in {1, 3}, done.stdout + done.stderr
    for text in ((out / "error.txt").read_text(encoding="utf-8"), done.stderr):
        assert re.search(said, text, re.DOTALL), text
    assert seconds < 60
    assert not (out / "model").exists()
    assert "injected into" in (out / "train.log").read_text(encoding="utf-8", errors="replace")
