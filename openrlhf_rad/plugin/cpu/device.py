"""A device that is not there: stand-ins for ``flash_attn`` and ``torch.cuda``, DeepSpeed and models on a CPU.

OpenRLHF imports ``flash_attn`` at load time, for packing, which needs a GPU anyway. DeepSpeed compiles its
own Adam for CPUs, and a reduction that nothing here uses, at their first use, which takes a compiler minutes;
torch has an Adam as fast as that. OpenRLHF knows bfloat16 and float16 alone, and most processors are fast in
float32: models, DeepSpeed and vLLM compute in the format that :mod:`openrlhf_rad.processor` has settled. What
is saved is bfloat16 in any case, as on a GPU.
"""

from __future__ import annotations

import json
import multiprocessing
import sys
from collections.abc import Callable
from datetime import timedelta
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

from openrlhf_rad.files import write_atomically
from openrlhf_rad.plugin.cpu import fork_server
from openrlhf_rad.plugin.patches import Patch, temporarily
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


def current_device(_: Any) -> Callable[[], Any]:
    """In the place of ``torch.cuda.current_device``."""
    import torch  # noqa: PLC0415 - it has just been imported

    cpu = torch.device("cpu")
    return lambda: cpu


def no_operation(_: Any) -> Callable[..., None]:
    """In the place of what acts on a device."""

    # One function object a name: torch's compiler refuses the same object under two names.
    def nothing(*_: object, **__: object) -> None:
        """There is no device to act on."""

    return nothing


def buffer_on_cpu(initialise: Callable[..., None]) -> Callable[..., None]:
    """``NaiveReplayBuffer.__init__``, to which ``current_device()`` is an index; the buffer is the CPU's."""
    index = Patch("torch:cuda.current_device", lambda _: lambda: 0, "the buffer makes a name of it")

    def initialised(self: Any, *args: Any, **kwargs: Any) -> None:
        import torch  # noqa: PLC0415

        with temporarily(index):
            initialise(self, *args, **kwargs)
        self.target_device = torch.device("cpu")

    return initialised


