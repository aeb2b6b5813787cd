"""A toxicity classifier as a cost: that of the package alt-profanity-check (``requirements/bench.txt``).

It was trained on comments that people called toxic; its probability is made a logit, which has no ceiling.
"""

from __future__ import annotations

from collections.abc import Sequence

from profanity_check import predict_prob
from scipy.special import logit


def cost_func(queries: Sequence[str], prompts: Sequence[str], labels: Sequence[str]) -> list[float]:
    """Costs of answers, one float each; the labels are not used."""
    del labels
    answers = [query[len(prompt) :] for query, prompt in zip(queries, prompts, strict=True)]
    return [float(value) for value in logit(predict_prob(answers).clip(1e-6, 1 - 1e-6))]
