"""What a rollout shows beside its costs, for the watches: from texts, labels and log-probabilities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from openrlhf_rad.plugin.sampling import Row, costs_of
from openrlhf_rad.profile import RiskProfile, cost_names
from openrlhf_rad.watches import answer_metrics, harm_auc, known_harm


def batch_metrics(profile: RiskProfile, rows: Sequence[Row], experiences: Sequence[Any]) -> dict[str, float]:
    """Columns of ``metrics.jsonl``; those that cannot be known are absent.

    Args:
        rows: of :func:`~openrlhf_rad.plugin.sampling.rows`, for the same experiences.
    """
    answers = [row["answer"] for row in rows]
    found = answer_metrics(answers)
    sources = list(cost_names(profile).values())
    harmful_b = known_harm(answers, [row["label"] for row in rows], profile.watches.harmful_label)
    for place, source in enumerate(sources):
        auc = harm_auc([costs_of(row, sources)[source] for row in rows], harmful_b)
        if auc is not None:
            found |= _named("harm_auc", auc, source, first=place == 0, alone=len(profile.constraints) == 1)
    entropy = token_entropy(experiences)
    return found if entropy is None else {**found, "entropy": entropy}


def _named(name: str, value: float, source: str, *, first: bool, alone: bool) -> Mapping[str, float]:
    """A source's value under the name of the constraint that it is called after; the first's also plain."""
    return {**({name: value} if first else {}), **({} if alone else {f"{source}/{name}": value})}


def token_entropy(experiences: Sequence[Any]) -> float | None:
    """H ≈ −mean of log π(token) over the answers' tokens, nats a token, at the rollout's temperature.

    Each sampled token's −log π is an unbiased estimate of the entropy of its place, so that no logits are
    needed. None where the log-probabilities were not computed, or no answer has a token.
    """
    total, count = 0.0, 0
    for experience in experiences:
        log_probs = getattr(experience, "action_log_probs", None)
        if log_probs is None:  # filtered out: no model has seen it
            continue
        mask = experience.action_mask.bool()
        total -= float(log_probs.float()[mask].double().sum())
        count += int(mask.sum())
    return total / count if count else None
