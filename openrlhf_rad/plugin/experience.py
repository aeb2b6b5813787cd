"""The advantage hook: costs of the whole batch → scores → advantages on r + λs (Eqs. (14), (38))."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import torch
from openrlhf.trainer.ppo_utils.experience_maker import RemoteExperienceMaker
from openrlhf.trainer.ppo_utils.length_penalty import apply_length_penalties

from openrlhf_rad.errors import RewardError
from openrlhf_rad.plugin.costs import CostSource
from openrlhf_rad.step import RadStep


class RadExperienceMaker(RemoteExperienceMaker):  # type: ignore[misc]
    """OpenRLHF's experience maker with a cost beside the reward.

    Attributes:
        cost_source: where costs come from.
        step: the constraint; None until the reference costs are known.
        seconds_cost: how long the last batch waited for its costs.
        last_metrics, last_experiences: of the last batch; costs in their own units.
    """

    cost_source: CostSource
    step: RadStep | None = None
    seconds_cost: float
    last_metrics: dict[str, float]
    last_experiences: list[Any]

    def make_experience(self, samples_list: list[Any]) -> list[Any]:
        """Forward all models, the cost source beside them; each experience gets ``info["cost"]`` (B,)."""
        started = time.perf_counter()
        handle = self.cost_source.begin(samples_list)
        begun = time.perf_counter()
        experiences: list[Any] = super().make_experience(samples_list)
        _check_rewards(experiences)
        forwarded = time.perf_counter()
        attach_costs(experiences, self.cost_source.finish(handle))
        self.seconds_cost = begun - started + time.perf_counter() - forwarded
        return experiences

    def compute_advantages_and_returns(self, experiences: list[Any]) -> list[Any]:
        """Add λ·s(c) to the rewards that advantages are made of; the logged reward and cost stay raw."""
        if self.step is None:
            raise RuntimeError("the reference costs are not known yet")
        started = time.perf_counter()
        cost_b = torch.cat([experience.info["cost"] for experience in experiences])
        result = self.step(cost_b.double().numpy())
        self.last_metrics = {
            **result.metrics,
            "seconds_rad": time.perf_counter() - started,
            "seconds_cost": self.seconds_cost,
        }
        self.last_experiences = experiences
        bonus_b = torch.as_tensor(result.dual_variable * result.score_b, dtype=torch.float32)
        return self._with_bonus(experiences, bonus_b)

    def _with_bonus(self, experiences: list[Any], bonus_b: torch.Tensor) -> list[Any]:
        """OpenRLHF's advantages on reward + bonus, with the logged reward as it was without the bonus."""
        # Length penalties act on the reward alone, so they come first, in OpenRLHF's precision; OpenRLHF also
        # copies the rewards that it finds then into what it logs.
        for experience in experiences:
            wide = torch.promote_types(experience.rewards.dtype, torch.float32)
            experience.rewards = experience.rewards.to(wide)
        apply_length_penalties(experiences, self.args)
        logged = [experience.info["reward"] for experience in experiences]
        sizes = [len(experience.rewards) for experience in experiences]
        for experience, bonus in zip(experiences, torch.split(bonus_b, sizes), strict=True):
            experience.rewards = experience.rewards + bonus
        buffer, self.args.reward.overlong_buffer_len = self.args.reward.overlong_buffer_len, None
        try:
            experiences = super().compute_advantages_and_returns(experiences)
        finally:
            self.args.reward.overlong_buffer_len = buffer
        for experience, reward in zip(experiences, logged, strict=True):
            experience.info["reward"] = reward
        return experiences


def attach_costs(experiences: Sequence[Any], costs: list[float]) -> None:
    """Put the costs, one a sample in order, into ``info["cost"]`` of each experience."""
    cost_b = torch.tensor(costs, dtype=torch.float32)
    sizes = [len(experience.sequences) for experience in experiences]
    for experience, cost in zip(experiences, torch.split(cost_b, sizes), strict=True):
        experience.info["cost"] = cost


def _check_rewards(experiences: Sequence[Any]) -> None:
    for experience in experiences:
        bad = ~torch.isfinite(experience.rewards.float())
        if bad.any():
            position = int(bad.nonzero()[0])
            raise RewardError(
                f"the reward is {experience.rewards[position].item()} for the prompt"
                f" {experience.prompts[position][:200]!r}; a reward must be a finite number"
            )
