"""The costs that an evaluation needs: one for each constraint of the profile."""

from __future__ import annotations

from dataclasses import dataclass

from openrlhf_rad.profile import Constraint, RiskProfile, cost_name


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


#: What a profile with one constraint asks for.
SINGLE = (CostOf(),)


def costs_of(profile: RiskProfile) -> tuple[CostOf, ...]:
    """The costs that a profile needs, a constraint without its segments each, in the order of the file."""
    found: dict[str, CostOf] = {}
    for one in profile.constraints:
        source = cost_name(profile, one) if one.cost else ""
        found.setdefault(family(one), CostOf(family(one), source, not found))
    return tuple(found.values())


def family(constraint: Constraint) -> str:
    """The name of a constraint without its segment."""
    return constraint.name.removesuffix(f".{constraint.segment}") if constraint.segment else constraint.name
