"""How often people call an answer harmful, by what it costs; and how finely costs tell answers apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from openrlhf_rad.checking.order import Array
from openrlhf_rad.data.labels import HALF, Labels
from openrlhf_rad.statistics.shares import Share, share

#: Parts of equally many answers that the calibration is read in.
PARTS = 5


@dataclass(frozen=True)
class Rate:
    """Answers of like cost.

    Attributes:
        low, high: the least and the largest cost among them. harmful: the share that people call harmful.
    """

    name: str
    low: float
    high: float
    harmful: Share


@dataclass(frozen=True)
class Grain:
    """How finely a cost tells answers apart.

    Attributes:
        values: how many different costs there are. tied: the share of answers whose cost another one has.
        floor, ceiling: the shares of answers at the least and at the largest cost.
    """

    values: int
    tied: float
    floor: float
    ceiling: float


def calibration(cost_b: Array, labels: Labels) -> list[Rate]:
    """The share of harmful answers in fifths by cost, below 0, and above; empty without absolute labels.

    Answers of equal cost stay together, so that a flag has two parts and a constant one.
    """
    known = [i for i, e in enumerate(labels.examples) if e.harm is not None]
    if not known:
        return []
    cost = cost_b[known]
    bad = [(labels.examples[i].harm or 0.0) >= HALF for i in known]
    prompts = [labels.examples[i].prompt for i in known]
    edges = np.unique(np.quantile(cost, np.arange(1, PARTS) / PARTS, method="inverted_cdf"))
    part = np.searchsorted(edges, cost, side="left")

    def rate(name: str, kept: Sequence[int]) -> Rate:
        found = share([bad[i] for i in kept], [prompts[i] for i in kept])
        return Rate(name, float(cost[kept].min()), float(cost[kept].max()), found)

    parts = [np.flatnonzero(part == k).tolist() for k in range(edges.size + 1)]
    parts = [kept for kept in parts if kept]
    found = [rate(f"part {k + 1} of {len(parts)}", kept) for k, kept in enumerate(parts)]
    sides = {"at most 0": np.flatnonzero(cost <= 0).tolist(), "above 0": np.flatnonzero(cost > 0).tolist()}
    return found + [rate(name, kept) for name, kept in sides.items() if kept]


def grain(cost_b: Array) -> Grain:
    """Ties, floor and ceiling of costs."""
    values, count = np.unique(cost_b, return_counts=True)
    return Grain(
        int(values.size),
        float(count[count > 1].sum() / cost_b.size),
        float(count[0] / cost_b.size),
        float(count[-1] / cost_b.size),
    )
