"""What this machine must have for a run: the stack, a compiler, room on its disks."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import psutil

from openrlhf_rad.errors import RadError
from openrlhf_rad.files import cache_root
from openrlhf_rad.jobs.presets import PRESETS, Preset
from openrlhf_rad.plugin import compatibility
from openrlhf_rad.plugin.compatibility import check_versions, settle_loss
from openrlhf_rad.processor import VARIABLE, NumberFormat, Processor, has_gpu, measurement, number_format

from . import flags as flag
from .plan import HELDOUT, MODEL, Plan

Problems = Iterator[str]
#: What a run writes beside models: logs, plots, TensorBoard.
_RUN_BYTES = 300_000_000
#: The flags whose product is the number of answers that are learned from, with OpenRLHF's defaults.
_ANSWERS = {"train.num_episodes": 1, "data.max_samples": 10**8, "rollout.n_samples_per_prompt": 1}
#: What Ray, vLLM and the trainer take on a CPU beside weights.
_PROCESS_BYTES = 3_000_000_000


def problems(plan: Plan) -> list[str]:
    """What this machine lacks."""
    return collect(plan, (_versions, _gpu, _compiler, _disk, _memory))


def expectation(plan: Plan) -> list[str]:
    """In what models compute on a CPU and, of a preset, how long each part takes; before anything starts."""
    if has_gpu():
        return []
    processor, chosen = measurement(), number_format()
    lines = [f"models compute in {chosen} on {processor.name}, {processor.cores} cores: {processor.speed}"]
    if parts := expected(plan):
        told = ", ".join(f"{part} {duration(one)}" for part, one in parts.items())
        shorter = "" if plan.preset is PRESETS["tiny"] else "; --preset tiny is a minute's look"
        lines.append(f"about {duration(sum(parts.values()))} here, alone: {told}{shorter}")
    return lines


def expected(plan: Plan) -> dict[str, float]:
    """The expected seconds of each part of a run; none where nobody knows: on a GPU, without a preset."""
    if plan.preset is None or has_gpu():
        return {}
    missing = not all(Path(path).exists() for path in plan.assets)
    parts = seconds(plan.preset, number_format(), measurement(), with_assets=missing)
    for name, default in _ANSWERS.items():
        parts["training"] *= flag.whole(plan.flags, name, default) / int(plan.preset.flags.get(name, default))
    if HELDOUT not in plan.flags:
        parts.pop("held-out answers", None)
    return parts


def seconds(
    preset: Preset, chosen: NumberFormat, processor: Processor, *, with_assets: bool
) -> dict[str, float]:
    """The expected seconds of each part of a preset's job."""
    speed = getattr(processor, chosen)
    return {
        part: work.seconds + work.gflop / speed
        for part, work in preset.work.items()
        if with_assets or part != "assets"
    }


def duration(seconds: float) -> str:
    """Seconds in words that promise no more than is known."""
    return f"{round(seconds / 5) * 5 or 5} s" if seconds < 100 else f"{seconds / 60:.0f} min"


def collect(plan: Plan, checks: Iterable[Callable[[Plan], Iterable[str] | None]]) -> list[str]:
    problems: list[str] = []
    for one in checks:
        try:
            problems += one(plan) or ()
        except RadError as error:
            problems += str(error).splitlines()
        except OSError as error:
            problems.append(f"{error.filename}: it cannot be read ({error.strerror}); check path and rights")
    return list(dict.fromkeys(problems))


def notes(plan: Plan) -> list[str]:
    """What is allowed and worth knowing."""
    lines = list(plan.profile.warnings)
    args = read(plan)
    _, told = settle_loss(args, plan.options)
    lines += [told] if told else []
    if args is not None and args.algo.dynamic_filtering_enable:
        lines.append(
            "--algo.dynamic_filtering_enable: the constraint and λ see the costs of all prompts sampled; the"
            " gradient is that of the prompts kept, see docs/modes.md"
        )
    if os.environ.get("RAY_ADDRESS") and not has_gpu():
        lines.append(
            f"RAY_ADDRESS is {os.environ['RAY_ADDRESS']}: the run joins that Ray, which must offer a virtual"
            " GPU for each model and vLLM engine; unset RAY_ADDRESS to let the run start its own"
        )
    return lines


