"""Confidence intervals in closed form from influence values, one a prompt: O(n) for any number of answers.

An estimate θ̂ ≈ θ + Σ_p u_p has standard error s = √(P/(P−1) Σ u_p²). Two intervals are known: the usual
θ̂ ± t s, short on the side of a skew tail, and Hall's (1992, "On the removal of skewness by transformation"),
which corrects for the skewness k = √P·mean(u³)/mean(u²)^{3/2}/P by the monotone cubic
g(T) = T + kT²/3 + k²T³/27 + k/6, but is short on the other side when the skewness is noise. The interval
here reaches to the further end of the two.

What a sample lacks it cannot show, so four things are taken on the careful side; ``benchmarks/intervals.py``
shows what each costs and gains:

* a sample of n answers is less skewed than its distribution, so k is taken (1 + a/√n)-fold;
* t has the freedom of the influences, (Σu²)²/Σu⁴, never more than the answers that the estimate rests on;
* answers to one prompt count as correlated by at least 1/10;
* where the largest influences look like a tail without variance (Hill 1975) there is no interval.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

#: Fewer prompts get no interval: of one or two the same answers come again and again, and would look certain.
MINIMUM_PROMPTS = 8
#: Independent answers below which no interval is given: none of those tried covers 93 % on heavy tails.
ENOUGH = 30
#: Those that the gate asks for.
GATE = 50
#: a, by which the skewness is taken too large.
ALLOWANCE = 1.5
#: That of the gate, for the catastrophes that blue is capable of and the sample lacks.
CAUTION = 8.0
#: The least correlation that answers to one prompt are taken to have: a sample that lacks the catastrophes,
#: which come in clusters, looks independent.
CLUSTERED = 0.1
#: 1/α at which the variance of a tail x^(−α) ceases to be finite.
INFINITE = 0.5
_DOUBT = 1.645
#: A share of the variance that no single prompt should make up.
DOMINANT = 0.5
METHOD = (
    "95 % intervals in closed form from influence functions, prompts as clusters, paired: the"
    " further of the t interval and Hall's skewness-corrected one, with the freedom of the influences; none"
    " on fewer than 30 independent answers, or where the variance looks infinite"
)
INFINITE_VARIANCE = (
    "the largest differences look like a tail without variance (Hill's index {:.1f}; up to 2 there is none),"
    " of which no number of answers tells enough; judge it by a risk that weighs the tail less, such as CVaR"
)


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % interval, in the unit of what is estimated; no interval is None."""

    value: float
    low: float | None = None
    high: float | None = None

    @property
    def excludes_zero(self) -> bool:
        """Whether the interval lies on one side of 0."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)


@dataclass(frozen=True)
class Reliance:
    """What an estimate rests on.

    Attributes:
        share: of the answers, if each weighed as much as the heaviest: 1 for the mean, 1 − α for CVaR_α, and
            for uneven weights at most a quarter.
        tail: how many of the largest influences tell how heavy the tail is.
        rising: whether the weights still rise beyond the sample, so that its tail has to be light.
    """

    share: float = 1.0
    tail: int = 0
    rising: bool = False


@dataclass(frozen=True)
class Inference:
    """An estimate with what its intervals need.

    Attributes:
        value: θ̂.
        error: its standard error s.
        skewness: k, of the estimate itself: that of one prompt's influence over √P.
        independent: n, the number of independent answers.
        share: the share of them that θ̂ rests on.
        prompts: P. answers: B. copies: B over the mean size of an answer's prompt, Σm²/B: the number of
            independent answers if those to a prompt were all alike.
        freedom: (Σu²)²/Σu⁴, a third of P for normal influences.
        largest: the largest share of s² that comes from one prompt.
        index: Hill's estimate of 1/α; 0 where costs take few values, so that there is no tail.
        infinite: whether α looks like 2 or less.
    """

    value: float
    error: float
    skewness: float
    independent: float
    share: float
    prompts: int
    answers: int
    copies: float
    freedom: float
    largest: float
    index: float
    infinite: bool

    def estimate(self, confidence: float = 0.95) -> Estimate:
        """With the two-sided interval, where there is one."""
        tail = (1 - confidence) / 2
        if not self.certain:
            return Estimate(self.value)
        return Estimate(self.value, self.lower(tail), self.upper(tail))

    def cautious(self, confidence: float) -> float | None:
        """The gate's lower bound; None where none would hold.

        Half of its level and the allowance for skewness are kept for the catastrophe that the sample lacks.
        """
        if not self.certain or not self.rests_on(GATE) or self.largest > DOMINANT:
            return None
        return self.lower((1 - confidence) / 2, CAUTION)

    @property
    def effective(self) -> float:
        """The number of independent answers that θ̂ rests on, for CVaR_α those of the worst 1 − α."""
        return self.independent * self.share

    @property
    def sufficient(self) -> bool:
        """Whether there are answers enough for an interval, of a tail that an interval knows."""
        return self.prompts >= MINIMUM_PROMPTS and self.rests_on(ENOUGH) and not self.infinite

    @property
    def certain(self) -> bool:
        """Whether there is an interval at all: not where nothing varies."""
        return self.sufficient and self.error > 0

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

        t = float(stdtrit(max(min(self.effective, self.freedom) - 1, 1.0), 1 - tail))
        k = skewness * (1 + allowance / np.sqrt(self.independent))
        if abs(k) < 1e-9:
            return t
        return max(t, float(3 / k * (np.cbrt(1 + k * (t - k / 6)) - 1)))


def infer(
    value: float, influence_p: Array, iid: float, size_p: NDArray[Any], reliance: Reliance = Reliance()
) -> Inference:
    """Inference from influence values.

    Args:
        value: the estimate.
        influence_p: u_p, one a prompt, with sum 0.
        iid: Σ_b u_b² over single answers: the variance if answers to a prompt were independent. Its ratio to
            Σ_p u_p² says how many independent answers there are.
        size_p: the number of answers of each prompt.
        reliance: what the estimate rests on.
    """
    prompts, answers = influence_p.size, int(size_p.sum())
    crowd = float(size_p @ size_p) / max(answers, 1)
    copies = answers / max(crowd, 1.0)
    square_p = influence_p * influence_p
    square = float(square_p.sum())
    if prompts < 2 or square <= 0:
        held = reliance.share
        return Inference(
            value, 0.0, 0.0, float(prompts), held, prompts, answers, copies, 1.0, 0.0, 0.0, False
        )
    index = hill(np.abs(influence_p), reliance.tail)
    doubt = 1.0 if reliance.rising else 1 - _DOUBT / np.sqrt(max(reliance.tail, 1))
    return Inference(
        value,
        float(np.sqrt(square * prompts / (prompts - 1))),
        float(square_p @ influence_p) / square**1.5,
        answers * min(iid / square, 1 / (1 + CLUSTERED * (crowd - 1))),
        reliance.share,
        prompts,
        answers,
        copies,
        square**2 / float(square_p @ square_p),
        float(square_p.max() / square),
        index,
        bool(index * doubt >= INFINITE),
    )


def hill(size_p: Array, count: int) -> float:
    """1/α of a tail x^(−α) from the largest values (Hill 1975): the mean of log(x_i/x_{count+1}).

    0 where half of them are tied: such values are a few, and bounded.
    """
    if not 0 < count < size_p.size:
        return 0.0
    largest = np.sort(np.partition(size_p, -count - 1)[-count - 1 :])
    steps = np.count_nonzero(np.diff(largest) > 1e-9 * largest[-1])
    return float(np.log(largest[1:] / largest[0]).mean()) if 2 * steps > count and largest[0] > 0 else 0.0


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
