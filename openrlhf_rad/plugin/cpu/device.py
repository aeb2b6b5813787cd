"""Touch points 2 and 3: calls of ``torch.cuda`` without a check, the "cuda" device mesh, a GPU's buckets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

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


def patch_strategy(module: Any) -> None:
    """Build DeepSpeed's device mesh, its buckets, and the moving average of the weights, for the CPU."""
    init_device_mesh = module.init_device_mesh
    train_config = module.get_train_ds_config
    moving_average = module.DeepspeedStrategy.moving_average

    def on_cpu(_device_type: str, *args: Any, **kwargs: Any) -> Any:
        return init_device_mesh("cpu", *args, **kwargs)

    def average(self: Any, model: Any, model_ema: Any, beta: float = 0.992, _device: str = "cpu") -> None:
        moving_average(self, model, model_ema, beta, "cpu")

    def small_buckets(*args: Any, **kwargs: Any) -> dict[str, Any]:
        config: dict[str, Any] = train_config(*args, **kwargs)
        config["zero_optimization"]["reduce_bucket_size"] = REDUCE_BUCKET_SIZE
        return config

    module.init_device_mesh = on_cpu
    module.get_train_ds_config = small_buckets
    module.DeepspeedStrategy.moving_average = average
