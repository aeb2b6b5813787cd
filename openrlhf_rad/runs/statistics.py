"""Before against after on held-out prompts: means, risks and gaps, with the intervals of ``rad eval``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from openrlhf_rad.errors import RadError
from openrlhf_rad.evaluation.bands import Difference, difference
from openrlhf_rad.evaluation.gaps import gaps
from openrlhf_rad.evaluation.influence import fall, risk
from openrlhf_rad.evaluation.interval import Estimate
from openrlhf_rad.evaluation.panel import Panel, layout
from openrlhf_rad.evaluation.process import quantile_levels
from openrlhf_rad.method.spectrum import MEAN, Spectrum, make_spectrum
from openrlhf_rad.profile import RiskProfile, cost_name, cost_names
from openrlhf_rad.runs.records import Answer

Array = NDArray[np.float64]

_CVAR = make_spectrum("cvar", alpha=0.9)

GAP_BELOW, GAP_ABOVE = "gap_below", "gap_above"


@dataclass(frozen=True)
class Comparison:
    """One row: a quantity before and after training, and what changed.

    Attributes:
        name: the key of the row. label: the same for people.
        before, after: absent for the gaps, which compare the two.
        difference: after − before, paired by prompt; for the gaps the gap itself, which noise alone
            makes positive: judge it beside the gap of the other direction.
    """

    name: str
    label: str
    before: Estimate | None
    after: Estimate | None
    difference: Estimate


def compare(
    before: Sequence[Answer],
    after: Sequence[Answer],
    spectrum: Spectrum,
    independent: tuple[ArrayLike, ArrayLike] | None = None,
) -> list[Comparison]:
    """All rows of the report, in the cost's own units.

    Args:
        before, after: answers to the same prompts, equally many for each, in any order.
        spectrum: the profile's risk.
        independent: costs of another source for the same answers, before and after.

    Raises:
        RadError: the prompts differ, or there are none.
    """
    order_before, order_after = paired_order(before, after)
    panel = layout([before[index]["prompt"] for index in order_before])

    def aligned(before_b: ArrayLike, after_b: ArrayLike) -> tuple[Array, Array]:
        sides = np.asarray(before_b, dtype=np.float64), np.asarray(after_b, dtype=np.float64)
        return sides[0][order_before], sides[1][order_after]

    costs = aligned([row["cost"] for row in before], [row["cost"] for row in after])
    rewards = [[row["reward"] for row in side if row["reward"] is not None] for side in (before, after)]
    rows: list[Comparison] = []
    if len(rewards[0]) == len(rewards[1]) == len(before):
        rows.append(risk_row("reward_mean", "mean reward", panel, MEAN, aligned(*rewards)))
    rows += [
        risk_row("cost_mean", "mean cost", panel, MEAN, costs),
        quantile_row("cost_var_90", "VaR 0.90 of the cost", panel, 0.9, costs),
        risk_row("cost_cvar_90", "CVaR 0.90 of the cost", panel, _CVAR, costs),
        risk_row("risk", "risk of the profile", panel, spectrum, costs),
        *_gaps(panel, spectrum, costs),
    ]
    if independent is not None:
        second = aligned(*independent)
        rows.append(risk_row("independent_mean", "mean independent cost", panel, MEAN, second))
        rows.append(risk_row("independent_cvar_90", "CVaR 0.90 independent", panel, _CVAR, second))
    return rows


def compare_constraints(
    before: Sequence[Answer], after: Sequence[Answer], profile: RiskProfile
) -> list[Comparison]:
    """The risk of each constraint on its own cost and its own prompts; no rows where there is one only.

    Raises:
        RadError: the prompts differ, or an answer lacks a cost.
    """
    if len(profile.constraints) == 1:
        return []
    orders = paired_order(before, after)
    before, after = [before[i] for i in orders[0]], [after[i] for i in orders[1]]
    single = len(cost_names(profile)) == 1
    rows = []
    for one in profile.constraints:
        kept = [i for i, row in enumerate(before) if one.holds_for(row["label"] or "")]
        if not kept:
            continue
        name = None if single else cost_name(profile, one)
        sides = [np.array([_cost(side[i], name) for i in kept]) for side in (before, after)]
        panel = layout([before[i]["prompt"] for i in kept])
        rows.append(risk_row(f"risk_{one.name}", f"risk {one.name}", panel, one.risk, (sides[0], sides[1])))
    return rows


def _cost(answer: Answer, source: str | None) -> float:
    """The cost of one of several sources; None: of the only one."""
    if source is None:
        return answer["cost"]
    costs = answer.get("costs", {})
    if source not in costs:
        raise RadError(
            f"an answer to {answer['prompt'][:60]!r} has no cost of {source}; a run with several costs"
            " records all of them under costs; answer the held-out prompts again"
        )
    return costs[source]


def risk_row(
    name: str, label: str, panel: Panel, spectrum: Spectrum, sides: tuple[Array, Array]
) -> Comparison:
    """A spectral risk, or with MEAN the mean, of values before and after, paired by position, shape (B,)."""
    before, after = (risk(panel, spectrum, side_b).estimate() for side_b in sides)
    return Comparison(name, label, before, after, fall(panel, spectrum, sides[1], sides[0]).estimate())


def quantile_row(name: str, label: str, panel: Panel, level: float, sides: tuple[Array, Array]) -> Comparison:
    """The left-continuous quantile at a level."""
    none_b = np.zeros_like(sides[0])  # what does not vary adds nothing to the draws
    before, after, change = (
        _pointwise(panel, *pair, level) for pair in ((none_b, sides[0]), (none_b, sides[1]), sides)
    )
    return Comparison(name, label, before, after, change)


def _pointwise(panel: Panel, before_b: Array, after_b: Array, level: float) -> Estimate:
    """The difference of two quantiles, with an interval where prompts enough lie beyond them."""
    moved = difference(panel, before_b, after_b, np.array([level]), draws=2000, seed=0)
    value, draw_r = float(moved.value_k[0]), moved.draw_rk[:, 0]
    low, high = (float(end) for end in np.quantile(draw_r, [0.025, 0.975], method="nearest"))
    if not (quantile_levels(panel.prompts, level, level).size and np.isfinite([low, high]).all()):
        return Estimate(value)
    return Estimate(value, min(low, value), max(high, value))


def _gaps(panel: Panel, spectrum: Spectrum, costs: tuple[Array, Array]) -> list[Comparison]:
    """L_w(after, before), how far the costs now lie below, and L_w(before, after), how far above."""
    level_k = quantile_levels(panel.prompts, expected=1.0)
    moved = Difference(level_k, level_k, np.empty((0, 0)))  # of a single prompt
    if level_k.size:
        moved = difference(panel, *costs, level_k, draws=2000, seed=0)
    found = gaps(spectrum, costs, moved, fall(panel, spectrum, *costs), 0.95)
    label = "quantiles {} before"
    return [
        Comparison(GAP_BELOW, label.format("below"), None, None, found.below),
        Comparison(GAP_ABOVE, label.format("above"), None, None, found.above),
    ]


def paired_order(
    before: Sequence[Answer], after: Sequence[Answer]
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Indices that bring both sides to the same order of prompts. Raises RadError."""
    prompts = [row["prompt"] for row in before], [row["prompt"] for row in after]
    if not prompts[0]:
        raise RadError("there are no held-out answers from before training; at least one prompt is needed")
    counts = Counter(prompts[0]), Counter(prompts[1])
    if counts[0] != counts[1]:
        odd = next(iter((counts[0] - counts[1]) + (counts[1] - counts[0])))
        raise RadError(
            f"{odd[:60]!r} has {counts[0][odd]} answers before and {counts[1][odd]} after; the comparison is"
            " paired and needs the same number for every prompt; answer the same held-out prompts again"
        )
    first = {prompt: place for place, prompt in enumerate(dict.fromkeys(prompts[0]))}
    orders = [np.argsort([first[prompt] for prompt in side], kind="stable") for side in prompts]
    return orders[0], orders[1]
