"""Every constraint of a profile as data: each with its own costs and risk, on the prompts that it holds for.

The other keys of eval.json speak of the first constraint's cost and risk on all prompts. Where the first
constraint holds for all prompts, its numbers here are the same and are not computed twice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from openrlhf_rad.evaluation import compare
from openrlhf_rad.evaluation.constraints import Part, without_prompts
from openrlhf_rad.evaluation.costs import family
from openrlhf_rad.evaluation.panel import Panel

_OF_MODEL = ("safe", "mean", "risk", "quantiles")
_OF_PAIR = ("saturated", "dominance", "gaps", "improvement", "quantile_difference", "tests")
_NO_SIDES = {"below": None, "above": None}
#: What there is to say of a constraint that holds for no prompt.
_NOTHING: Mapping[str, Any] = {
    "safe": None,
    "mean": None,
    "risk": None,
    "quantiles": {"level": [], "cost": [], "low": [], "high": []},
    "saturated": None,
    "dominance": {"weighted": None, "unweighted": None},
    "gaps": {"weighted": _NO_SIDES, "unweighted": _NO_SIDES},
    "improvement": dict.fromkeys(("safe", "mean", "risk", "reward")),
    "quantile_difference": {"level": [], "value": [], "low": [], "high": []},
    "tests": [],
}


def overview(parts: Sequence[Part]) -> list[dict[str, Any]]:
    """What is bounded."""
    return [
        {
            "name": part.constraint.name,
            "risk": str(part.constraint.risk),
            "formula": part.constraint.risk.formula,
            "cost": family(part.constraint),
            "segment": part.constraint.segment,
            "prompts": part.panel.prompts,
            "answers": part.panel.answers,
        }
        for part in parts
    ]


def of_model(
    parts: Sequence[Part], whole: Panel, row: Mapping[str, Any], settings: compare.Settings
) -> list[dict[str, Any]]:
    """A model's costs under each constraint; ``row`` is what holds for it on all prompts."""
    found = []
    for place, part in enumerate(parts):
        if _is_known(place, part, whole):
            values = {key: row[key] for key in _OF_MODEL}
        elif part.panel.prompts:
            values = compare.model_costs(part.panel, row["name"], part.constraint.risk, settings)
        else:
            values = {key: _NOTHING[key] for key in _OF_MODEL}
        found.append({"name": part.constraint.name, **values})
    return found


def of_pair(
    parts: Sequence[Part], whole: Panel, row: Mapping[str, Any], settings: compare.Settings
) -> list[dict[str, Any]]:
    """How the costs of a pair compare under each constraint; ``row`` is the comparison on all prompts."""
    found = []
    for place, part in enumerate(parts):
        if _is_known(place, part, whole):
            values = {key: row[key] for key in _OF_PAIR}
        elif part.panel.prompts:
            pair = row["red"], row["blue"]
            values = compare.pair_costs(part.panel, *pair, part.constraint.risk, settings)
        else:
            values = {key: _NOTHING[key] for key in _OF_PAIR}
        found.append({"name": part.constraint.name, **values})
    return found


def warnings(parts: Sequence[Part], whole: Panel, names: Sequence[str], threshold: float) -> list[str]:
    """Reasons to doubt what is said of the constraints; those on all prompts and the first cost are known."""
    found = []
    for place, part in enumerate(parts):
        if not part.panel.prompts:
            found.append(without_prompts(part, whole))
        elif not _is_known(place, part, whole):
            told = compare.doubts(part.panel, names, part.constraint.risk)
            told += compare.thresholds(part.panel, names, threshold)
            found += [f"constraint {part.constraint.name}: {text}" for text in told]
    return found


def _is_known(place: int, part: Part, whole: Panel) -> bool:
    """Whether a constraint is what the other keys speak of."""
    return place == 0 and part.panel is whole