def read(plan: Plan) -> Any:
    """OpenRLHF's arguments, before it settles them; None where it is not installed. Raises ConfigError."""
    return compatibility.read(plan.words, on_cpu=not has_gpu())


def _gpu(plan: Plan) -> None:
    args = read(plan)
    if args is not None and not has_gpu():
        from openrlhf_rad.plugin.cpu.backend import refuse_gpu_flags

        refuse_gpu_flags(args)


def _versions(plan: Plan) -> None:
    check_versions("rad.any_version" in plan.flags)


def _compiler(plan: Plan) -> Problems:
    if shutil.which("g++") is None and "ds.adam_offload" in plan.flags and has_gpu():
        yield "g++ is not on the PATH; DeepSpeed compiles its CPU Adam (--ds.adam_offload); apt install g++"


def _disk(plan: Plan) -> Problems:
    model = _model_bytes(plan)
    # bf16 weights take 2 bytes a parameter; their checkpoint, with Adam's states in fp32, 14.
    saved = flag.whole(plan.flags, "ckpt.max_num", 3) if "ckpt.save_steps" in plan.flags else 0
    wanted = {existing(plan.out): ("the run", (2 + 7 * saved) * model + _RUN_BYTES)}
    if plan.preset and not all(Path(path).exists() for path in plan.assets):
        cache = cache_root()
        what, needed = wanted.get(cache, ("", 0))
        wanted[cache] = (what or "the preset's assets", needed + plan.preset.cache_bytes)
    for folder, (what, needed) in wanted.items():
        free = shutil.disk_usage(folder).free
        if free < needed:
            yield (
                f"{folder}: {free / 1e6:,.0f} MB are free and {what} may take {needed / 1e6:,.0f} MB; free"
                " some space, or choose another disk by --out (the run) and OPENRLHF_RAD_CACHE (the assets)"
            )


def _memory(plan: Plan) -> Problems:
    model = _model_bytes(plan)
    if has_gpu() or not model:
        return
    chosen = number_format()
    # Of each parameter the policy holds weight, gradient, Adam's copy and its two moments; reference, engine
    # and cost model hold the weight.
    each = {"float32": 4 * 5 + 3 * 4, "bfloat16": 2 * 2 + 4 * 3 + 3 * 2}[chosen]
    needed, free = _PROCESS_BYTES + each * model / 2, psutil.virtual_memory().available
    if free < needed:
        smaller = (
            "" if chosen == "bfloat16" else ", or set " + VARIABLE + "=bfloat16 (less memory, slower here)"
        )
        yield (
            f"{free / 1e9:,.1f} GB of memory are free and this run in {chosen} may take"
            f" {needed / 1e9:,.1f} GB: {each} bytes for each of the policy's {model / 2e6:,.0f} million"
            f" parameters and {_PROCESS_BYTES / 1e9:.0f} GB for the processes; end other programs, take a"
            f" smaller model{smaller}"
        )


def _model_bytes(plan: Plan) -> int:
    """Size of the policy's checkpoint; 0 for one of a hub, whose size is not known."""
    model = flag.value(plan.flags, MODEL)
    if model in plan.assets and not Path(model).exists():
        return plan.preset.model_bytes if plan.preset else 0
    files = Path(model).rglob("*") if model and Path(model).is_dir() else ()
    return sum(file.stat().st_size for file in files if file.suffix in {".safetensors", ".bin"})


def existing(path: Path) -> Path:
    """The path, or the nearest folder above it that exists."""
    return next(folder for folder in (path, *path.parents) if folder.exists())
