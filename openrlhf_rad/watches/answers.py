"""What a batch of answers shows beside its costs: how many are empty or alike."""

from __future__ import annotations

from collections.abc import Sequence


def answer_metrics(answers: Sequence[str]) -> dict[str, float]:
    """``empty_share`` and ``distinct_share`` of one batch for :mod:`openrlhf_rad.watches`.

    Args:
        answers: the texts, without special tokens.

    Raises:
        ValueError: no answers.
    """
    if not answers:
        raise ValueError("there are 0 answers; a batch has at least one")
    texts = [answer.strip() for answer in answers]
    return {
        "empty_share": sum(not text for text in texts) / len(texts),
        "distinct_share": len(set(texts)) / len(texts),
    }
