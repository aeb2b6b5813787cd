"""Scored answers of several models brought to one order of prompts, so that a comparison is paired."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from openrlhf_rad.errors import DataError, RadError
from openrlhf_rad.evaluation.answers import ScoredAnswers
from openrlhf_rad.evaluation.constraints import SINGLE
from openrlhf_rad.naming import recorded_costs
from openrlhf_rad.profile import RiskProfile, cost_name
from openrlhf_rad.statistics.answers import Panel, arranged

#: The names of a run's two models: it is the pair (before, after) of an evaluation.
BEFORE, AFTER = "before", "after"
#: Held-out answers as in a run's folder: prompt, label, reward, cost; costs where there are several.
Rows = Sequence[Mapping[str, Any]]


def pair(models: Mapping[str, ScoredAnswers]) -> Panel:
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
        costs,
        {name: side.reward_b[orders[name]] for name, side in models.items() if side.reward_b is not None},
        {name: side.row_b[orders[name]] for name, side in models.items()},
    )


def _differences(one: ScoredAnswers, other: ScoredAnswers) -> list[str]:
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
        " same number for every prompt; answer each prompt equally often with every model"
    ]


def _segments(
    models: Mapping[str, ScoredAnswers],
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


def paired(before: Rows, after: Rows, profile: RiskProfile | None = None) -> Panel:
    """A run's answers to its held-out prompts, before training as the baseline and after it as the candidate.

    Args:
        before, after: answers to the same prompts, equally many for each, in any order.
        profile: whose costs are read; None: the first alone.

    Raises:
        RadError: the prompts differ, or there are none; an answer lacks a cost.
    """
    sides = {BEFORE: before, AFTER: after}
    counts = [Counter(row["prompt"] for row in rows) for rows in sides.values()]
    if not before:
        raise RadError("there are no held-out answers from before training; at least one prompt is needed")
    if counts[0] != counts[1]:
        odd = next(iter((counts[0] - counts[1]) + (counts[1] - counts[0])))
        raise RadError(
            f"{odd[:60]!r} has {counts[0][odd]} answers before and {counts[1][odd]} after; the comparison is"
            " paired and needs the same number for every prompt; answer the same held-out prompts again"
        )
    held, order = arranged([row["prompt"] for row in before])
    number = {prompt: place for place, prompt in enumerate(counts[0])}
    row = {BEFORE: order, AFTER: np.argsort([number[one["prompt"]] for one in after], kind="stable")}
    label_p = [before[place].get("label") or "" for place in order[held.start_p]]
    segments = tuple(sorted(set(label_p) - {""}))
    code = {"": -1} | {name: place for place, name in enumerate(segments)}
    source = {name: name for name in SINGLE}
    if profile is not None:
        source = {one.family: cost_name(profile, one) for one in profile.constraints}
    names = set(source.values())
    costs = {
        constraint: {
            name: np.array([_cost(rows[place], cost, names) for place in row[name]])
            for name, rows in sides.items()
        }
        for constraint, cost in source.items()
    }
    rewarded = all(one.get("reward") is not None for rows in sides.values() for one in rows)
    reward = {name: np.array([rows[place]["reward"] for place in row[name]]) for name, rows in sides.items()}
    return Panel(
        held.start_p,
        held.size_p,
        np.array([code[label] for label in label_p], dtype=np.int32),
        segments,
        costs,
        {name: value_b.astype(np.float64) for name, value_b in reward.items()} if rewarded else {},
        row,
    )


def _cost(answer: Mapping[str, Any], source: str, sources: Collection[str]) -> float:
    """The cost of an answer by one of the sources of a run. Raises RadError."""
    costs = recorded_costs(answer, sources)
    if source not in costs:
        raise RadError(
            f"an answer to {answer['prompt'][:60]!r} has no cost of {source}; a run with several costs"
            " records all of them under costs; answer the held-out prompts again"
        )
    return float(costs[source])
