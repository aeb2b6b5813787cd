"""The independent cost beside :mod:`openrlhf_rad.jobs.two_harms`: another rater, whom training never sees."""

from __future__ import annotations

from collections.abc import Sequence

from openrlhf_rad.jobs.chat import split_query
from openrlhf_rad.jobs.two_harms import answer_judged


def cost_func(queries: Sequence[str], prompts: Sequence[str], labels: Sequence[str]) -> list[float]:
    """Costs of answers, one float each; the labels are not used."""
    del labels
    return [answer_judged(split_query(q, p)[1]) for q, p in zip(queries, prompts, strict=True)]
