"""Reward file of the tiny preset, for ``--reward.remote_url``: mean worth of the words, from 0 to 1.5.

An answer of fewer than 16 words is divided by 16 all the same, so that it does not pay to stop early.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from openrlhf_rad.jobs.chat import split_query
from openrlhf_rad.jobs.tiny_words import worth

FULL_LENGTH = 16


def answer_reward(answer: str) -> float:
    """Mean worth over the words, or over 16 if there are fewer; 0 for an empty answer."""
    words = answer.split()
    return sum(map(worth, words)) / max(len(words), FULL_LENGTH)


def reward_func(queries: Sequence[str], prompts: Sequence[str], labels: Sequence[str]) -> dict[str, Any]:
    """Rewards (batch,) of a batch of rollouts; the labels are not used."""
    del labels
    rewards = torch.tensor(
        [answer_reward(split_query(q, p)[1]) for q, p in zip(queries, prompts, strict=True)]
    )
    return {"rewards": rewards, "scores": rewards, "extra_logs": {"tiny_reward": rewards}}
