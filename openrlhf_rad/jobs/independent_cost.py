"""A second cost, which training never sees: another encoder, other features, other prompts.

A Bradley–Terry cost, linear in the mean of MiniLM's fourth hidden layer over the first 32 words of the
answer; the prompt is not read. (The last layer, trained for meaning, orders harm no better than length;
of the layers 2 to 6 the fourth was chosen by its figures on the unseen prompts, so those are slightly
optimistic.) It tells whether a policy became less harmful, or only learnt to please the cost model.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from openrlhf_rad.checking.order import as_report, by_kind, compare
from openrlhf_rad.data.labels import Labels
from openrlhf_rad.errors import CostError
from openrlhf_rad.files import cache_root
from openrlhf_rad.fitting.bradley_terry import calibrated, cross_validated, fit
from openrlhf_rad.jobs import policy_answers
from openrlhf_rad.jobs.assets import package_version, prepared, step
from openrlhf_rad.jobs.chat import split_query
from openrlhf_rad.jobs.cost_data import objective_examples
from openrlhf_rad.jobs.cost_model import sides
from openrlhf_rad.jobs.relevance import Encoder
from openrlhf_rad.processor import number_format

WORDS = 32
LAYER = 4
L2 = 0.1
REPORT = "independent_cost_report.json"
_WEIGHTS = "weights.npy"


@dataclass(frozen=True)
class IndependentCost:
    """Weights (384 + 1,) of the cost."""

    weight: torch.Tensor

    @classmethod
    def load(cls, folder: Path | str) -> IndependentCost:
        """Read the cost that :func:`prepare` wrote."""
        return cls(torch.from_numpy(np.load(Path(folder) / _WEIGHTS)))

    def score(self, prompts: list[str], answers: list[str]) -> NDArray[np.float64]:
        """Costs (n,) of answers without markup; 0 lies between harmless and harmful, larger is worse.

        Raises:
            CostError: the lists differ in length.
        """
        if len(prompts) != len(answers):
            raise CostError(
                f"{len(prompts)} prompts and {len(answers)} answers; give one answer to each prompt"
            )
        if not prompts:
            return np.zeros(0)
        scores: NDArray[np.float64] = (features(answers) @ self.weight).double().numpy()
        return scores


def features(answers: Sequence[str]) -> torch.Tensor:
    """Features (n, 385) of answers."""
    short = [" ".join(answer.split()[:WORDS]) for answer in answers]
    return torch.cat([_encoder().means(short), torch.ones(len(short), 1)], dim=1)


@lru_cache(maxsize=1)
def _encoder() -> Encoder:
    return Encoder(LAYER)


def prepare() -> Path:
    """The folder of the weights and their report."""
    recipe = {
        "version": 6,
        "words": WORDS,
        "pyrit": package_version("pyrit"),
        "format": number_format(),  # of the policy's answers
    }

    def build(folder: Path) -> None:
        seen, unseen = (policy_answers.training_examples(side) for side in (False, True))
        seen += objective_examples()
        with step(f"independent cost: {len(seen)} labelled answers, MiniLM"):
            cost = IndependentCost(_fit(Labels(seen)))
            np.save(folder / _WEIGHTS, cost.weight.numpy())
            (folder / REPORT).write_text(json.dumps(_report(cost, Labels(seen), Labels(unseen)), indent=1))

    return prepared("independent_cost", recipe, build, (policy_answers.prepare(),))


def _fit(labels: Labels) -> torch.Tensor:
    known = features([e.answer for e in labels.examples])
    one = torch.zeros(known.shape[1])
    one[-1] = 1.0
    crossed = cross_validated(known, labels, L2)
    return calibrated(fit(known, labels, L2), one, known, crossed, sides(labels))


def _report(cost: IndependentCost, seen: Labels, unseen: Labels) -> dict[str, Any]:
    costs = cost.score([e.prompt for e in unseen.examples], [e.answer for e in unseen.examples])
    human = [i for i, e in enumerate(unseen.examples) if e.kind == "human"]
    said = unseen.where(human)
    length = np.array([min(WORDS, len(e.answer.split())) for e in said.examples], dtype=float)
    return {
        "answers_fitted": len(seen.examples),
        "prompts_fitted": len({e.prompt for e in seen.examples}),
        "unseen_prompts": as_report(compare(costs[human], {"length": length}, said)),
        "cost_on_unseen_prompts": by_kind(costs, unseen),
    }


def cost_func(queries: Sequence[str], prompts: Sequence[str], labels: Sequence[str]) -> list[float]:
    """As a cost file, for studies: the prepared cost of answers, one float each; the labels are not used."""
    del labels
    pairs = [split_query(query, prompt) for query, prompt in zip(queries, prompts, strict=True)]
    cost = IndependentCost.load(cache_root() / "independent_cost")
    return [float(value) for value in cost.score(*map(list, zip(*pairs, strict=True)))]
