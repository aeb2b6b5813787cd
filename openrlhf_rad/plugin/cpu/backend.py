"""Which modules the CPU backend adapts, and when: right after each is first imported, in every process."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import wrapt

from openrlhf_rad import processor
from openrlhf_rad.plugin.cpu import device, flash_attention, number_format, weights

#: Module → what is adapted in it. Nothing is imported before the stack itself imports it.
TOUCH_POINTS: dict[str, Callable[[Any], None]] = {
    "torch": device.patch_torch,
    "deepspeed.comm.torch": device.patch_communication,
    "openrlhf.trainer.ppo_utils.replay_buffer": device.patch_replay_buffer,
    "openrlhf.utils.deepspeed.deepspeed_utils": device.patch_configuration,
    "openrlhf.utils.deepspeed.deepspeed": device.patch_strategy,
    "openrlhf.utils.utils": number_format.patch_models,
    "openrlhf.utils.distributed_util": weights.patch_process_group,
    "openrlhf.trainer.ray.vllm_engine": weights.patch_engine,
}

#: Environment of every process of a CPU run; a value that the user has set wins.
ENVIRONMENT = {
    "DS_ACCELERATOR": "cpu",
    "VLLM_CPU_KVCACHE_SPACE": "1",  # GiB
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # engine and trainer take turns on the same cores
    "OMP_NUM_THREADS": str(os.cpu_count() or 1),
    "OMP_WAIT_POLICY": "PASSIVE",  # idle threads sleep: several processes share the cores
    "RAY_prestart_worker_first_driver": "0",
    "GLOO_SOCKET_IFNAME": "lo",
}

_active = False


def is_needed() -> bool:
    """True where no GPU is visible; ``OPENRLHF_RAD_BACKEND=cpu`` or ``gpu`` decides otherwise."""
    if os.environ.get("OPENRLHF_RAD_BACKEND") in {"cpu", "gpu"} or not processor.has_gpu():
        return not processor.has_gpu()
    import torch  # noqa: PLC0415 - only the plugin's processes may pay for this import

    return not torch.cuda.is_available()


def environment() -> dict[str, str]:
    """The environment variables of a CPU run, the user's own values first.

    The number format is settled here, so that all processes of a run, on whatever machine, have the same.
    """
    wanted = ENVIRONMENT | {processor.VARIABLE: processor.number_format()}
    return {name: os.environ.get(name) or value for name, value in wanted.items()}


def engine_arguments() -> dict[str, Any]:
    """What a vLLM engine of our own must be told: its number format, and what a CPU needs."""
    if not is_needed():
        return {"dtype": "bfloat16"}
    return {"enforce_eager": True, "dtype": processor.number_format(), **weights.WHOLE_PROMPTS}


def activate() -> None:
    """Adapt this process; Ray calls it in each worker before anything else. Safe to call twice."""
    global _active  # noqa: PLW0603 - one switch a process
    if _active:
        return
    _active = True
    # Only what differs: a variable that is set anew moves, and a title is found by where the first one is.
    os.environ.update({name: text for name, text in environment().items() if os.environ.get(name) != text})
    flash_attention.install()
    for module, patch in TOUCH_POINTS.items():
        wrapt.register_post_import_hook(patch, module)
