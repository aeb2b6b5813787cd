"""OpenRLHF's own parser and its own checks, run from the installed source without importing the stack.

OpenRLHF keeps both under ``if __name__ == "__main__"`` of a module whose imports take half a minute. The
statements of that block are run here one by one: those before ``parse_args`` make the parser, those after
``hierarchize`` settle the arguments and check them. What ``train()`` asserts once Ray is up is asked too.
Beside it: what flags were called before 0.10.2, and values that the parser takes and the training stumbles
over, minutes later or never.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import difflib
import io
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

from openrlhf_rad.errors import ConfigError
from openrlhf_rad.plugin.contract import package_folder
from openrlhf_rad.words import version_of

MODULE = "openrlhf.cli.train_ppo_ray"
#: Estimators that have another name here.
_MEANT = {"grpo": "group_norm", "reinforce++": "reinforce_baseline", "ppo": "gae"}
_RULES: Mapping[Any, str] = {int: "a whole number", float: "a number"}


class _Wrong(Exception):
    """What argparse says of a flag."""


class _Parser(argparse.ArgumentParser):
    """OpenRLHF's parser: remembers its flags, and raises where argparse ends the process."""

    def __init__(self) -> None:
        super().__init__(MODULE, add_help=False)
        self.flags: dict[str, argparse.Action] = {}

    def add_argument(self, *names: Any, **kwargs: Any) -> argparse.Action:
        action = super().add_argument(*names, **kwargs)
        self.flags.update(dict.fromkeys((str(name).removeprefix("--") for name in names), action))
        return action

    def error(self, message: str) -> NoReturn:
        raise _Wrong(message)


class Command:
    """OpenRLHF's training command as far as it reads and checks its arguments.

    Attributes:
        flags: the name of each flag, without dashes, and what argparse knows of it.
        said: what OpenRLHF printed about the arguments settled last.

    Raises:
        ValueError: a source that is not built as that of the tested version.
    """

    def __init__(self, folder: Path) -> None:
        module = ast.parse((folder / "cli" / "train_ppo_ray.py").read_text(encoding="utf-8"))
        main = next(node.body for node in module.body if isinstance(node, ast.If))
        train = next(n for n in module.body if isinstance(n, ast.FunctionDef) and n.name == "train")
        parsed, hierarchized = (_place(main, text) for text in ("parser.parse_args()", "hierarchize(args)"))
        names: dict[str, Any] = {"argparse": SimpleNamespace(ArgumentParser=_Parser), "os": os}
        names["datetime"] = datetime
        _run(main[:parsed], names)
        self._parser: _Parser = names["parser"]
        self._settling = [node for node in main[hierarchized + 1 :] if not _beyond(node)]
        self._asserting = list(_assertions(train.body))
        self._hierarchize = {"__name__": "openrlhf.utils.config"}
        exec((folder / "utils" / "config.py").read_text(encoding="utf-8"), self._hierarchize)
        self.flags = self._parser.flags
        self.said: list[str] = []

    def read(self, words: Sequence[str]) -> Any:
        """The arguments as OpenRLHF's code has them, before it settles them. Raises ConfigError."""
        try:
            return self._hierarchize["hierarchize"](self._parser.parse_args(list(words)))  # type: ignore[operator]
        except _Wrong as error:
            raise ConfigError(f"{error}; see python -m {MODULE} --help") from None

    def settle(self, args: Any) -> tuple[list[str], list[str]]:
        """Settle arguments in place as OpenRLHF does: what it refuses, and where its code stumbles."""
        refused, stumbles, printed = [], [], io.StringIO()
        names = {"args": args, "os": os}
        for node in [*self._settling, *self._asserting]:
            try:
                with contextlib.redirect_stdout(printed):
                    _run([node], names)
            except AssertionError as error:
                refused.append(f"{error or ast.unparse(node)}; so OpenRLHF says")
            except Exception as error:
                stumbles.append(f"OpenRLHF cannot take these flags: {type(error).__name__}: {error}")
        self.said = printed.getvalue().splitlines()
        return refused, stumbles

    def problem(self, name: str, values: Sequence[str]) -> str | None:
        """What is wrong with one flag: its name, or its values."""
        action = self.flags.get(name)
        if action is None:
            return unknown(name, self.flags)
        try:
            self._parser.parse_args([f"--{name}", *values])
        except _Wrong as error:
            return _wrong(name, values, action, str(error))
        return None


@cache
def installed() -> Command | None:
    """The command of the OpenRLHF that is installed; None where there is none, or one of another build."""
    folder = package_folder("openrlhf")
    try:
        return None if folder is None else Command(folder)
    except (OSError, SyntaxError, StopIteration, KeyError, ValueError):
        return None


