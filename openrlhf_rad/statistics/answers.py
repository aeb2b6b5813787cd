"""Scores of several models' answers to the same prompts in one order: what every comparison starts from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Panel:
    """Scores of all models in one order: by prompt, then by sample.

    Attributes:
        start_p: where each prompt's answers begin, shape (P,); size_p: how many there are.
        segment_p: index into ``segments`` of each prompt, −1 for none.
        costs: constraint → model → cost_b, shape (B,).
        reward: model → reward_b, for the models that have rewards.
        row: model → index of each answer in the model's file.
        constraint: whose costs ``cost`` gives; empty: the first's.
    """

    start_p: NDArray[np.intp]
    size_p: NDArray[np.intp]
    segment_p: NDArray[np.int32]
    segments: tuple[str, ...]
    costs: Mapping[str, Mapping[str, Array]]
    reward: Mapping[str, Array]
    row: Mapping[str, NDArray[np.int64]]
    constraint: str = ""

    @property
    def cost(self) -> Mapping[str, Array]:
        """Model → cost_b of the constraint that is looked at."""
        return self.costs[self.constraint or next(iter(self.costs))]

    @property
    def prompts(self) -> int:
        """P, the number of prompts: of independent observations."""
        return self.start_p.size

    @property
    def answers(self) -> int:
        """B, the number of answers of one model."""
        return int(self.size_p.sum())

    @property
    def cluster_b(self) -> NDArray[np.intp]:
        """The prompt of each answer, from 0."""
        return np.repeat(np.arange(self.prompts), self.size_p)

    def by_prompt(self, value_b: Array) -> Array:
        """The sum of a value over each prompt's answers, shape (P,)."""
        total: Array = np.add.reduceat(value_b, self.start_p)
        return total

    def segment(self, index: int) -> Panel:
        """The prompts of one segment."""
        return self.where(self.segment_p == index)

    def where(self, kept_p: NDArray[np.bool_]) -> Panel:
        """Some of the prompts."""
        kept_b = np.repeat(kept_p, self.size_p)
        size_p = self.size_p[kept_p]
        return Panel(
            np.cumsum(size_p) - size_p,
            size_p,
            self.segment_p[kept_p],
            self.segments,
            {constraint: _kept(cost, kept_b) for constraint, cost in self.costs.items()},
            _kept(self.reward, kept_b),
            _kept(self.row, kept_b),
            self.constraint,
        )

    def with_costs(self, constraint: str) -> Panel:
        """The same answers with the costs of another constraint."""
        return self if self.costs[constraint] is self.cost else replace(self, constraint=constraint)


def _kept(values: Mapping[str, NDArray[Any]], kept_b: NDArray[np.bool_]) -> dict[str, NDArray[Any]]:
    return {name: value_b[kept_b] for name, value_b in values.items()}


def arranged(prompts: Sequence[str]) -> tuple[Panel, NDArray[np.intp]]:
    """The prompts of answers in any order, and the order in which those to one prompt are neighbours."""
    number = {prompt: place for place, prompt in enumerate(dict.fromkeys(prompts))}
    prompt_b = np.array([number[prompt] for prompt in prompts], dtype=np.intp)
    size_p = np.bincount(prompt_b)
    none_p = np.full(size_p.size, -1, np.int32)
    panel = Panel(np.cumsum(size_p) - size_p, size_p, none_p, (), {}, {}, {})
    return panel, np.argsort(prompt_b, kind="stable")
