"""Everything that can be refused before anything is started, found in one go."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from openrlhf_rad.errors import ConfigError, EnvironmentProblem
from openrlhf_rad.plugin.resume import check_profile
from openrlhf_rad.profile import CostSource, cost_names
from openrlhf_rad.runs.folder import SUMMARY

from . import flags as flag
from . import machine, prompts
from .plan import BATCH, HELDOUT, MODEL, SAMPLES, Plan

Problems = Iterator[str]


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
    return machine.collect(plan, (_models, _prompts, _cost, _reward, _particles, _folder, _checkpoint))


def _models(plan: Plan) -> Problems:
    named = {f"--{name}": flag.value(plan.flags, name) for name in (MODEL, "reward.model_name_or_path")}
    named |= {f"{place}.model": cost.location for place, cost in _costs(plan).items() if cost.kind == "model"}
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


def _prompts(plan: Plan) -> Problems:
    if not flag.value(plan.flags, "data.prompt_dataset"):
        yield "--data.prompt_dataset is missing; a run needs prompts; name a .jsonl file"
    keys = [flag.value(plan.flags, "data.input_key", "input")]
    keys += [key for key in [flag.value(plan.flags, "data.label_key")] if key]
    for name in ("data.prompt_dataset", HELDOUT):
        for shown, path in prompts.files(plan, name):
            if problem := prompts.inspect(path, keys).problem:
                yield f"--{name} {shown}{problem.removeprefix(shown)}"


def _cost(plan: Plan) -> Problems:
    for place, cost in _costs(plan).items():
        if cost.kind == "function" and not Path(cost.location).is_file():
            define = "it must define cost_func(queries, prompts, labels)"
            yield f"{place}.function is {cost.location}; there is no such file; {define}"


def _costs(plan: Plan) -> dict[str, CostSource]:
    """The sources of costs by their place in the profile."""
    named = cost_names(plan.profile)
    return {
        "cost" if cost == plan.profile.cost else f"constraints.{name}.cost": cost
        for cost, name in named.items()
        if cost
    }


def _reward(plan: Plan) -> Problems:
    sources = ("reward.remote_url", "reward.model_name_or_path", "train.agent_func_path")
    given = {name: flag.value(plan.flags, name) for name in sources if flag.value(plan.flags, name)}
    if not given:
        yield (
            "no reward is named; OpenRLHF needs one; add --reward.remote_url FILE.py, an http:// address, or"
            " --reward.model_name_or_path MODEL"
        )
    for name in ("reward.remote_url", "train.agent_func_path"):
        path = given.get(name, "")
        if path.endswith(".py") and not Path(path).is_file():
            yield f"--{name} is {path}; there is no such file; check the path"


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
    out = plan.out
    if out.exists() and not out.is_dir():
        yield f"--out is {out}; it is a file; a run needs a folder; name another"
        return
    resumes = "ckpt.load_enable" in plan.flags
    if (out / SUMMARY).exists():
        yield f"--out is {out}; the run there has come to its end; name a new one"
    elif out.is_dir() and not resumes and any(out.iterdir()):
        fix = "name a new one, or go on with that run by -- --ckpt.load_enable"
        yield f"--out is {out}; the folder is not empty; {fix}"
    parent = machine.existing(out)
    if not os.access(parent, os.W_OK | os.X_OK):
        yield f"--out is {out}; {parent} may not be written to; choose a folder that you may write to"


def _checkpoint(plan: Plan) -> Problems:
    if plan.checkpoint is not None and "rad.accept_profile_change" not in plan.flags:
        check_profile(plan.checkpoint, plan.profile)
    yield from ()
