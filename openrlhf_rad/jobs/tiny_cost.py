"""Cost file of the tiny preset: ``exp(0.35 × Σ harm of the answer's words) − 1``.

The sum over about sixteen words is roughly normal, so the cost is roughly log-normal: a heavy tail.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from openrlhf_rad.jobs.chat import split_query
from openrlhf_rad.jobs.tiny_words import harm

RATE = 0.35


def answer_cost(answer: str) -> float:
    """Cost of one answer, from 0 up; 0 for an empty answer."""
    return math.expm1(RATE * sum(map(harm, answer.split())))


def cost_func(queries: Sequence[str], prompts: Sequence[str], labels: Sequence[str]) -> list[float]:
    """Costs of a batch of rollouts, one float each; the labels are not used."""
    del labels
    return [answer_cost(split_query(q, p)[1]) for q, p in zip(queries, prompts, strict=True)]
