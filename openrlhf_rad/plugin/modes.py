"""What RAD asks of OpenRLHF's modes: asynchronous training, LoRA, and models that share their GPUs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from openrlhf_rad.plugin.arguments import RadOptions
from openrlhf_rad.profile import RiskProfile, cost_names

#: OpenRLHF gives each model on a shared GPU a fifth of it.
_MODELS_A_GPU = 5


def problems(args: Any, options: RadOptions) -> Iterator[str]:
    """Each flag, or pair of flags, that is refused: with the reason and the fix."""
    yield from _asynchronous(args)
    yield from _adapters(args)
    yield from _shared_gpus(args, options)


def _asynchronous(args: Any) -> Iterator[str]:
    if args.train.async_enable and args.algo.advantage.is_correction_level == "off":
        yield (
            "--train.async_enable trains on answers of earlier weights, which both losses would take for the"
            " policy's own; add --algo.advantage.is_correction_level token"
            " --algo.advantage.is_correction_mode clip"
        )


def _adapters(args: Any) -> Iterator[str]:
    rank = args.ds.lora.rank
    not_whole = {
        "--ds.zero_stage 3": (args.ds.zero_stage == 3, "use --ds.zero_stage 2"),
        "--ds.tensor_parallel_size": (args.ds.tensor_parallel_size > 1, "leave it out"),
        "--ds.load_in_4bit": (args.ds.load_in_4bit, "leave it out"),
    }
    for flag, (given, fix) in not_whole.items():
        if rank > 0 and given:
            yield (
                f"--ds.lora.rank {rank} with {flag}: on their way to vLLM adapters are merged into whole"
                f" weights of 16 bits, and those are not whole here; {fix}"
            )


def _shared_gpus(args: Any, options: RadOptions) -> Iterator[str]:
    """With ``colocate_all`` a cost model needs a share of the GPUs of the others."""
    if not args.train.colocate_all or not cost_models(options.profile):
        return
    if shared_models(args) >= _MODELS_A_GPU:
        yield (
            "--train.colocate_all with actor, reference, critic, reward model and engine leaves no room for"
            " cost.model on a GPU, of which OpenRLHF gives each a fifth; serve the cost by cost.remote_url or"
            " cost.function, or leave out --train.colocate_all"
        )
    held = args.actor.num_nodes * args.actor.num_gpus_per_node
    wanted = options.cost_nodes * options.cost_gpus_per_node
    if wanted > held:
        yield (
            f"--rad.cost_num_nodes times --rad.cost_num_gpus_per_node is {wanted}; with --train.colocate_all"
            f" the cost model shares the actor's GPUs, of which there are {held}; use at most {held}"
        )


def cost_models(profile: RiskProfile) -> int:
    """How many costs of the profile are models, each with a group of actors."""
    return sum(cost is not None and cost.kind == "model" for cost in cost_names(profile))


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
