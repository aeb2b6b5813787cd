"""A device that is not there: stand-ins for ``flash_attn`` and ``torch.cuda``, DeepSpeed and models on a CPU.

OpenRLHF imports ``flash_attn`` at load time, for packing, which needs a GPU anyway. DeepSpeed compiles its
own Adam for CPUs, and a reduction that nothing here uses, at their first use, which takes a compiler minutes;
torch has an Adam as fast as that. OpenRLHF knows bfloat16 and float16 alone, and most processors are fast in
float32: models, DeepSpeed and vLLM compute in the format that :mod:`openrlhf_rad.processor` has settled. What
is saved is bfloat16 in any case, as on a GPU.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

from openrlhf_rad.files import write_atomically
from openrlhf_rad.processor import number_format, torch_dtype

_FLASH = {
    "flash_attn": (),
    "flash_attn.bert_padding": ("index_first_axis", "pad_input", "rearrange", "unpad_input"),
    "flash_attn.utils": (),
    "flash_attn.utils.distributed": ("all_gather",),
}


def install_flash_attention() -> None:
    """Put importable stand-ins in place; each function says what to change when it is called."""
    for module_name, functions in _FLASH.items():
        if module_name in sys.modules:
            continue
        module = ModuleType(module_name, "Stand-in of the CPU backend of openrlhf_rad.")
        module.__spec__ = ModuleSpec(module_name, loader=None, is_package=not functions)
        module.__path__ = []
        for function in functions:
            setattr(module, function, _refusal(f"{module_name}.{function}"))
        sys.modules[module_name] = module


def _refusal(name: str) -> Any:
    def refuse(*_: object, **__: object) -> NoReturn:
        raise RuntimeError(
            f"{name} was called on a CPU; flash attention needs a GPU; leave out --ds.packing_samples, "
            "--train.dynamic_batch_enable and --ds.ring_attn_size"
        )

    return refuse


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
        config = of_deepspeed(training(*args, **kwargs))
        config["zero_optimization"]["reduce_bucket_size"] = REDUCE_BUCKET_SIZE
        config["zero_optimization"]["offload_optimizer"]["device"] = "none"
        if config.get("optimizer", {}).get("type") in {"Adam", "AdamW"}:
            config["optimizer"]["params"] |= {"torch_adam": True, "fused": True}
        return config

    def for_evaluation(*args: Any, **kwargs: Any) -> dict[str, Any]:
        return of_deepspeed(evaluation(*args, **kwargs))

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
            write_as_bfloat16(Path(output_dir))

    module.init_device_mesh = on_cpu
    module.DeepspeedStrategy.moving_average = average
    module.DeepspeedStrategy.save_model = save


def patch_models(module: Any) -> None:
    """Load models in the number format where ``--ds.param_dtype`` is bf16, its default."""
    convert = module.convert_to_torch_dtype

    def converted(param_dtype: str) -> Any:
        return torch_dtype() if param_dtype == "bf16" else convert(param_dtype)

    module.convert_to_torch_dtype = converted


def of_deepspeed(config: dict[str, Any]) -> dict[str, Any]:
    """DeepSpeed's configuration for the number format; float32 is what it does where nothing is enabled."""
    if number_format() == "float32":
        config["bf16"]["enabled"] = False
    return config


def write_as_bfloat16(folder: Path) -> None:
    """Round the float32 weights of a saved model to bfloat16, file by file, and say so in its config."""
    import torch  # noqa: PLC0415 - in every process of a run, but not in those that only activate the backend
    from safetensors import safe_open  # noqa: PLC0415
    from safetensors.torch import load_file, save_file  # noqa: PLC0415

    for path in folder.glob("*.safetensors"):
        weights = load_file(path)
        if all(tensor.dtype != torch.float32 for tensor in weights.values()):
            continue
        with safe_open(path, "pt") as file:
            metadata = file.metadata()
        rounded = {
            name: tensor.bfloat16() if tensor.dtype == torch.float32 else tensor
            for name, tensor in weights.items()
        }
        partial = path.with_suffix(".partial")
        save_file(rounded, partial, metadata=metadata)
        partial.replace(path)
    config = folder / "config.json"
    if config.is_file():
        text = config.read_text(encoding="utf-8")
        settings = json.loads(text)
        for key in ("dtype", "torch_dtype"):
            if settings.get(key) == "float32":
                settings[key] = "bfloat16"
        if settings != json.loads(text):
            write_atomically(config, json.dumps(settings, indent=2, sort_keys=True) + "\n")
