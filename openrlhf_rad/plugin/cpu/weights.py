"""Touch point 4: weights go from DeepSpeed to vLLM over gloo, and vLLM's prepacked layers are reloaded."""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from openrlhf_rad.plugin.cpu import fork_server
from openrlhf_rad.processor import number_format

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
