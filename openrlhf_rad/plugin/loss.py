"""The loss hook: REINFORCE on reward + λ · score (the paper, Eqs. 14 and 37)."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


class ReinforceLoss(nn.Module):
    """−Â · ∇log π, by OpenRLHF's own policy loss at ratio 1.

    The importance ratio is taken against the policy itself, π_θ / stop-gradient(π_θ), so its value is 1, no
    clipping acts, and its gradient is ∇log π_θ. Masks, aggregation over data-parallel ranks and the
    correction for the rollout engine stay OpenRLHF's. Right for one update a rollout, which
    :mod:`openrlhf_rad.plugin.compatibility` checks.

    Args:
        policy_loss: OpenRLHF's ``PolicyLoss`` as configured by the command line.
    """

    def __init__(self, policy_loss: nn.Module) -> None:
        super().__init__()
        self.policy_loss = policy_loss

    def forward(self, log_probs: torch.Tensor, old_log_probs: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        """The signature of ``PolicyLoss.forward``; the third result is KL(old ‖ new) as OpenRLHF logs it."""
        loss, clip_ratio, _, vllm_kl, filtered = self.policy_loss(
            log_probs, log_probs.detach(), *args, **kwargs
        )
        mask = kwargs["action_mask"]
        drift = ((old_log_probs - log_probs.detach()) * mask).sum() / mask.sum().clamp(min=1)
        return loss, clip_ratio, drift, vllm_kl, filtered
