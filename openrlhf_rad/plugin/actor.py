"""The policy actor: the loss hook, and LoRA adapters merged on their way to the engines."""

from __future__ import annotations

from typing import Any

from openrlhf.trainer.ray import ppo_actor

from openrlhf_rad.plugin.lora import merged_at_sync
from openrlhf_rad.plugin.loss import ReinforceLoss
from openrlhf_rad.plugin.registry import plain_class


class MergingPolicyActor(plain_class(ppo_actor, "PolicyModelActor")):  # type: ignore[misc]
    """OpenRLHF's policy actor; adapters reach the engines merged into the weights that they adapt."""

    def broadcast_to_vllm(self) -> None:
        """Hand the weights to the engines."""
        with merged_at_sync(self.trainer):
            super().broadcast_to_vllm()


class ReinforcePolicyActor(MergingPolicyActor):
    """The policy actor, trained by :class:`~openrlhf_rad.plugin.loss.ReinforceLoss`."""

    def init_model_from_pretrained(self, *args: Any, **kwargs: Any) -> None:
        """Build the model and its trainer as OpenRLHF does, then replace the loss."""
        super().init_model_from_pretrained(*args, **kwargs)
        self.trainer.actor_loss_fn = ReinforceLoss(self.trainer.actor_loss_fn)
