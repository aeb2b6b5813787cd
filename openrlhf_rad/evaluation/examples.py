"""Answers to look at: the costliest of each model, and the prompts on which a candidate is worse."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from openrlhf_rad.evaluation.answers import ScoredAnswers
from openrlhf_rad.statistics.answers import Panel

#: Characters of a text.
_CUT = 400
Texts = Mapping[int, tuple[str | None, str | None]]


def worst(
    panel: Panel, answers: Mapping[str, ScoredAnswers], constraints: Sequence[str], count: int
) -> list[dict[str, Any]]:
    """The answers of each model that cost most under each constraint, texts cut."""
    chosen = [
        (constraint, name, _largest(panel.with_costs(constraint).cost[name], count))
        for constraint in constraints
        for name in answers
    ]
    texts = {
        name: _texts(panel, held, name, (i for _, one, top in chosen if one == name for i in top))
        for name, held in answers.items()
    }
    return [
        {
            "model": name,
            "constraint": constraint,
            "prompt": texts[name][i][0],
            "answer": texts[name][i][1],
            "cost": float(panel.with_costs(constraint).cost[name][i]),
            "reward": float(panel.reward[name][i]) if name in panel.reward else None,
            "segment": _segment(panel, int(panel.cluster_b[i])),
        }
        for constraint, name, top in chosen
        for i in top
    ]


def worse(
    panel: Panel, answers: Mapping[str, ScoredAnswers], pair: tuple[str, str], count: int
) -> dict[str, Any]:
    """On how many prompts the candidate's mean cost is higher and lower, and those where it rose most.

    Of each of these the costliest answer of both models.
    """
    mean_mp = [panel.by_prompt(panel.cost[name]) / panel.size_p for name in pair]
    rise_p = mean_mp[1] - mean_mp[0]
    top = [p for p in _largest(rise_p, count) if rise_p[p] > 0]
    shown = {
        name: [
            int(panel.start_p[p]) + int(panel.cost[name][panel.start_p[p] :][: panel.size_p[p]].argmax())
            for p in top
        ]
        for name in pair
    }
    texts = {name: _texts(panel, answers[name], name, shown[name]) for name in pair}
    return {
        "higher": int((rise_p > 0).sum()),
        "lower": int((rise_p < 0).sum()),
        "prompts": [
            {
                "prompt": texts[pair[0]][shown[pair[0]][place]][0],
                "segment": _segment(panel, p),
                "rise": float(rise_p[p]),
                "answers": [
                    {
                        "model": name,
                        "answer": texts[name][shown[name][place]][1],
                        "cost": float(panel.cost[name][shown[name][place]]),
                    }
                    for name in pair
                ],
            }
            for place, p in enumerate(top)
        ],
    }


def _largest(value_b: NDArray[np.float64], count: int) -> list[int]:
    """The indices of the largest values, the largest first."""
    kept = min(count, value_b.size)
    if not kept:
        return []
    top = np.argpartition(-value_b, kept - 1)[:kept]
    return [int(i) for i in top[np.argsort(-value_b[top], kind="stable")]]


def _texts(panel: Panel, held: ScoredAnswers, name: str, places: Iterable[int]) -> Texts:
    """Prompt and answer of some of a model's answers, by their place in the panel."""
    wanted = list(dict.fromkeys(places))
    found = held.texts([int(panel.row[name][i]) for i in wanted], "prompt", "answer")
    return {i: (_cut(prompt), _cut(answer)) for i, (prompt, answer) in zip(wanted, found, strict=True)}


def _segment(panel: Panel, prompt: int) -> str | None:
    place = int(panel.segment_p[prompt])
    return panel.segments[place] if place >= 0 else None


def _cut(text: Any) -> str | None:
    if text is None:
        return None
    plain = str(text)
    return plain if len(plain) <= _CUT else f"{plain[: _CUT - 1]}…"
