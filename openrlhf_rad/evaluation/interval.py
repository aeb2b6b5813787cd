"""Confidence intervals in closed form from influence values, one a prompt: O(n) for any number of answers.

An estimate θ̂ ≈ θ + Σ_p u_p has standard error s = √(P/(P−1) Σ u_p²). Two intervals are known: the usual
θ̂ ± t s, short on the side of a skew tail, and Hall's (1992, "On the removal of skewness by transformation"),
which corrects for the skewness k = √P·mean(u³)/mean(u²)^{3/2}/P by the monotone cubic
g(T) = T + kT²/3 + k²T³/27 + k/6, but is short on the other side when the skewness is noise. The interval
here reaches to the further end of the two.

A sample of n answers is less skewed than its distribution: its largest answers are missing, and its skewness
cannot exceed √n. So k is taken (1 + a/√n)-fold; ``benchmarks/intervals.py`` shows what that costs and gains.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from openrlhf_rad.runs.bootstrap import MINIMUM_PROMPTS, Estimate

Array = NDArray[np.float64]

#: Independent answers below which no interval is given: none of those tried covers 93 % on heavy tails.
ENOUGH = 30
#: a, by which the skewness is taken too large.
ALLOWANCE = 1.5


@dataclass(frozen=True)
class Inference:
    """An estimate with what its intervals need.

    Attributes:
        value: θ̂.
        error: its standard error s.
        skewness: k, of the estimate itself: that of one prompt's influence over √P.
        independent: n, the number of independent answers.
        share: the effective share of them that θ̂ rests on.
        prompts: P.
        largest: the largest share of s² that comes from one prompt.
    """

    value: float
    error: float
    skewness: float
    independent: float
    share: float
    prompts: int
    largest: float

    def estimate(self, confidence: float = 0.95) -> Estimate:
        """With the two-sided interval; without one on too few answers or prompts, or where nothing varies."""
        tail = (1 - confidence) / 2
        if not self.certain:
            return Estimate(self.value)
        return Estimate(self.value, self.lower(tail), self.upper(tail))

    @property
    def effective(self) -> float:
        """The number of independent answers that θ̂ rests on, for CVaR_α those of the worst 1 − α.

        Less one, it is the degrees of freedom of Student's t.
        """
        return self.independent * self.share

    @property
    def certain(self) -> bool:
        """Whether there is an interval at all."""
        enough = self.prompts >= MINIMUM_PROMPTS and self.rests_on(ENOUGH)
        return enough and self.error > 0

    def rests_on(self, least: float) -> bool:
        """Whether θ̂ rests on that many independent answers, but for rounding."""
        return self.effective >= least * (1 - 1e-6)

    def lower(self, tail: float, allowance: float = ALLOWANCE) -> float:
        """The lower end that leaves ``tail`` below it."""
        return self.value - self.error * self._reach(tail, self.skewness, allowance)

    def upper(self, tail: float, allowance: float = ALLOWANCE) -> float:
        """The upper end that leaves ``tail`` above it."""
        return self.value + self.error * self._reach(tail, -self.skewness, allowance)

    def _reach(self, tail: float, skewness: float, allowance: float) -> float:
        from scipy.special import stdtrit  # noqa: PLC0415 - see Spectrum

        t = float(stdtrit(max(self.effective - 1, 1.0), 1 - tail))
        k = skewness * (1 + allowance / np.sqrt(self.independent))
        if abs(k) < 1e-9:
            return t
        return max(t, float(3 / k * (np.cbrt(1 + k * (t - k / 6)) - 1)))


def infer(value: float, influence_p: Array, iid: float, answers: int, share: float = 1.0) -> Inference:
    """Inference from influence values.

    Args:
        value: the estimate.
        influence_p: u_p, one a prompt, with sum 0.
        iid: Σ_b u_b² over single answers: the variance if answers to a prompt were independent. Its ratio to
            Σ_p u_p² says how many independent answers there are.
        answers: B.
        share: the effective share of the answers that the estimate rests on, 1/∫φ² for a spectrum φ.
    """
    prompts = influence_p.size
    square = float(influence_p @ influence_p)
    if prompts < 2 or square <= 0:
        return Inference(value, 0.0, 0.0, float(prompts), share, prompts, 0.0)
    cube = float((influence_p**3).sum())
    return Inference(
        value,
        float(np.sqrt(square * prompts / (prompts - 1))),
        cube / square**1.5,
        answers * min(1.0, iid / square),
        share,
        prompts,
        float((influence_p**2).max() / square),
    )


def share_estimate(hits: int, inference: Inference, confidence: float = 0.95) -> Estimate:
    """A share with Wilson's interval on the effective number of answers (Korn and Graubard 1998).

    Unlike a symmetric one it stays within [0, 1] and has a width where all answers agree.
    """
    from scipy.special import ndtri  # noqa: PLC0415

    share, prompts = inference.value, inference.prompts
    if prompts < MINIMUM_PROMPTS:
        return Estimate(share)
    varies = inference.error > 0 and hits > 0
    size = share * (1 - share) / inference.error**2 if varies else prompts
    z = float(ndtri(0.5 + confidence / 2))
    centre = (share + z * z / (2 * size)) / (1 + z * z / size)
    half = z / (1 + z * z / size) * np.sqrt(share * (1 - share) / size + z * z / (4 * size * size))
    low, high = float(centre - half), float(centre + half)
    return Estimate(share, max(0.0, min(low, share)), min(1.0, max(high, share)))