def training_config(config: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    """``get_train_ds_config`` for a CPU: number format, buckets, torch's Adam."""

    def configured(*args: Any, **kwargs: Any) -> dict[str, Any]:
        settings = of_deepspeed(config(*args, **kwargs))
        settings["zero_optimization"]["reduce_bucket_size"] = REDUCE_BUCKET_SIZE
        settings["zero_optimization"]["offload_optimizer"]["device"] = "none"
        if settings.get("optimizer", {}).get("type") in {"Adam", "AdamW"}:
            settings["optimizer"]["params"] |= {"torch_adam": True, "fused": True}
        return settings

    return configured


def evaluation_config(config: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    """``get_eval_ds_config`` in the number format."""
    return lambda *args, **kwargs: of_deepspeed(config(*args, **kwargs))


def mesh_on_cpu(init_device_mesh: Callable[..., Any]) -> Callable[..., Any]:
    """``init_device_mesh``, of CPUs."""
    return lambda _device_type, *args, **kwargs: init_device_mesh("cpu", *args, **kwargs)


def average_on_cpu(moving_average: Callable[..., None]) -> Callable[..., None]:
    """``DeepspeedStrategy.moving_average`` where the weights are."""

    def averaged(self: Any, model: Any, model_ema: Any, beta: float = 0.992, _device: str = "cpu") -> None:
        moving_average(self, model, model_ema, beta, "cpu")

    return averaged


def saving_bfloat16(save_model: Callable[..., None]) -> Callable[..., None]:
    """``DeepspeedStrategy.save_model``, whose weights are bfloat16 whatever they were trained in."""

    def saved(self: Any, model: Any, tokenizer: Any, output_dir: str, **kwargs: Any) -> None:
        save_model(self, model, tokenizer, output_dir, **kwargs)
        if self.is_rank_0():
            write_as_bfloat16(Path(output_dir))

    return saved


def dtype_of_models(convert: Callable[[str], Any]) -> Callable[[str], Any]:
    """``convert_to_torch_dtype``: the number format where ``--ds.param_dtype`` is bf16, its default."""
    return lambda param_dtype: torch_dtype() if param_dtype == "bf16" else convert(param_dtype)


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


WORKER_EXTENSION = f"{__name__}.CpuWorkerExtension"


class GlooCommunicator:
    """Broadcasts tensors among the trainer and the engines; stands where OpenRLHF has a NCCL group."""

    def __init__(self, host: str, port: int, rank: int, world_size: int) -> None:
        import torch  # noqa: PLC0415

        distributed: Any = torch.distributed

        timeout = timedelta(minutes=10)
        self._store = distributed.TCPStore(host, port, world_size, is_master=rank == 0, timeout=timeout)
        self._group = distributed.ProcessGroupGloo(self._store, rank, world_size, timeout)

    def broadcast(self, tensor: Any, src: int, stream: object = None) -> None:  # noqa: ARG002
        """Send ``tensor`` from rank ``src`` to all; bfloat16 travels as its bytes."""
        import torch  # noqa: PLC0415

        self._group.broadcast(tensor.view(torch.uint8) if tensor.dim() else tensor, src).wait()


#: A prompt that is cut in two draws a token too many, which vLLM takes back by the generator's offset. On a
#: CPU a generator has none, so requests with a seed need whole prompts.
WHOLE_PROMPTS = {"enable_chunked_prefill": False}


def engine_on_cpu(initialise: Callable[..., Any]) -> Callable[..., Any]:
    """``RolloutRayActor.__init__`` with :class:`CpuWorkerExtension`, whole prompts, the number format."""

    async def initialised(self: Any, *args: Any, **kwargs: Any) -> None:
        kwargs.pop("gpu_memory_utilization", None)
        multiprocessing.set_executable(fork_server.python() or sys.executable)  # of the engine's own process
        settled = {"dtype": number_format(), "worker_extension_cls": WORKER_EXTENSION}
        await initialise(self, *args, **{**kwargs, **WHOLE_PROMPTS, **settled})

    return initialised


def gloo_group(host: str, port: int, rank: int, world_size: int, _device: object) -> GlooCommunicator:
    return GlooCommunicator(host, port, rank, world_size)


class CpuWorkerExtension:
    """What OpenRLHF asks of a vLLM worker at a weight sync, without CUDA.

    vLLM's CPU backend has prepacked its linear weights, so single tensors cannot be loaded into it: the
    tensors of one sync are collected and loaded together at the last one.
    """

    model_config: Any
    model_runner: Any

    def init_process_group(  # noqa: PLR0917
        self,
        master_address: str,
        master_port: int,
        rank_offset: int,
        world_size: int,
        group_name: str,  # noqa: ARG002 - OpenRLHF's signature
        backend: str = "gloo",  # noqa: ARG002
        use_ray: bool = False,
    ) -> None:
        """Join the group that OpenRLHF's rank 0 has opened."""
        import torch  # noqa: PLC0415

        if use_ray:
            raise RuntimeError("--vllm.sync_with_ray needs NCCL; leave it out on a CPU")
        rank = torch.distributed.get_rank() + rank_offset
        self._model_update_group = gloo_group(master_address, master_port, rank, world_size, None)
        self._received: list[tuple[str, Any]] = []

    def update_weight(self, name: str, dtype: Any, shape: Any, empty_cache: bool = False) -> None:
        """Receive one tensor; ``empty_cache`` marks the last one of this sync."""
        import torch  # noqa: PLC0415

        if dtype != self.model_config.dtype:
            raise RuntimeError(f"weight {name} is {dtype}, the engine has {self.model_config.dtype}")
        weight = torch.empty(shape, dtype=dtype)
        self._model_update_group.broadcast(weight, src=0)
        self._received.append((name, weight))
        if empty_cache:
            self.model_runner.reload_weights(weights_iterator=iter(self._received))
            self._received = []
