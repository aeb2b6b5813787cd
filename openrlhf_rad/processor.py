"""What this processor computes fast in, and how fast: the number format of every model that runs on it.

bfloat16 halves memory and is many times faster than float32 where the processor has instructions for it (AMX,
AVX512_BF16); elsewhere it is emulated, on some machines 45 times slower than float32. No list of instructions
says which it is for the libraries installed, so a measurement of a second does. It is kept in the cache for
the same processor and the same torch. ``OPENRLHF_RAD_DTYPE`` overrides it.
"""

from __future__ import annotations

import ctypes
import importlib.util
import json
import os
import platform
import re
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, get_args

from openrlhf_rad.errors import ConfigError, EnvironmentProblem
from openrlhf_rad.files import cache_root, write_atomically
from openrlhf_rad.words import version_of

NumberFormat = Literal["bfloat16", "float32"]
#: The setting that overrides the choice: ``auto``, ``bfloat16`` or ``float32``.
VARIABLE = "OPENRLHF_RAD_DTYPE"
#: Instructions that decide how fast models are.
INSTRUCTIONS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")
_CACHE = "processor.json"
_SECONDS = 0.3
_SLOW = 0.05  # seconds of one product: a larger one would tell no more


@dataclass(frozen=True)
class Processor:
    """A processor and what was measured on it.

    Attributes:
        name: as the processor gives it. instructions: of :data:`INSTRUCTIONS`, those that it has.
        cores: that this process may use. torch: the version measured with.
        bfloat16, float32: GFLOP/s of a matrix product on all cores.
    """

    name: str
    instructions: tuple[str, ...]
    cores: int
    torch: str
    bfloat16: float
    float32: float

    @property
    def number_format(self) -> NumberFormat:
        """The faster one; float32, which is exact, where there is no difference."""
        return "bfloat16" if self.bfloat16 > self.float32 else "float32"

    @property
    def speed(self) -> str:
        """The measurement in words."""
        return f"{self.bfloat16:,.0f} GFLOP/s in bfloat16, {self.float32:,.0f} in float32"


def number_format() -> NumberFormat:
    """The format in which models compute on this machine's CPU.

    Raises:
        ConfigError: the setting names a format that there is none of.
        EnvironmentProblem: torch is not installed, or cannot compute.
    """
    chosen = setting()
    return measurement().number_format if chosen is None else chosen


def setting_text() -> str:
    """The setting as it is written."""
    return os.environ.get(VARIABLE, "") or "auto"


def setting() -> NumberFormat | None:
    """What the user, or the process that started this one, has settled; None where the processor decides."""
    text = setting_text()
    if text == "auto":
        return None
    for known in get_args(NumberFormat):
        if text == known:
            return known  # type: ignore[no-any-return]
    raise ConfigError(
        f"{VARIABLE} is {text}; models on a CPU compute in bfloat16 or float32; set one of the two, or auto"
        " for the one that this processor is faster in"
    )


def torch_dtype() -> Any:
    """:func:`number_format` as torch names it."""
    import torch  # noqa: PLC0415 - whoever only asks for the name need not pay for it

    return getattr(torch, number_format())


@lru_cache(maxsize=1)
def measurement() -> Processor:
    """This processor's speed, from the cache or measured now in a process of its own.

    Raises:
        EnvironmentProblem: torch is not installed, or cannot compute.
    """
    file = cache_root() / _CACHE
    try:
        kept = json.loads(file.read_text(encoding="utf-8"))
        known = Processor(**{**kept, "instructions": tuple(kept["instructions"])})
    except (OSError, ValueError, TypeError, KeyError):
        known = None
    if known and (known.name, known.instructions, known.cores, known.torch) == _identity():
        return known
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", __name__], capture_output=True, text=True, check=False
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise EnvironmentProblem(f"the speed of this processor could not be measured by torch: {last}")
    known = Processor(*_identity(), **json.loads(done.stdout.splitlines()[-1]))
    write_atomically(file, json.dumps(asdict(known), indent=1) + "\n")
    return known


def has_gpu() -> bool:
    """Whether models run on a GPU: the driver shows one to this process, and torch is built for it.

    The one answer, for a dry run as for a run; it imports no torch. ``OPENRLHF_RAD_BACKEND`` (cpu or gpu)
    decides otherwise.
    """
    choice = os.environ.get("OPENRLHF_RAD_BACKEND", "")
    if choice in {"cpu", "gpu"}:
        return choice == "gpu"
    return (nvidia_gpus() > 0 or Path("/dev/kfd").exists()) and _torch_is_for_gpus()


def nvidia_gpus() -> int:
    """How many GPUs NVIDIA's driver shows to this process, after CUDA_VISIBLE_DEVICES."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return 0
    count = ctypes.c_int()
    failed = driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count))
    return 0 if failed else count.value


def _torch_is_for_gpus() -> bool:
    """By the file in which torch's build says so; a machine without torch may get one that is."""
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        return True
    built = Path(spec.origin).with_name("version.py").read_text(encoding="utf-8")
    return re.search(r"^(?:cuda|hip)\b[^=\n]*= *['\"]", built, re.MULTILINE) is not None


def instructions() -> set[str]:
    """All that this processor says it can do, as Linux names it; empty elsewhere."""
    return set(_told("flags").split())


def _told(key: str) -> str:
    """What Linux says of the first core under ``key``; empty where it says nothing, and on other systems."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(key)), "")


def model_name() -> str:
    """What this processor is called."""
    return _told("model name") or platform.processor() or platform.machine()


def _identity() -> tuple[str, tuple[str, ...], int, str]:
    torch = version_of("torch")
    if torch is None:
        raise EnvironmentProblem("torch is not installed; run make install")
    has = instructions()
    return model_name(), tuple(one for one in INSTRUCTIONS if one in has), len(os.sched_getaffinity(0)), torch


def measure() -> dict[str, float]:
    """GFLOP/s of a linear layer of SmolLM2-135M's size on all cores, by format: the best of several batches.

    Measured on one core by its processor time, so that what else the machine does changes little.
    """
    import torch  # noqa: PLC0415 - only the process that measures pays for it

    torch.set_num_threads(1)
    speed = {}
    for name in get_args(NumberFormat):
        best = 0.0
        for rows in (16, 128, 1024):
            layer, batch = (torch.randn(size, 576, dtype=getattr(torch, name)) for size in (1536, rows))
            ended = time.thread_time() + _SECONDS
            now, took = 0.0, 1.0
            while now < ended:
                began = time.thread_time()
                torch.nn.functional.linear(batch, layer)
                now = time.thread_time()
                took = min(took, now - began)
            best = max(best, 2e-9 * rows * 576 * 1536 / took)
            if took > _SLOW:
                break
        speed[name] = best * len(os.sched_getaffinity(0))
    return speed


if __name__ == "__main__":
    print(json.dumps(measure()))
