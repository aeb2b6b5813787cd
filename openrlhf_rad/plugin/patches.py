"""All changes to modules of other people, each with its reason, made by one function; no file is edited.

A change is made right after its module is imported, or at once where it is imported already. What only a
machine without a GPU needs is in :data:`openrlhf_rad.plugin.cpu.backend.TOUCH_POINTS`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

import wrapt

if TYPE_CHECKING:
    from openrlhf_rad.plugin.arguments import RadOptions
    from openrlhf_rad.plugin.vigil import Vigil


@dataclass(frozen=True)
class Patch:
    """One change.

    Attributes:
        target: ``module:name``; the name may have dots.
        replacement: what is there → what takes its place.
        reason: why it must.
        copies: whether modules that have imported the name get the replacement too.
    """

    target: str
    replacement: Callable[[Any], Any]
    reason: str
    copies: bool = False


def apply(patches: Iterable[Patch]) -> None:
    """Make the changes in this process, now or as soon as their modules are imported."""
    for patch in patches:
        wrapt.register_post_import_hook(partial(_put, patch), patch.target.partition(":")[0])


@contextmanager
def temporarily(patch: Patch) -> Iterator[None]:
    """Make one change, and take it back."""
    owner, name, held = _found(patch, import_module(patch.target.partition(":")[0]))
    setattr(owner, name, patch.replacement(held))
    try:
        yield
    finally:
        setattr(owner, name, held)


def _put(patch: Patch, module: ModuleType) -> None:
    owner, name, held = _found(patch, module)
    replacement = patch.replacement(held)
    setattr(owner, name, replacement)
    for other in list(sys.modules.values()) if patch.copies else ():
        if isinstance(other, ModuleType) and vars(other).get(name) is held:
            setattr(other, name, replacement)


def _found(patch: Patch, module: ModuleType) -> tuple[Any, str, Any]:
    """The owner of the target, its last name, and what is there: of a class the method as it is defined."""
    owner: Any = module
    *path, name = patch.target.partition(":")[2].split(".")
    for part in path:
        owner = getattr(owner, part)
    return owner, name, vars(owner).get(name) or getattr(owner, name)


def every_process(*, trust_remote_code: bool) -> list[Patch]:
    """For the driver and each worker of Ray."""
    from openrlhf_rad.plugin import workers  # noqa: PLC0415 - it asks for this list

    code = [
        Patch(
            "transformers.dynamic_module_utils:resolve_trust_remote_code",
            workers.never_trusting,
            "a class that comes as code is refused by name; where transformers has one of its own, that is"
            " taken, whatever OpenRLHF says",
            copies=True,
        ),
        Patch(
            "transformers.dynamic_module_utils:get_class_in_module",
            lambda _: workers.refusing_code,
            "all code of models passes here; nothing should come so far",
            copies=True,
        ),
        Patch(
            "vllm.engine.arg_utils:EngineArgs.__post_init__",
            workers.without_trust,
            "vLLM's own processes obey what these arguments say",
        ),
    ]
    return [
        Patch(
            "torch.utils.cpp_extension:FileBaton",
            lambda _: workers.KernelBaton,
            "a process that is killed while it compiles one of DeepSpeed's operators leaves torch's lock, a"
            " file, for which every later process on the machine waits for ever",
        ),
        *([] if trust_remote_code else code),
    ]


def driver(vigil: Vigil, settled: Callable[[Any], Any]) -> list[Patch]:
    """For the process that runs OpenRLHF's command.

    Args:
        settled: OpenRLHF's arguments → those that are to be trained with.
    """
    return [
        Patch(
            "openrlhf.utils.config:hierarchize",
            lambda hierarchize: lambda flat: settled(hierarchize(flat)),
            "the one function that OpenRLHF's command calls between parsing and training: its arguments are"
            " checked and adapted before anything starts",
        ),
        Patch(
            "ray:shutdown", vigil.released_before, "whoever tells Ray to end must not be taken for its death"
        ),
    ]


def hooks(options: RadOptions, vigil: Vigil) -> list[Patch]:
    """For the driver of a run under a risk profile: RAD's classes where OpenRLHF looks its own up."""
    # The whole stack.
    from openrlhf_rad.plugin import actor  # noqa: PLC0415
    from openrlhf_rad.plugin.attach import PlacedActorGroup, bound  # noqa: PLC0415
    from openrlhf_rad.plugin.costs.loading import RewardActor  # noqa: PLC0415
    from openrlhf_rad.plugin.resume import identity  # noqa: PLC0415
    from openrlhf_rad.plugin.rollout import FailClosedRollout  # noqa: PLC0415
    from openrlhf_rad.plugin.trainer import RadTrainer, RadTrainerAsync  # noqa: PLC0415

    profile = identity(options.profile)
    policy = actor.ReinforcePolicyActor if options.loss == "reinforce" else actor.PolicyActor
    PlacedActorGroup.vigil = vigil
    return [
        Patch(
            "openrlhf.trainer.ppo_trainer:PPOTrainer",
            bound(RadTrainer, options, here=True),
            "the one process that sees whole rollouts: reference costs before the first update, the"
            " constraint each rollout, metrics, λ in the checkpoint",
        ),
        Patch(
            "openrlhf.trainer.ppo_trainer_async:PPOTrainerAsync",
            bound(RadTrainerAsync, options, here=True),
            "makes the changes of its own process, where OpenRLHF makes its two loops",
        ),
        Patch(
            "openrlhf.trainer.ray.ppo_actor:PolicyModelActor",
            bound(policy, profile, num_gpus=1),
            "the loss; adapters merged on their way to vLLM; a seed a step; checkpoints sealed when whole",
        ),
        Patch(
            "openrlhf.trainer.ray.ppo_critic:CriticModelActor",
            bound(actor.CriticActor, profile, num_gpus=1),
            "a seed a step; sealed checkpoints",
        ),
        Patch(
            "openrlhf.trainer.ray.launcher:ReferenceModelActor",
            bound(actor.ReferenceActor, num_gpus=1),
            "tells its errors, as every actor of RAD's does",
        ),
        Patch(
            "openrlhf.trainer.ray.launcher:RewardModelActor",
            bound(RewardActor, num_gpus=1),
            "no weight of a rating model is ever random",
        ),
        Patch(
            "openrlhf.trainer.ray.launcher:RayActorGroup",
            lambda _: PlacedActorGroup,
            "remembers its placement group, so that a cost model can share GPUs",
        ),
        Patch(
            "openrlhf.trainer.ray.vllm_engine:RolloutRayActor",
            bound(FailClosedRollout, options.patience),
            "a reward that failed stops the run instead of being logged; patience with reward servers that"
            " ends; counts the weights that it is handed; its engine ends with it",
        ),
        Patch(
            "openrlhf.trainer.ray:create_vllm_engines",
            vigil.watching,
            "an engine that dies is seen although the policy waits for it in a collective operation",
        ),
    ]


def asynchronous(options: RadOptions, generate_kwargs: dict[str, Any]) -> list[Patch]:
    """For the controller of asynchronous training, which makes its two loops by the names of its module."""
    from openrlhf_rad.plugin.attach import bound  # noqa: PLC0415
    from openrlhf_rad.plugin.trainer import RadGenerator, RadTrainingActor  # noqa: PLC0415

    return [
        Patch(
            "openrlhf.trainer.ppo_trainer_async:GenerateSamplesActor",
            bound(RadGenerator, here=True),
            "loses no answer; sends its tokenizer to the engines once",
        ),
        Patch(
            "openrlhf.trainer.ppo_trainer_async:TrainingActor",
            bound(RadTrainingActor, options, generate_kwargs, here=True),
            "what RadTrainer is of synchronous training: both are RadTraining",
        ),
    ]


def rollout_worker() -> list[Patch]:
    """For each process that holds a vLLM engine."""
    from openrlhf_rad.plugin.rollout import Executor  # noqa: PLC0415

    return [
        Patch(
            "openrlhf.trainer.ray.vllm_engine:SingleTurnAgentExecutor",
            lambda _: Executor,
            "reward files load as cost files do",
        )
    ]
