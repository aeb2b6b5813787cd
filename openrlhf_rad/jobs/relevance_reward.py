"""Reward file of the default job, for ``--reward.remote_url``: relevance of the answer.

OpenRLHF calls :func:`reward_func` with one sample at a time, from several threads; the encoder is loaded
once.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import torch

from openrlhf_rad.jobs.chat import split_query
from openrlhf_rad.jobs.relevance import rewards

_one_thread = threading.local()


def reward_func(queries: Sequence[str], prompts: Sequence[str], labels: Sequence[str]) -> dict[str, Any]:
    """Rewards (batch,) in [−0.5, 0.7] of a batch of rollouts; the labels are not used.

    Args:
        queries: decoded prompt and answer, with special tokens.
        prompts: the prompts as they were sent.
        labels: ``harmful`` or ``benign``.
    """
    del labels
    if not getattr(_one_thread, "set", False):
        torch.set_num_threads(1)  # the sampler and the trainer need the cores
        _one_thread.set = True
    turns = [split_query(query, prompt) for query, prompt in zip(queries, prompts, strict=True)]
    values = rewards([user for user, _ in turns], [answer for _, answer in turns])
    words = torch.tensor([float(len(answer.split())) for _, answer in turns])
    return {"rewards": values, "scores": values, "extra_logs": {"relevance": values, "answer_words": words}}
