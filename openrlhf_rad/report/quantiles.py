"""The curves that are drawn: cost quantiles of two models and their difference, with simultaneous bands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from openrlhf_rad.evaluation.pairing import AFTER, BEFORE, paired
from openrlhf_rad.runs.records import Answer
from openrlhf_rad.statistics.curves import Curve, at_rank, difference, quantile_curve, quantile_levels

Array = NDArray[np.float64]

#: Where curves are evaluated; a band ends where fewer than five prompts lie beyond.
LEVELS = quantile_levels(1, expected=0.0)
#: Where values are shown in figures, as tables and when pointed at.
NAMED_LEVELS = (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99)


class Curves(NamedTuple):
    """Quantiles before, after, and after − before, over LEVELS, with 95 % bands for all levels at once."""

    before: Curve
    after: Curve
    difference: Curve


def curves(before: Sequence[Answer], after: Sequence[Answer]) -> Curves:
    """Quantile curves of answers to the same prompts, paired by prompt, as ``rad eval`` makes them.

    Raises:
        RadError: the prompts differ, or there are none.
    """
    panel = paired(before, after)
    costs = panel.cost[BEFORE], panel.cost[AFTER]
    old, new = (quantile_curve(panel, cost_b).over(LEVELS, quantiles(cost_b)) for cost_b in costs)
    moved = difference(panel, *costs).within(quantile_levels(panel.prompts)).band(0.95)
    return Curves(old, new, moved.over(LEVELS, new.value_k - old.value_k))


def bare(cost_b: ArrayLike) -> Curve:
    """The quantile curve of a sample without a band."""
    return Curve(*[np.empty(0)] * 4).over(LEVELS, quantiles(cost_b))


def of_evaluation(row: Mapping[str, Sequence[float | None]], name: str = "cost") -> Curve:
    """A curve of eval.json."""
    return Curve(*(np.array(row[key], dtype=np.float64) for key in ("level", name, "low", "high")))


def quantiles(cost_b: ArrayLike) -> Array:
    """Left-continuous quantiles of a sample at LEVELS."""
    return at_rank(np.sort(np.asarray(cost_b, dtype=np.float64)), LEVELS)


def lines(curve: Curve) -> list[Array]:
    """All lines of a curve, for the limits of an axis."""
    return [curve.value_k, curve.low_k, curve.high_k]
