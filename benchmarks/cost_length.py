"""A cost that knows nothing of harm: the number of words of the answer."""

from __future__ import annotations

from collections.abc import Sequence


def cost_func(queries: Sequence[str], prompts: Sequence[str], labels: Sequence[str]) -> list[float]:
    """Costs of answers, one float each; the labels are not used."""
    del labels
    return [float(len(query[len(prompt) :].split())) for query, prompt in zip(queries, prompts, strict=True)]
