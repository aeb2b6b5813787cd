"""Touch points 2 and 3: calls of ``torch.cuda`` without a check, and DeepSpeed made for a GPU.

DeepSpeed compiles its own Adam for CPUs, and a reduction that nothing here uses, at their first use, which
takes a compiler minutes. torch has an Adam as fast as that.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from openrlhf_rad.plugin.cpu import number_format

#: Gradient elements that DeepSpeed reduces at a time. Its own 5e8 are allocated anew at each optimiser step,
#: and ``--train.full_determinism_enable`` has torch fill them: 1 GB, which takes a CPU longer than the step.
REDUCE_BUCKET_SIZE = 10_000_000


def patch_torch(torch: Any) -> None:
    """Let the handful of unconditional ``torch.cuda`` calls mean the CPU."""
    cpu = torch.device("cpu")
    torch.cuda.current_device = lambda: cpu
    for name in ("set_device", "synchronize", "empty_cache", "current_stream"):
        setattr(torch.cuda, name, _no_operation())


def _no_operation() -> Callable[..., None]:
    # One function object a name: torch's compiler refuses the same object under two names.
    def nothing(*_: object, **__: object) -> None:
        """There is no device to act on."""

    return nothing


def patch_replay_buffer(module: Any) -> None:
    """``NaiveReplayBuffer`` formats ``f"cuda:{current_device()}"``: give it an index, then the CPU."""
    import torch  # noqa: PLC0415

    original: Callable[..., None] = module.NaiveReplayBuffer.__init__

    def initialise(self: Any, *args: Any, **kwargs: Any) -> None:
        current_device, torch.cuda.current_device = torch.cuda.current_device, lambda: 0
        try:
            original(self, *args, **kwargs)
        finally:
            torch.cuda.current_device = current_device
        self.target_device = torch.device("cpu")

    module.NaiveReplayBuffer.__init__ = initialise


def patch_communication(module: Any) -> None:
    """Let DeepSpeed reduce over gloo without compiling its own reduction in shared memory."""
    module.build_shm_op = lambda: None


def patch_configuration(module: Any) -> None:
    """Configure DeepSpeed for the CPU: format, buckets, torch's Adam; nothing moves between devices."""
    training, evaluation = module.get_train_ds_config, module.get_eval_ds_config

    def for_training(*args: Any, **kwargs: Any) -> dict[str, Any]:
        config = number_format.of_deepspeed(training(*args, **kwargs))
        config["zero_optimization"]["reduce_bucket_size"] = REDUCE_BUCKET_SIZE
        config["zero_optimization"]["offload_optimizer"]["device"] = "none"
        if config.get("optimizer", {}).get("type") in {"Adam", "AdamW"}:
            config["optimizer"]["params"] |= {"torch_adam": True, "fused": True}
        return config

    def for_evaluation(*args: Any, **kwargs: Any) -> dict[str, Any]:
        return number_format.of_deepspeed(evaluation(*args, **kwargs))

    module.get_train_ds_config, module.get_eval_ds_config = for_training, for_evaluation
    module.offload_deepspeed_states = _no_operation()
    module.reload_deepspeed_states = _no_operation()


def patch_strategy(module: Any) -> None:
    """Build the device mesh and the moving average of the weights on the CPU; save models in bfloat16."""
    init_device_mesh = module.init_device_mesh
    save_model = module.DeepspeedStrategy.save_model
    moving_average = module.DeepspeedStrategy.moving_average

    def on_cpu(_device_type: str, *args: Any, **kwargs: Any) -> Any:
        return init_device_mesh("cpu", *args, **kwargs)

    def average(self: Any, model: Any, model_ema: Any, beta: float = 0.992, _device: str = "cpu") -> None:
        moving_average(self, model, model_ema, beta, "cpu")

    def save(self: Any, model: Any, tokenizer: Any, output_dir: str, **kwargs: Any) -> None:
        save_model(self, model, tokenizer, output_dir, **kwargs)
        if self.is_rank_0():
            number_format.write_as_bfloat16(Path(output_dir))

    module.init_device_mesh = on_cpu
    module.DeepspeedStrategy.moving_average = average
    module.DeepspeedStrategy.save_model = save