def unknown(name: str, flags: Mapping[str, Any]) -> str:
    """That there is no such flag, and which one may be meant."""
    close = difflib.get_close_matches(name, flags, 1, 0.6)
    hint = f"did you mean --{close[0]}?" if close else f"see python -m {MODULE} --help"
    number = version_of("openrlhf")
    return f"--{name} is not a flag of OpenRLHF{f' {number}' if number else ''}; {advice(name) or hint}"


def _wrong(name: str, values: Sequence[str], action: argparse.Action, message: str) -> str:
    """Value, rule and fix for what argparse refuses."""
    given = " ".join(values)
    if action.nargs == 0:
        return f"--{name} is {given}; it takes no value: written, it is on; leave the value out, or the flag"
    rule, count = _RULES.get(action.type, "a text"), action.nargs
    if action.choices:
        rule = f"one of {', '.join(map(str, action.choices))}"
        close = difflib.get_close_matches(given, list(map(str, action.choices)), 1, 0.5)
        hint = f"{given.upper()} is {_MEANT[given]}" if given in _MEANT else ""
        rule += f"; {hint}" if hint else f"; did you mean {close[0]}?" if close else ""
    elif isinstance(count, int):
        rule = f"{count} values, each {rule}"
    what = f"is {given}" if values else "has no value"
    default = "" if action.default is None or action.choices else f"; {_shown(action.default)} is the default"
    if not values or rule != "a text":
        return f"--{name} {what}; it must be {rule}{default}"
    return f"--{name} {what}; {message}; quote a text with spaces"


def _shown(default: Any) -> str:
    return " ".join(map(str, default)) if isinstance(default, list | tuple) else str(default)


def _place(body: Sequence[ast.stmt], text: str) -> int:
    return next(i for i, node in enumerate(body) if ast.unparse(node) == f"args = {text}")


def _beyond(node: ast.stmt) -> bool:
    """Whether a statement starts the training, or imports what only the training needs."""
    return any(
        isinstance(each, ast.Import | ast.ImportFrom)
        or (isinstance(each, ast.Call) and isinstance(each.func, ast.Name) and each.func.id == "train")
        for each in ast.walk(node)
    )


def _assertions(body: Sequence[ast.stmt]) -> Iterator[ast.stmt]:
    """The assertions of a function about ``args``, under the conditions that they stand under."""
    for node in body:
        if isinstance(node, ast.Assert) and _of_arguments(node):
            yield node
        elif isinstance(node, ast.If) and (held := list(_assertions(node.body))) and _of_arguments(node.test):
            yield ast.copy_location(ast.If(node.test, held, []), node)


def _of_arguments(node: ast.AST) -> bool:
    return all(each.id == "args" for each in ast.walk(node) if isinstance(each, ast.Name))


def _run(body: Sequence[ast.stmt], names: dict[str, Any]) -> None:
    module = ast.fix_missing_locations(ast.Module(list(body), []))
    exec(compile(module, MODULE, "exec"), names)


