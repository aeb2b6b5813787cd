"""Puts RAD's classes where OpenRLHF looks its own up; nothing of OpenRLHF is edited."""

from __future__ import annotations

from typing import Any, ClassVar

from openrlhf.trainer import ppo_trainer, ppo_trainer_async
from openrlhf.trainer import ray as trainer_ray
from openrlhf.trainer.ray import launcher, ppo_actor, ppo_critic, vllm_engine

from openrlhf_rad.plugin.actor import CriticActor, PolicyActor, ReferenceActor, ReinforcePolicyActor
from openrlhf_rad.plugin.arguments import RadOptions
from openrlhf_rad.plugin.attach import register
from openrlhf_rad.plugin.costs.loading import RewardActor
from openrlhf_rad.plugin.resume import identity
from openrlhf_rad.plugin.rollout import FailClosedRollout
from openrlhf_rad.plugin.trainer import RadTrainer, RadTrainerAsync
from openrlhf_rad.plugin.vigil import Vigil


class PlacedActorGroup(launcher.RayActorGroup):  # type: ignore[misc]
    """OpenRLHF's group of actors; remembers its placement group, so that a cost model can share it."""

    #: Where each group puts its actors; set in the driver alone.
    vigil: ClassVar[Vigil | None] = None

    def __init__(self, *args: Any, pg: Any = None, **kwargs: Any) -> None:
        self.placement_group = pg
        super().__init__(*args, pg=pg, **kwargs)
        if self.vigil is not None:
            self.vigil.remember(self._actor_handlers)


def attach(options: RadOptions, vigil: Vigil) -> None:
    """Register the hooks; call it in the driver before OpenRLHF's ``train()`` runs."""
    register(ppo_trainer, "PPOTrainer", RadTrainer, options, here=True)
    register(ppo_trainer_async, "PPOTrainerAsync", RadTrainerAsync, options, here=True)
    register(vllm_engine, "RolloutRayActor", FailClosedRollout, options.patience)
    vigil.attach(trainer_ray)
    profile = identity(options.profile)
    policy = ReinforcePolicyActor if options.loss == "reinforce" else PolicyActor
    register(ppo_actor, "PolicyModelActor", policy, profile, num_gpus=1)
    register(ppo_critic, "CriticModelActor", CriticActor, profile, num_gpus=1)
    register(launcher, "ReferenceModelActor", ReferenceActor, num_gpus=1)
    register(launcher, "RewardModelActor", RewardActor, num_gpus=1)
    PlacedActorGroup.vigil = vigil
    launcher.RayActorGroup = PlacedActorGroup
