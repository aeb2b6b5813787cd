"""The constraints of a profile on answers: which costs they need, on which prompts, by which risk."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from openrlhf_rad.method.spectrum import Spectrum
from openrlhf_rad.profile import Constraint, RiskProfile, cost_name
from openrlhf_rad.statistics.answers import Panel


@dataclass(frozen=True)
class CostOf:
    """The cost of a constraint and its segments.

    Attributes:
        name: of the constraint, without a segment.
        source: what a run's records call the cost, under ``costs``; constraints of one source share it.
            Empty where the profile names no source: then nothing says that two constraints share a cost.
        first: whether it is the first constraint's, which tables call ``cost``.
    """

    name: str = "cost"
    source: str = ""
    first: bool = True


#: The costs of a table by the constraint that each is of.
Costs = Mapping[str, CostOf]
#: What a profile with one constraint asks for.
SINGLE: Costs = {"cost": CostOf()}


def costs_of(profile: RiskProfile) -> Costs:
    """The costs that a profile needs, a constraint without its segments each, in the order of the file."""
    found: dict[str, CostOf] = {}
    for one in profile.constraints:
        source = cost_name(profile, one) if one.cost else ""
        found.setdefault(one.family, CostOf(one.family, source, not found))
    return found


@dataclass(frozen=True)
class Part:
    """A constraint and the answers that it holds for.

    Attributes:
        panel: its prompts, with its own costs.
    """

    constraint: Constraint
    panel: Panel


def parts(profile: RiskProfile, panel: Panel) -> list[Part]:
    """Every constraint with its own costs, on the prompts that it holds for."""
    return [Part(one, holding(one, panel.with_costs(one.family))) for one in profile.constraints]


def holding(constraint: Constraint, panel: Panel) -> Panel:
    """The prompts that a constraint holds for; the panel itself where it holds for all."""
    if constraint.segment is None and not constraint.excluded:
        return panel
    # The last place is that of prompts without a label, whose index is -1.
    held_s = np.array([constraint.holds_for(label) for label in (*panel.segments, None)])
    return panel.where(held_s[panel.segment_p])


def own_risks(profile: RiskProfile) -> Mapping[str, Spectrum]:
    """Segment → the risk that the first constraint has for it."""
    first = profile.constraints[0].family
    return {one.segment: one.risk for one in profile.constraints if one.segment and one.family == first}


def without_prompts(part: Part, panel: Panel) -> str:
    """What to tell of a constraint that holds for no prompt."""
    one = part.constraint
    what = f"carries the label {one.segment}" if one.segment else "is without the label of a segment"
    held = f"has the labels {', '.join(panel.segments)}" if panel.segments else "has no labels"
    return (
        f"constraint {one.name}: no prompt {what}, the table {held}; add such prompts, name the column of the"
        " labels by --column segment=NAME, or take a profile without that segment"
    )
