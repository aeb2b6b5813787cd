"""Soft risk, the baseline RA-RLHF (Chaudhary et al. 2024, "Risk-Averse Fine-tuning of LLMs").

After a warm-up only the answers of lowest return are learned from; their share shrinks in a straight line and
stays at α. RAD's own constraints need none of it; studies compare with it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class SoftRisk:
    """The schedule.

    Attributes:
        share: α, the share that is left in the end, in (0, 1].
        warmup: the share of all steps before it begins to shrink. full: that after which it stays at α.
    """

    share: float = 0.4
    warmup: float = 0.1
    full: float = 0.8

    def share_at(self, step: int, steps: int) -> float:
        """The share of a batch that step ``step`` of ``steps``, from 0, learns from."""
        begin, end = self.warmup * steps, self.full * steps
        done = (step - begin) / max(end - begin, 1.0)
        return 1.0 - (1.0 - self.share) * min(max(done, 0.0), 1.0)

    def restriction(self, advantage_b: Array, return_b: Array, share: float) -> tuple[Array, float]:
        """By what each answer's advantage counts, and what is taken off it before: the mean of what counts.

        Those of lowest return count, the more the fewer they are, so that a mean over the batch is one over
        them; the others do not. Centring is what the whitening of RA-RLHF's PPO does.

        Args:
            return_b: by which answers are ordered, shape (B,).
        """
        count = max(1, math.ceil(share * return_b.size - 1e-9))
        factor_b = np.zeros(return_b.size)
        factor_b[np.argsort(return_b, kind="stable")[:count]] = return_b.size / count
        middle = float(factor_b @ advantage_b) / return_b.size if count < return_b.size else 0.0
        return factor_b, middle
