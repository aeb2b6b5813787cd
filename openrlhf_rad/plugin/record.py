"""What of a rollout is recorded: the numbers of every answer, the texts of some, what the watches look at."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from openrlhf_rad.harm import harm_auc, known_harm
from openrlhf_rad.naming import cost_columns, cost_record, metric_columns
from openrlhf_rad.plugin.costs.texts import RatedText
from openrlhf_rad.profile import RiskProfile, named_costs
from openrlhf_rad.watches import answer_metrics

Array = NDArray[np.float64]
Row = dict[str, Any]

#: Of the texts that are kept one in so many is kept for its cost, the others by lot.
_WORST = 4


@dataclass(frozen=True)
class Answers:
    """Answers in order, as columns.

    Attributes:
        texts: with their prompts and labels.
        reward_b, costs: the reward of each, shape (B,), and its costs by source, in its own units.
        token_b: how many tokens it has.
    """

    texts: Sequence[RatedText]
    reward_b: Array
    costs: Mapping[str, Array]
    token_b: NDArray[np.int64]

    @classmethod
    def of(
        cls, experiences: Sequence[Any], texts: Sequence[Sequence[RatedText]], sources: Sequence[str]
    ) -> Answers:
        """The answers of OpenRLHF's experiences, whose texts are given, a list an experience."""

        def column(name: str) -> Array:
            values = torch.cat([experience.info[name] for experience in experiences])
            return np.asarray(values.double().numpy())

        return cls(
            [text for held in texts for text in held],
            column("reward"),
            {name: column(held) for name, held in cost_columns(sources).items()},
            torch.cat([experience.action_mask.sum(dim=1) for experience in experiences]).numpy(),
        )

    def row(self, place: int) -> Row:
        """An answer for a run's files.

        ``sent`` says that the prompt is as it was sent, ``finished`` whether the policy ended the answer:
        ``rad eval`` reads both, so that it rates what was rated here.
        """
        text, costs = self.texts[place], {name: float(cost_b[place]) for name, cost_b in self.costs.items()}
        return {
            "prompt": text.prompt,
            "answer": text.answer,
            "label": text.label,
            "reward": float(self.reward_b[place]),
            **cost_record(costs),
            "sent": True,
            "finished": text.finished,
        }

    def rows(self) -> list[Row]:
        """All answers."""
        return [self.row(place) for place in range(len(self.texts))]

    def sample(self, count: int | None, seed: int) -> list[Row]:
        """The answers whose texts are kept: so many by lot, and the most costly, which say so by ``worst``.

        Args:
            count: of both together; None keeps all.
        """
        size = len(self.texts)
        if count is None or size <= count:
            return self.rows()
        worst = count // _WORST
        drawn = np.random.default_rng(seed).choice(size, count - worst, replace=False)
        kept, taken = sorted(int(place) for place in drawn), {int(place) for place in drawn}
        rows = [self.row(place) for place in kept]
        orders = [np.argsort(-cost_b, kind="stable") for cost_b in self.costs.values()]
        for place in (int(order[rank]) for rank in range(size) for order in orders):
            if len(rows) == count:
                break
            if place not in taken:
                taken.add(place)
                rows.append({**self.row(place), "worst": True})
        return rows

    def columns(self) -> dict[str, Any]:
        """The numbers of every answer, for Parquet: prompt, label, finished, tokens, reward, costs.

        ``prompt`` is the beginning of the SHA-256 of the prompt as it was sent.
        """
        names = cost_columns(self.costs)
        known: dict[str, str] = {}
        for text in self.texts:
            if text.prompt not in known:
                known[text.prompt] = hashlib.sha256(text.prompt.encode(errors="replace")).hexdigest()[:16]
        return {
            "prompt": [known[text.prompt] for text in self.texts],
            "label": [text.label for text in self.texts],
            "finished": [text.finished for text in self.texts],
            "tokens": self.token_b,
            "reward": self.reward_b,
            **{names[name]: cost_b for name, cost_b in self.costs.items()},
        }


def batch_metrics(profile: RiskProfile, answers: Answers, experiences: Sequence[Any]) -> dict[str, float]:
    """Columns of ``metrics.jsonl`` from the answers of these experiences; what cannot be known is absent."""
    found = answer_metrics([text.digest for text in answers.texts])
    refused_b, labels = ([getattr(text, name) for text in answers.texts] for name in ("refused", "label"))
    harmful_b = known_harm(refused_b, labels, profile.watches.harmful_label)
    order: dict[str, dict[str, float]] = {one.name: {} for one in profile.constraints}
    for source in named_costs(profile):  # called after the first constraint that uses it
        auc = harm_auc(answers.costs[source], harmful_b)
        if auc is not None:
            order[source]["harm_auc"] = auc
    found |= metric_columns(order)
    entropy = token_entropy(experiences)
    return found if entropy is None else {**found, "entropy": entropy}


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
        total -= float(torch.where(mask, log_probs, 0).sum(dtype=torch.float64))
        count += int(mask.sum())
    return total / count if count else None
