"""Everything that can be refused before anything is started, found in one go."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from openrlhf_rad.errors import ConfigError, EnvironmentProblem
from openrlhf_rad.plugin import command_line, compatibility
from openrlhf_rad.plugin.costs.models import training_problems
from openrlhf_rad.plugin.costs.python_file import definition_problems
from openrlhf_rad.plugin.resume import check_profile
from openrlhf_rad.profile import CostSource, named_costs
from openrlhf_rad.profile.costs import members
from openrlhf_rad.runs.folder import SUMMARY, RunFolder
from openrlhf_rad.watches import unlabelled

from . import flags as flag
from . import machine, prompts
from .options import numbers
from .plan import BATCH, HELDOUT, MODEL, SAMPLES, Plan

Problems = Iterator[str]
#: Flags that name a reward; OpenRLHF asks for one of them.
_REWARDS = ("reward.remote_url", "reward.model_name_or_path", "train.agent_func_path")


def check(plan: Plan) -> None:
    """Refuse a plan that cannot run.

    Raises:
        ConfigError: input that is wrong, one problem a line; what the machine lacks stands below it.
        EnvironmentProblem: the input is right, and this machine cannot run it.
    """
    of_input, of_machine = input_problems(plan), machine.problems(plan)
    if of_input:
        raise ConfigError("\n".join([*of_input, *of_machine]))
    if of_machine:
        raise EnvironmentProblem("\n".join(of_machine))


def input_problems(plan: Plan) -> list[str]:
    """What is wrong with flags and files."""
    checks = (_arguments, _models, _prompts, _cost, _reward, _particles, _folder, _checkpoint)
    return machine.collect(plan, checks)


def _arguments(plan: Plan) -> Problems:
    """What RAD and OpenRLHF refuse of the arguments in the run, also what is asserted once Ray is up."""
    args = machine.read(plan)
    if args is None:
        return
    options, _ = compatibility.settle_loss(args, plan.options)
    refused = compatibility.problems(args, options)
    command = command_line.installed()
    assert command is not None  # it has read the arguments
    by_openrlhf, stumbles = command.settle(args)
    refused += by_openrlhf
    yield from refused or (() if _no_reward(plan) else stumbles)


def _models(plan: Plan) -> Problems:
    named = {f"--{name}": flag.value(plan.flags, name) for name in (MODEL, "reward.model_name_or_path")}
    named |= {
        f"{place}.{'model' if one is cost else f'ensemble, model {number}'}": one.location
        for place, cost in _costs(plan).items()
        for number, one in enumerate(members(cost), 1)
        if one.kind == "model"
    }
    if not named[f"--{MODEL}"]:
        yield f"--{MODEL} has no value; it must be a folder or the name of a model on a hub"
    for name, text in named.items():
        path = Path(text)
        if not text or text in plan.assets:
            continue
        if not path.exists() and (text.startswith((".", "/", "~")) or text.count("/") > 1):
            yield f"{name} is {text}; there is no such folder; check it, or name one of a hub as org/name"
        elif path.is_dir() and not (path / "config.json").is_file():
            yield f"{name} is {text}; the folder holds no config.json; name that of a Hugging Face model"
    # A bare flag has no value, and says yes.
    yield from training_problems(
        lambda name: name in plan.flags and (flag.value(plan.flags, name) or True), plan.profile
    )


def notes(plan: Plan) -> list[str]:
    """What is allowed and worth knowing, of this machine, the flags and the prompts."""
    return [*machine.notes(plan), *_unlabelled(plan)]


def _unlabelled(plan: Plan) -> Problems:
    """That the watch ``inverted`` will be off, where the prompts can be read here; the run reads all."""
    watches = plan.profile.watches
    key = flag.value(plan.flags, "data.label_key")
    keys = {"label": key} if key else {}
    files = [prompts.inspect(path, keys) for _, path in prompts.files(plan, "data.prompt_dataset")]
    if not files or any(one.problem or one.count is None for one in files):
        return
    if told := unlabelled(watches, frozenset().union(*(one.labels for one in files))):
        yield told


def _prompts(plan: Plan) -> Problems:
    named = flag.value(plan.flags, "data.prompt_dataset")
    if not named:
        yield "--data.prompt_dataset is missing; a run needs prompts; name a .jsonl file"
    shares, count = flag.value(plan.flags, "data.prompt_probs"), len(named.split(","))
    if shares and min(numbers(shares, count), default=-1.0) < 0:
        yield (
            f"--data.prompt_probs is {shares}; it must be a number for each of the {count}"
            " data sets of --data.prompt_dataset, separated by commas; correct it, or leave it out"
        )
    keys = {"input": flag.value(plan.flags, "data.input_key", "input")}
    if label := flag.value(plan.flags, "data.label_key"):
        keys["label"] = label
    chat = "data.apply_chat_template" in plan.flags
    for name in ("data.prompt_dataset", HELDOUT, "eval.dataset"):
        for shown, path in prompts.files(plan, name):
            if problem := prompts.inspect(path, keys, messages=chat).problem:
                yield f"--{name} {shown}{problem.removeprefix(shown)}"


def _cost(plan: Plan) -> Problems:
    if None in named_costs(plan.profile).values():
        yield (
            f"the profile {plan.profile.name} names no cost; every run measures its answers by one; add"
            " --set cost.function=FILE.py, --set cost.model=FOLDER or --set cost.remote_url=http://…"
            " (--rad.set of python -m openrlhf_rad)"
        )
    for place, cost in _costs(plan).items():
        for one in members(cost):
            if one.kind == "function":
                yield from definition_problems(f"{place}.function", one.location, "cost_func")


def _costs(plan: Plan) -> dict[str, CostSource]:
    """The sources of costs by their place in the profile."""
    return {
        "cost" if cost == plan.profile.cost else f"constraints.{name}.cost": cost
        for name, cost in named_costs(plan.profile).items()
        if cost
    }


def _no_reward(plan: Plan) -> bool:
    return not any(flag.value(plan.flags, name) for name in _REWARDS)


def _reward(plan: Plan) -> Problems:
    if _no_reward(plan):
        yield (
            "no reward is named; OpenRLHF needs one; add --reward.remote_url FILE.py, an http:// address, or"
            " --reward.model_name_or_path MODEL"
        )
    path = flag.value(plan.flags, "reward.remote_url")
    if path.endswith(".py"):
        yield from definition_problems("--reward.remote_url", path, "reward_func")
    path = flag.value(plan.flags, "train.agent_func_path")
    if path:
        yield from definition_problems("--train.agent_func_path", path, "AgentExecutor", "")


def _particles(plan: Plan) -> Problems:
    batch, each = flag.whole(plan.flags, *BATCH), flag.whole(plan.flags, *SAMPLES)
    particles = plan.profile.transport.particles
    if particles is not None and particles > plan.samples:
        yield (
            f"transport.particles is {particles}; a rollout has {plan.samples} samples (--{BATCH[0]} {batch},"
            f" --{SAMPLES[0]} {each}) and each particle needs one; write --set transport.particles=auto, or"
            f" raise --{BATCH[0]} to {-(-particles // max(1, each))}"
        )


def _folder(plan: Plan) -> Problems:
    run, resumes = RunFolder(plan.out), "ckpt.load_enable" in plan.flags
    if problem := run.problem():
        yield f"--out is {problem}"
        return
    if (plan.out / SUMMARY).exists():
        yield f"--out is {plan.out}; the run there has come to its end; name a new one"
    elif run.read_metrics() and not resumes:
        fix = "name a new one, or resume that run by -- --ckpt.load_enable"
        yield f"--out is {plan.out}; it holds a run; {fix}"
    parent = machine.existing(plan.out)
    if not os.access(parent, os.W_OK | os.X_OK):
        yield f"--out is {plan.out}; {parent} may not be written to; choose a folder that you may write to"


def _checkpoint(plan: Plan) -> None:
    if plan.checkpoint is not None and "rad.accept_profile_change" not in plan.flags:
        check_profile(plan.checkpoint, plan.profile)