#: Section of today's flags → "old" where only the section was added, "old=new" where the name changed too.
_MOVED = {
    "actor": "actor_num_nodes=num_nodes actor_num_gpus_per_node=num_gpus_per_node eps_clip eps_clip_low_high"
    " dual_clip pretrain=model_name_or_path policy_loss_type aux_loss_coef entropy_loss_coef=entropy_coef"
    " freeze_visual_encoder gradient_checkpointing=gradient_checkpointing_enable"
    " gradient_checkpointing_use_reentrant=gradient_checkpointing_reentrant actor_learning_rate=adam.lr"
    " adam_betas=adam.betas l2=adam.weight_decay lr_scheduler lr_warmup_ratio max_norm",
    "critic": "critic_num_nodes=num_nodes critic_num_gpus_per_node=num_gpus_per_node value_clip"
    " critic_pretrain=model_name_or_path freezing_actor_steps=freezing_steps save_value_network"
    " critic_learning_rate=adam.lr",
    "ref": "ref_num_nodes=num_nodes ref_num_gpus_per_node=num_gpus_per_node ref_reward_offload=offload",
    "reward": "reward_num_nodes=num_nodes reward_num_gpus_per_node=num_gpus_per_node"
    " reward_pretrain=model_name_or_path remote_rm_url=remote_url reward_clip_range=clip_range"
    " normalize_reward=normalize_enable overlong_buffer_len overlong_penalty_factor"
    " stop_properly_penalty_coef",
    "vllm": "vllm_num_engines=num_engines vllm_tensor_parallel_size=tensor_parallel_size"
    " vllm_sync_backend=sync_backend vllm_sync_with_ray=sync_with_ray enable_prefix_caching enforce_eager"
    " vllm_enable_sleep=enable_sleep vllm_gpu_memory_utilization=gpu_memory_utilization",
    "train": "colocate_actor_ref colocate_critic_reward colocate_all_models=colocate_all"
    " async_train=async_enable async_queue_size partial_rollout=partial_rollout_enable enable_ema ema_beta"
    " use_dynamic_batch=dynamic_batch_enable train_max_tokens_per_gpu=max_tokens_per_gpu num_episodes"
    " max_epochs micro_train_batch_size=micro_batch_size train_batch_size=batch_size seed"
    " full_determinism=full_determinism_enable agent_func_path",
    "rollout": "rollout_batch_size=batch_size micro_rollout_batch_size=micro_batch_size"
    " vllm_generate_batch_size max_new_tokens generate_max_len=max_new_tokens n_samples_per_prompt top_p"
    " temperature rollout_max_tokens_per_gpu=max_tokens_per_gpu",
    "data": "max_len max_samples prompt_data=prompt_dataset prompt_data_probs=prompt_probs prompt_split"
    " input_key label_key input_template apply_chat_template image_key max_images_per_prompt"
    " disable_fast_tokenizer dataloader_num_workers",
    "eval": "eval_steps=steps eval_dataset=dataset eval_split=split eval_temperature=temperature"
    " eval_n_samples_per_prompt=n_samples_per_prompt",
    "ckpt": "save_steps ckpt_path=path save_hf_ckpt=save_hf disable_ds_ckpt=disable_ds max_ckpt_num=max_num"
    " max_ckpt_mem=max_mem load_checkpoint=load_enable best_metric_key save_path=output_dir",
    "ds": "use_ds_universal_ckpt=use_universal_ckpt zero_stage deepcompile param_dtype zpg adam_offload"
    " attn_implementation use_liger_kernel grad_accum_dtype overlap_comm deepspeed_enable_sleep=enable_sleep"
    " ds_tensor_parallel_size=tensor_parallel_size packing_samples load_in_4bit lora_rank=lora.rank"
    " lora_alpha=lora.alpha target_modules=lora.target_modules lora_dropout=lora.dropout ring_attn_size"
    " ring_head_stride=ring_attn_head_stride value_head_prefix",
    "algo.advantage": "vllm_is_truncated_threshold=is_correction_threshold lambd gamma"
    " advantage_estimator=estimator no_advantage_std_norm=no_std_norm",
    "algo.kl": "init_kl_coef=init_coef kl_target=target kl_horizon=horizon kl_estimator=estimator"
    " use_kl_loss=use_loss",
    "algo": "dynamic_filtering=dynamic_filtering_enable"
    " dynamic_filtering_reward_range=dynamic_filtering_range",
    "logger": "logging_steps use_wandb=wandb.key wandb_org=wandb.org wandb_group=wandb.group"
    " wandb_project=wandb.project wandb_run_name=wandb.run_name use_tensorboard=tensorboard_dir",
}

_CORRECTION = (
    "write --algo.advantage.is_correction_level token --algo.advantage.is_correction_mode {}, level seq for"
    " what was seq-mask-tis"
)
#: Flags that are now several, or none.
_OTHERWISE = {
    "enable_vllm_is_correction": _CORRECTION.format("clip"),
    "algo.advantage.is_correction_enable": _CORRECTION.format("clip"),
    "vllm_is_correction_type": _CORRECTION.format("clip (tis) or mask (icepop)"),
    "algo.advantage.is_correction_type": _CORRECTION.format("clip (tis) or mask (icepop)"),
    "prompt_max_len": "write --data.max_len for prompt and answer together",
    "bf16": "write --ds.param_dtype bf16",
    "flash_attn": "leave it out; --ds.attn_implementation is flash_attention_2 by itself",
    "actor_init_on_gpu": "leave it out",
    "perf": "leave it out",
    "ptx_coef": "leave it out; there is no pretraining loss",
}


def advice(name: str) -> str | None:
    """What to write in place of an old flag, its name without dashes; None where it is none."""
    return ADVICE.get(name.replace("-", "_"))


ADVICE = {
    **{
        old: f"write --{section}.{new or old}"
        for section, words in _MOVED.items()
        for old, _, new in (word.partition("=") for word in words.split())
    },
    **_OTHERWISE,
}


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
#: Flags whose values are looked at here.
LOOKED_AT = frozenset((*_COUNTS, *_EVERY, *_RANGES))


def value_problems(args: Any) -> Iterator[str]:
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
