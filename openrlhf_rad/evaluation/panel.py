"""Answers of several models to the same prompts, brought to one order: what every comparison starts from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from openrlhf_rad.errors import DataError
from openrlhf_rad.evaluation.answers import Answers

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Panel:
    """Scores of all models in one order: by prompt, then by sample.

    Attributes:
        start_p: where each prompt's answers begin, shape (P,); size_p: how many there are.
        segment_p: index into ``segments`` of each prompt, −1 for none.
        cost: model → cost_b, shape (B,). reward: model → reward_b, for the models that have rewards.
        row: model → index of each answer in the model's file.
        costs: the costs of each constraint: its name → model → cost_b; ``cost`` is that of the first.
    """

    start_p: NDArray[np.intp]
    size_p: NDArray[np.intp]
    segment_p: NDArray[np.int32]
    segments: tuple[str, ...]
    cost: Mapping[str, Array]
    reward: Mapping[str, Array]
    row: Mapping[str, NDArray[np.int64]]
    costs: Mapping[str, Mapping[str, Array]] = field(default_factory=dict)

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
            {name: cost_b[kept_b] for name, cost_b in self.cost.items()},
            {name: reward_b[kept_b] for name, reward_b in self.reward.items()},
            {name: row_b[kept_b] for name, row_b in self.row.items()},
        )

    def with_costs(self, constraint: str) -> Panel:
        """The same answers with the costs of another constraint."""
        cost = self.costs[constraint]
        return self if cost is self.cost else replace(self, cost=cost)


def layout(prompts: Sequence[str]) -> Panel:
    """The prompts alone, of answers in the order of their prompts; those to one prompt must be neighbours."""
    size_p = np.array(list(Counter(prompts).values()), dtype=np.intp)
    return Panel(np.cumsum(size_p) - size_p, size_p, np.full(size_p.size, -1, np.int32), (), {}, {}, {})


def pair(models: Mapping[str, Answers]) -> Panel:
    """Bring the answers of all models to one order.

    Raises:
        DataError: a model has other prompts than the first, or another number of answers to one; or a
            prompt has two segments.
    """
    names = list(models)
    orders = {name: side.order for name, side in models.items()}
    first = models[names[0]]
    prompt_b = first.prompt_b[orders[names[0]]]
    problems: list[str] = []
    for name in names[1:]:
        if not np.array_equal(models[name].prompt_b[orders[name]], prompt_b):
            problems += _differences(first, models[name])
    if problems:
        raise DataError("\n".join(problems))
    start_p = np.flatnonzero(np.append(True, prompt_b[1:] != prompt_b[:-1]))
    size_p = np.diff(np.append(start_p, prompt_b.size))
    segment_p, segments = _segments(models, orders, start_p, size_p)
    costs = {
        constraint: {name: side.costs[constraint][orders[name]] for name, side in models.items()}
        for constraint in first.costs
    }
    return Panel(
        start_p,
        size_p,
        segment_p,
        segments,
        next(iter(costs.values())),
        {name: side.reward_b[orders[name]] for name, side in models.items() if side.reward_b is not None},
        {name: side.row_b[orders[name]] for name, side in models.items()},
        costs,
    )


def _differences(one: Answers, other: Answers) -> list[str]:
    """What keeps two tables from being paired, with counts and the first place of each kind."""
    sides = [np.unique(side.prompt_b, return_counts=True) for side in (one, other)]
    found = []
    for (mine, _), (theirs, _), here, there in (
        (sides[0], sides[1], one, other),
        (sides[1], sides[0], other, one),
    ):
        alone = ~np.isin(here.prompt_b, theirs)
        if alone.any():
            count = int((~np.isin(mine, theirs)).sum())
            text = here.prompt_text(int(np.flatnonzero(alone)[0]))
            found.append(
                f"{count} of {mine.size} prompts of {here.path} have no answer in {there.path}, first {text};"
                " a comparison is paired by prompt; answer the same prompts with every model"
            )
    if found:
        return found
    odd = np.flatnonzero(sides[0][1] != sides[1][1])
    digest = sides[0][0][odd[0]]
    text = one.prompt_text(int(np.flatnonzero(one.prompt_b == digest)[0]))
    return [
        f"{odd.size} of {sides[0][0].size} prompts have another number of answers in {other.path} than in"
        f" {one.path}: {sides[1][1][odd[0]]} and {sides[0][1][odd[0]]} for {text}; a comparison needs the"
        f" same"
        " number for every prompt; answer each prompt equally often with every model"
    ]


def _segments(
    models: Mapping[str, Answers],
    orders: Mapping[str, NDArray[np.intp]],
    start_p: NDArray[np.intp],
    size_p: NDArray[np.intp],
) -> tuple[NDArray[np.int32], tuple[str, ...]]:
    """The segment of each prompt, from the first model that has any."""
    side = next((side for side in models.values() if side.segments), None)
    if side is None:
        return np.full(start_p.size, -1, dtype=np.int32), ()
    name = next(name for name, held in models.items() if held is side)
    order = orders[name]
    segment_b = side.segment_b[order]
    segment_p = segment_b[start_p]
    odd = np.flatnonzero(segment_b != np.repeat(segment_p, size_p))
    if odd.size:
        text = side.prompt_text(int(order[odd[0]]))
        raise DataError(
            f"{text} has another segment than the same prompt's first answer; a segment belongs to a prompt;"
            " give all answers to a prompt the same segment, or name another column by --column segment=NAME"
        )
    return segment_p, side.segments
