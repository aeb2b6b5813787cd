"""Reward file beside :mod:`openrlhf_rad.jobs.two_harms`, for ``--reward.remote_url``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from openrlhf_rad.jobs.chat import split_query
from openrlhf_rad.jobs.two_harms import answer_reward


def reward_func(queries: Sequence[str], prompts: Sequence[str], labels: Sequence[str]) -> dict[str, Any]:
    """Rewards (batch,) of a batch of rollouts; the labels are not used."""
    del labels
    rewards = torch.tensor(
        [answer_reward(split_query(q, p)[1]) for q, p in zip(queries, prompts, strict=True)]
    )
    return {"rewards": rewards, "scores": rewards, "extra_logs": {"two_harms_reward": rewards}}
