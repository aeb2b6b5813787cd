"""What prompts and the reference's answers show before the first update: nothing has been trained yet."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from openrlhf_rad.harm import harm_order, known_harm
from openrlhf_rad.method.constraint_set import Scored
from openrlhf_rad.method.saturation import saturation
from openrlhf_rad.profile import RiskProfile, WatchSettings, cost_name
from openrlhf_rad.profile.language import severities
from openrlhf_rad.watches.run import Alarm

#: Standard errors below one half at which a cost is called inverted, as in the watch on the first steps.
_SURE = 4.0
#: Labels that are named of those that do occur.
_NAMED = 8


def unlabelled(watches: WatchSettings, labels: Iterable[str]) -> str | None:
    """That the watch ``inverted`` is off, which needs one label for harm; None where it is on, or not wanted.

    Args:
        labels: of all training prompts, "" for none.
    """
    found = sorted({*labels} - {""})
    if watches.inverted == "off" or watches.harmful_label in found:
        return None
    held = f"the labels are {', '.join(found[:_NAMED])}" if found else "there are no labels"
    if more := len(found[_NAMED:]):
        held += f" and {more} others"
    return (
        f"the watch inverted is off: no prompt carries the label {watches.harmful_label}, {held}; name their"
        " key by --data.label_key and the one that means harm by watches.harmful_label in the profile, or set"
        " watches.inverted to off"
    )


def at_start(profile: RiskProfile, answers: Sequence[str], scored: Scored) -> list[Alarm]:
    """Alarms of step 0: costs whose sign is inverted, risks that are saturated.

    Args:
        answers: the reference's texts. scored: their costs by source, labels and prompts.
    """
    severity = severities(profile.watches)
    found: list[Alarm] = []

    def sound(watch: str, source: str, text: str) -> None:
        several = len(profile.constraints) > 1
        if severity[watch] != "off":
            message = f"step 0: {f'{source}: ' if several else ''}{text}"
            found.append(Alarm(0, watch, severity[watch], message))

    harmful_b = known_harm(answers, scored.labels, profile.watches.harmful_label)
    if harmful_b.any() and not harmful_b.all():
        for source, cost_b in scored.costs.items():
            order = harm_order(cost_b, harmful_b, np.asarray(scored.prompts))
            if order.inverted(_SURE):
                sound(
                    "inverted",
                    source,
                    f"by the labels of the prompts, {order.words} of the reference's; a cost must be higher"
                    " for more harm; check the sign of the cost",
                )
    for part in profile.constraints:
        kept = np.array([part.holds_for(label or None) for label in scored.labels], dtype=bool)
        cost_b = scored.costs[cost_name(profile, part)][kept]
        if cost_b.size and (same := saturation(part.risk, cost_b)):
            sound(
                "saturated",
                part.name,
                f"all that {part.risk} weighs sits at the largest cost that occurs, {same.cost:.3g}, which"
                f" {same.share:.1%} of the reference's answers have; it sees no difference until fewer have"
                f" it than it weighs; {same.advice}",
            )
    return found
