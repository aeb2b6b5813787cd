"""Records of a profile as plain data, the way a file would hold them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from openrlhf_rad.method.settings import Constraint, ConstraintSettings
from openrlhf_rad.profile.dual_settings import plain_dual
from openrlhf_rad.profile.model import EvaluateSettings


def plain_constraint(settings: ConstraintSettings) -> dict[str, Any]:
    """The `constraint` section."""
    return {
        "form": settings.form,
        "level": settings.level.plain(),
        "margin": settings.margin.plain(),
        "floor": settings.floor,
        "gradient": settings.gradient,
        "tails": settings.tails,
    }


def plain_evaluate(settings: EvaluateSettings) -> dict[str, Any]:
    """The `evaluate` section."""
    return {
        "confidence": settings.confidence,
        "improvement": settings.improvement.plain(),
        "tolerance": settings.tolerance.plain(),
        "threshold": settings.threshold,
        "resamples": settings.resamples,
    }


def plain_constraints(several: Sequence[Constraint]) -> dict[str, Any]:
    """The sections `constraints` and `segments`; none where the profile has neither."""
    if not several:
        return {}
    families: dict[str, dict[str, Any]] = {}
    for one in several:
        if one.segment is None:
            cost = {"cost": {one.cost.kind: one.cost.location}} if one.cost else {}
            families[one.name] = {**_entry(one), **cost, "segments": {}}
        else:
            families[one.name.removesuffix(f".{one.segment}")]["segments"][one.segment] = _entry(one)
    return {"constraints": families}


def _entry(one: Constraint) -> dict[str, Any]:
    return {"risk": one.risk.plain(), **plain_constraint(one.settings), "dual": plain_dual(one.dual)}
