"""Shares with Wilson's interval on the effective number of answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from openrlhf_rad.statistics.answers import arranged
from openrlhf_rad.statistics.inference import MINIMUM_PROMPTS, Estimate, Inference, average


def share_estimate(inference: Inference, confidence: float = 0.95) -> Estimate:
    """A share with Wilson's interval on the effective number of answers (Korn and Graubard 1998).

    Unlike a symmetric one it stays within [0, 1] and has a width where all answers agree. That number is
    n* = p(1 − p)/s², times (z/t)² with the freedom of the influences: of a rare thing, seen under a few
    prompts, s is not well known. It is no more than the answers, and no less than if those to a prompt were
    all alike, which is what is taken where all agree.
    """
    from scipy.special import ndtri, stdtrit  # noqa: PLC0415

    share = inference.value
    if inference.prompts < MINIMUM_PROMPTS:
        return Estimate(share)
    z = float(ndtri(0.5 + confidence / 2))
    size = inference.copies
    if inference.error > 0 and 0 < share < 1:
        t = float(stdtrit(max(min(inference.freedom, inference.prompts - 1), 1.0), 0.5 + confidence / 2))
        known = share * (1 - share) / inference.error**2 * (z / t) ** 2
        size = min(max(known, size), inference.answers)
    centre = (share + z * z / (2 * size)) / (1 + z * z / size)
    half = z / (1 + z * z / size) * np.sqrt(share * (1 - share) / size + z * z / (4 * size * size))
    low, high = float(centre - half), float(centre + half)
    # Rounding may leave 1e-18 where the end is 0 or 1 exactly.
    return Estimate(share, max(0.0, min(low, share)), min(1.0, max(high, share)))


@dataclass(frozen=True)
class Share:
    """A share of ``count`` things; the interval is None for fewer than 8 prompts, the share for none."""

    value: float | None
    low: float | None
    high: float | None
    count: int

    @property
    def above(self) -> bool:
        """Whether the interval lies above one half."""
        return self.low is not None and self.low > 0.5

    @property
    def below(self) -> bool:
        """Whether the interval lies below one half."""
        return self.high is not None and self.high < 0.5


def share(hit_b: Sequence[float], prompt_b: Sequence[str]) -> Share:
    """The share of hits, half ones too; prompt_b says which prompt each belongs to, shape (B,) both."""
    count = len(hit_b)
    if count == 0:
        return Share(None, None, None, 0)
    panel, order = arranged(prompt_b)
    whole = share_estimate(average(panel, np.asarray(hit_b, dtype=np.float64)[order]))
    return Share(whole.value, whole.low, whole.high, count)
