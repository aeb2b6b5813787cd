"""Values of OpenRLHF's flags that its parser takes and its training stumbles over, minutes later or never."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

#: Flags that count something; those of a model for each of the four.
_MODELS = ("actor", "ref", "critic", "reward")
_COUNTS = (
    *(f"{model}.{what}" for model in _MODELS for what in ("num_nodes", "num_gpus_per_node")),
    "vllm.tensor_parallel_size",
    "rollout.batch_size",
    "rollout.n_samples_per_prompt",
    "rollout.micro_batch_size",
    "rollout.max_new_tokens",
    "rollout.max_tokens_per_gpu",
    "rollout.vllm_generate_batch_size",
    "train.batch_size",
    "train.micro_batch_size",
    "train.max_epochs",
    "train.num_episodes",
    "train.max_tokens_per_gpu",
    "train.async_queue_size",
    "eval.n_samples_per_prompt",
    "data.max_len",
    "data.max_samples",
    "ds.ring_attn_size",
    "ds.tensor_parallel_size",
    "logger.logging_steps",
    "ckpt.max_num",
    "algo.kl.horizon",
)
#: Steps between two of something; -1 is never.
_EVERY = ("ckpt.save_steps", "eval.steps")
#: Flag → least value, whether that itself will do, greatest value.
_RANGES = {
    "actor.adam.lr": (0, False, math.inf),
    "actor.muon.lr": (0, False, math.inf),
    "actor.eps_clip": (0, False, math.inf),
    "actor.dual_clip": (1, False, math.inf),
    "actor.max_norm": (0, True, math.inf),
    "critic.adam.lr": (0, False, math.inf),
    "critic.muon.lr": (0, False, math.inf),
    "critic.value_clip": (0, False, math.inf),
    "rollout.temperature": (0, False, math.inf),
    "rollout.top_p": (0, False, 1),
    "eval.temperature": (0, True, math.inf),
    "vllm.gpu_memory_utilization": (0, False, 1),
    "algo.kl.init_coef": (0, True, math.inf),
    "algo.kl.target": (0, False, math.inf),
    "ds.lora.rank": (0, True, math.inf),
}


def problems(args: Any) -> Iterator[str]:
    """Each value that cannot serve, with its rule and its fix; ``args`` as OpenRLHF's parser gives them."""
    yield from _single(args)
    yield from _batches(args)
    yield from _correction(args)
    low, high = args.reward.clip_range
    if not low < high:
        yield (
            f"--reward.clip_range is {low:g} {high:g}; the first must be below the second; leave it out,"
            " or write for instance --reward.clip_range -1000 1000"
        )
    tokens, room = args.rollout.max_new_tokens, args.data.max_len
    if tokens is not None and tokens >= room:
        yield (
            f"--rollout.max_new_tokens is {tokens} and --data.max_len, of prompt and answer together, {room},"
            " so that no prompt has room; raise --data.max_len"
        )


def _single(args: Any) -> Iterator[str]:
    for name in _COUNTS:
        value = _of(args, name)
        if value is not None and value < 1:
            yield f"--{name} is {value}; it must be a whole number of at least 1; write 1 or more"
    for name in _EVERY:
        value = _of(args, name)
        if value == 0 or value < -1:
            yield f"--{name} is {value}; it must be at least 1, or -1 for never; leave it out for never"
    for name, (least, itself, most) in _RANGES.items():
        value = _of(args, name)
        if value is None or (least <= value <= most and math.isfinite(value) and (itself or value > least)):
            continue
        rule = f"{'at least' if itself else 'above'} {least}" + (
            f", at most {most}" if most < math.inf else ""
        )
        yield f"--{name} is {value:g}; it must be a number {rule}; correct it, or leave it out"


def _batches(args: Any) -> Iterator[str]:
    """DeepSpeed deals a batch out to its processes in micro-batches, and asserts that it comes out even."""
    if args.train.dynamic_batch_enable:
        return
    for model in ("actor", *(["critic"] if args.algo.advantage.estimator == "gae" else [])):
        held = getattr(args, model)
        each = max(1, args.ds.ring_attn_size) * max(1, args.ds.tensor_parallel_size)
        processes = max(1, held.num_nodes * held.num_gpus_per_node // each)
        share = processes * max(1, args.train.micro_batch_size)
        if args.train.batch_size % share:
            wanted = -(-args.train.batch_size // share) * share
            yield (
                f"--train.batch_size is {args.train.batch_size}; it must be a multiple of {share}:"
                f" {processes} processes of the {model} times --train.micro_batch_size"
                f" {args.train.micro_batch_size}; use --train.batch_size {wanted}, or fewer processes"
            )


def _correction(args: Any) -> Iterator[str]:
    """What OpenRLHF's loss refuses when it is made, on the actors."""
    correction = args.algo.advantage
    if correction.is_correction_level == "off":
        return
    single = correction.is_correction_level == "token" and correction.is_correction_gating == "ratio"
    if correction.is_correction_mode == "clip" and not single:
        yield (
            "--algo.advantage.is_correction_mode clip clamps the ratio of single tokens; it needs"
            " --algo.advantage.is_correction_level token and --algo.advantage.is_correction_gating ratio; or"
            " use --algo.advantage.is_correction_mode mask"
        )
    threshold = correction.is_correction_threshold
    if correction.is_correction_gating != "ratio" and len(threshold) > 1 and threshold[0] > 0:
        yield (
            f"--algo.advantage.is_correction_gating {correction.is_correction_gating} is bounded from above"
            " alone; give --algo.advantage.is_correction_threshold one value, for instance 5e-3"
        )


def _of(args: Any, name: str) -> Any:
    """The value of a flag by its dotted name."""
    for part in name.split("."):
        args = getattr(args, part)
    return args
