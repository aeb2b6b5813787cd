"""The policy actor with the loss hook."""

from __future__ import annotations

from typing import Any

from openrlhf.trainer.ray import ppo_actor

from openrlhf_rad.plugin.loss import ReinforceLoss
from openrlhf_rad.plugin.registry import plain_class


class ReinforcePolicyActor(plain_class(ppo_actor, "PolicyModelActor")):  # type: ignore[misc]
    """OpenRLHF's policy actor, trained by :class:`~openrlhf_rad.plugin.loss.ReinforceLoss`."""

    def init_model_from_pretrained(self, *args: Any, **kwargs: Any) -> None:
        """Build the model and its trainer as OpenRLHF does, then replace the loss."""
        super().init_model_from_pretrained(*args, **kwargs)
        self.trainer.actor_loss_fn = ReinforceLoss(self.trainer.actor_loss_fn)
