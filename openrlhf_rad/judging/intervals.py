"""A share with its 95 % interval, where several of the things counted belong to one prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from openrlhf_rad.evaluation.interval import infer, share_estimate


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


def share(hit_b: Sequence[bool], prompt_b: Sequence[str]) -> Share:
    """The share of hits; prompt_b says which prompt each belongs to, shape (B,) both."""
    count = len(hit_b)
    if count == 0:
        return Share(None, None, None, 0)
    index: dict[str, int] = {}
    cluster_b = np.array([index.setdefault(prompt, len(index)) for prompt in prompt_b])
    hit = np.asarray(hit_b, dtype=np.float64)
    value = float(hit.mean())
    residual_b = (hit - value) / count
    influence_p = np.bincount(cluster_b, weights=residual_b).astype(np.float64)
    found = share_estimate(infer(value, influence_p, float(residual_b @ residual_b), np.bincount(cluster_b)))
    return Share(value, found.low, found.high, count)
