"""What holds under each constraint, on its prompts and by its cost: ``constraints`` of eval.json.

Where the first constraint holds for all prompts, its numbers are those of the other keys, not computed twice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from openrlhf_rad.discrete import few_values, meaning
from openrlhf_rad.evaluation.compare import Analysis, model_costs, pair_costs
from openrlhf_rad.evaluation.constraints import Part, without_prompts
from openrlhf_rad.evaluation.doubts import doubts, thresholds
from openrlhf_rad.statistics.answers import Panel

_OF_MODEL = ("safe", "mean", "risk", "quantiles", "ratings")
_OF_PAIR = ("saturated", "dominance", "gaps", "improvement", "quantile_difference", "tests")
_NO_SIDES = {"below": None, "above": None}
#: What there is to say of a constraint that holds for no prompt.
_NOTHING: Mapping[str, Any] = {
    "safe": None,
    "mean": None,
    "risk": None,
    "quantiles": {"level": [], "cost": [], "low": [], "high": []},
    "ratings": None,
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
            "cost": part.constraint.family,
            "segment": part.constraint.segment,
            "prompts": part.panel.prompts,
            "answers": part.panel.answers,
            "values": list(values),
            "meaning": meaning(part.constraint.risk, values) if values else None,
        }
        for part in parts
        for values in [few_values(*part.panel.cost.values())]
    ]


def of_model(
    parts: Sequence[Part], whole: Panel, row: Mapping[str, Any], settings: Analysis
) -> list[dict[str, Any]]:
    """A model's costs under each constraint; ``row`` is what holds for it on all prompts."""
    return _of_parts(
        parts,
        whole,
        {key: row[key] for key in _OF_MODEL},
        lambda part: model_costs(part.panel, row["name"], part.constraint.risk, settings),
    )


def of_pair(
    parts: Sequence[Part], whole: Panel, row: Mapping[str, Any], settings: Analysis
) -> list[dict[str, Any]]:
    """How the costs of a pair compare under each constraint; ``row`` is the comparison on all prompts."""
    return _of_parts(
        parts,
        whole,
        {key: row[key] for key in _OF_PAIR},
        lambda part: pair_costs(
            part.panel, row["baseline"], row["candidate"], part.constraint.risk, settings
        ),
    )


def _of_parts(
    parts: Sequence[Part], whole: Panel, known: dict[str, Any], measure: Callable[[Part], dict[str, Any]]
) -> list[dict[str, Any]]:
    """What holds under each constraint: measured, unless it is known already or there is no prompt."""
    found = []
    for place, part in enumerate(parts):
        if _is_known(place, part, whole):
            values = known
        elif part.panel.prompts:
            values = measure(part)
        else:
            values = {key: _NOTHING[key] for key in known}
        found.append({"name": part.constraint.name, **values})
    return found


def warnings(parts: Sequence[Part], whole: Panel, names: Sequence[str], threshold: float) -> list[str]:
    """Reasons to doubt what is said of the constraints; those on all prompts and the first cost are known."""
    found = []
    for place, part in enumerate(parts):
        if not part.panel.prompts:
            found.append(without_prompts(part, whole))
        elif not _is_known(place, part, whole):
            told = doubts(part.panel, names, part.constraint.risk)
            told += thresholds(part.panel, names, threshold)
            found += [f"constraint {part.constraint.name}: {text}" for text in told]
    return found


def _is_known(place: int, part: Part, whole: Panel) -> bool:
    """Whether a constraint is what the other keys speak of."""
    return place == 0 and part.panel is whole
