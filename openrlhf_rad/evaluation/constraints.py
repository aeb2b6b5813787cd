"""The constraints of a profile on answers: whose costs, on which prompts, by which risk."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from openrlhf_rad.evaluation.costs import family
from openrlhf_rad.evaluation.panel import Panel
from openrlhf_rad.method.spectrum import Spectrum
from openrlhf_rad.profile import Constraint, RiskProfile


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
    return [Part(one, holding(one, panel.with_costs(family(one)))) for one in profile.constraints]


def holding(constraint: Constraint, panel: Panel) -> Panel:
    """The prompts that a constraint holds for; the panel itself where it holds for all."""
    if constraint.segment is None and not constraint.excluded:
        return panel
    # The last place is that of prompts without a label, whose index is -1.
    held_s = np.array([constraint.holds_for(label) for label in (*panel.segments, None)])
    return panel.where(held_s[panel.segment_p])


def own_risks(profile: RiskProfile) -> Mapping[str, Spectrum]:
    """Segment → the risk that the first constraint has for it."""
    first = family(profile.constraints[0])
    return {one.segment: one.risk for one in profile.constraints if one.segment and family(one) == first}


def without_prompts(part: Part, panel: Panel) -> str:
    """What to tell of a constraint that holds for no prompt."""
    one = part.constraint
    what = f"carries the label {one.segment}" if one.segment else "is without the label of a segment"
    held = f"has the labels {', '.join(panel.segments)}" if panel.segments else "has no labels"
    return (
        f"constraint {one.name}: no prompt {what}, the table {held}; add such prompts, name the column of the"
        " labels by --column segment=NAME, or take a profile without that segment"
    )
