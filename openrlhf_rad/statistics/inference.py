"""Estimates with confidence intervals in closed form, from influence values, one a prompt.

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

ρ_φ(F) = ∫ φ(t) F⁻¹(t) dt (the paper, Eq. (8)) is an L-statistic. Its influence function is
u(x) = H(x) − E H, H(x) = ∫^x φ(F(z)) dz (Huber 1981, §3.3): a sum over sorted spacings, no resampling.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from openrlhf_rad.method.spectrum import MEAN, Spectrum
from openrlhf_rad.statistics.answers import Panel

Array = NDArray[np.float64]
#: Fewer prompts get no interval: of one or two the same answers come again and again, and would look certain.
MINIMUM_PROMPTS = 8
#: Independent answers below which no interval is given: none of those tried covers 93 % on heavy tails.
ENOUGH = 30
#: Those that the gate asks for.
GATE = 50
#: a, by which the skewness is taken too large.
ALLOWANCE = 1.5
#: That of the gate, for the catastrophes that the candidate is capable of and the sample lacks.
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

    def cautious(self, confidence: float) -> tuple[float, float] | None:
        """The gate's interval, whose lower end decides; None where none would hold.

        It decides at 1 − confidence, of which one end leaves out half: that and the allowance for skewness
        are kept for the catastrophe that the sample lacks.
        """
        if not self.certain or not self.rests_on(GATE) or self.largest > DOMINANT:
            return None
        tail = (1 - confidence) / 2
        return self.lower(tail, CAUTION), self.upper(tail, CAUTION)

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
        influence_p: u_p, one a prompt or a group of prompts, with sum 0.
        iid: Σ_b u_b² over single answers: the variance if answers to a prompt were independent. Its ratio to
            Σ_p u_p² says how many independent answers there are.
        size_p: the number of answers of each prompt.
        reliance: what the estimate rests on.
    """
    prompts, answers = size_p.size, int(size_p.sum())
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


#: A sample this many times as large whose heaviest weight is that much heavier: the weights rise beyond it.
BEYOND, RISE = 100, 1.2
#: The largest share of the answers that uneven weights count for: such risks see of a tail what a mean does
#: not, and on fewer answers the gate passes too often where the candidate's is heavier than the baseline's.
UNEVEN = 0.25


def risk_influence(spectrum: Spectrum, cost_b: Array) -> tuple[float, Array]:
    """ρ_φ of the costs, and the influence of each, shape (B,), mean 0, in the cost's own units."""
    value_r, influence_rb = influences(spectrum, cost_b[None], np.argsort(cost_b, kind="stable")[None])
    return float(value_r[0]), influence_rb[0]


def influences(spectrum: Spectrum, cost_rb: Array, order_rb: NDArray[np.intp]) -> tuple[Array, Array]:
    """ρ_φ of several samples, shape (R,), and the influence of each cost, shape (R, B).

    Args:
        order_rb: the indices that sort each sample upwards; several spectra share them.
    """
    if spectrum == MEAN:
        value_r = cost_rb.mean(axis=1)
        return value_r, cost_rb - value_r[:, None]
    weight_n, density = _weights(spectrum, cost_rb.shape[1])
    ordered_rb = np.take_along_axis(cost_rb, order_rb, axis=1)
    step_rb = np.zeros_like(ordered_rb)
    np.cumsum(density * np.diff(ordered_rb, axis=1), axis=1, out=step_rb[:, 1:])
    step_rb -= step_rb.mean(axis=1, keepdims=True)
    influence_rb = np.empty_like(step_rb)
    np.put_along_axis(influence_rb, order_rb, step_rb, axis=1)
    return ordered_rb @ weight_n / weight_n.size, influence_rb


@lru_cache(maxsize=2)
def _weights(spectrum: Spectrum, size: int) -> tuple[Array, Array]:
    """Weights of the sorted answers, and φ at j/n, j = 1 … n − 1; both sides of a comparison share them."""
    # φ at j/n as its mean over a bin around it: right for steps (CVaR), and finite at 1 (Wang).
    density: Array = size * np.diff(spectrum.cumulative((np.arange(1, size + 1) - 0.5) / size))
    return spectrum.weights(size), density


@lru_cache(maxsize=64)
def reliance(spectrum: Spectrum, prompts: int, answers: int) -> Reliance:
    """What a spectral risk of so many answers rests on."""
    weight_n = spectrum.weights(answers)
    heaviest, even = float(weight_n.max()), float(1 / np.mean(weight_n**2))
    beyond = BEYOND * answers
    unseen = beyond * (1 - float(spectrum.cumulative(np.array([1 - 1 / beyond]))[0]))
    rising = unseen > RISE * heaviest
    share = 1.0 if heaviest < 1 + 1e-9 else min(1 / heaviest, UNEVEN)
    # Of bounded weights only the heaviest answers are a tail; of rising ones there is no such end.
    tail = 1.5 * math.sqrt(prompts * even) if rising else math.sqrt(prompts * share)
    return Reliance(share, round(tail), rising)


def risk(panel: Panel, spectrum: Spectrum, cost_b: Array) -> Inference:
    """The spectral risk of one model."""
    return of_influence(panel, spectrum, *risk_influence(spectrum, cost_b))


def fall(panel: Panel, spectrum: Spectrum, baseline_b: Array, candidate_b: Array) -> Inference:
    """The fall of ρ_φ, paired by prompt: Table 3's weighted dominance difference (Eq. (16))."""
    baseline, candidate = risk_influence(spectrum, baseline_b), risk_influence(spectrum, candidate_b)
    return of_influence(panel, spectrum, baseline[0] - candidate[0], baseline[1] - candidate[1])


def average(panel: Panel, value_b: Array) -> Inference:
    """The mean over answers, with the prompts as clusters."""
    return of_influence(panel, MEAN, *risk_influence(MEAN, value_b))


def ratio(panel: Panel, value_b: Array, kept_b: NDArray[np.bool_]) -> Inference:
    """The mean over some answers, whose number is random too: a ratio, linearised."""
    count = int(kept_b.sum())
    value = float(value_b[kept_b].mean()) if count else float("nan")
    influence_b = np.where(kept_b, value_b - value, 0.0) / max(count, 1)
    size_p = panel.by_prompt(kept_b.astype(np.float64))
    held_p = size_p > 0
    held = reliance(MEAN, int(held_p.sum()), max(count, 1))
    influence_p = panel.by_prompt(influence_b)[held_p]
    return infer(value, influence_p, float(influence_b @ influence_b), size_p[held_p], held)


def prompts_needed(inference: Inference, spectrum: Spectrum, least: float) -> int:
    """About how many prompts, each answered as often, make ρ_φ rest on that many independent answers."""
    prompts, rests = inference.prompts, inference.effective
    for _ in range(20):  # where the heaviest weight grows with the answers, each step falls short
        if rests >= least * (1 - 1e-6):
            break
        prompts = max(prompts + 1, math.ceil(round(prompts * least / rests, 3)))
        answers = round(prompts * inference.answers / inference.prompts)
        share = reliance(spectrum, prompts, answers).share
        rests = answers * inference.independent / inference.answers * share
    return prompts


def of_influence(panel: Panel, spectrum: Spectrum, value: float, influence_b: Array) -> Inference:
    """An estimate with the influence of each answer, shape (B,), that rests on what the spectrum weighs."""
    scaled_b = influence_b / panel.answers
    held = reliance(spectrum, panel.prompts, panel.answers)
    return infer(value, panel.by_prompt(scaled_b), float(scaled_b @ scaled_b), panel.size_p, held)


def jackknife(
    panel: Panel,
    spectrum: Spectrum,
    statistic: Callable[[NDArray[np.bool_]], Array],
    *,
    groups: int = 500,
    seed: int = 0,
) -> list[Inference]:
    """Estimates whose influence has no closed form: it is what leaving a prompt out changes (Tukey 1958).

    Args:
        statistic: which answers are kept, shape (B,) → the estimates, shape (K,); smooth in the weights of
            answers, so no quantiles.
        groups: more prompts than these are left out in as many groups, drawn at random.
    """
    count = min(panel.prompts, groups)
    alone = count == panel.prompts
    group_p = np.arange(count) if alone else np.random.default_rng(seed).permutation(panel.prompts) % count
    group_b = np.repeat(group_p, panel.size_p)
    value_k = statistic(np.ones(panel.answers, dtype=bool))
    if count < 2:
        left_gk = value_k[None]
    else:
        left_gk = np.stack([statistic(group_b != group) for group in range(count)])
    influence_gk = (left_gk.mean(axis=0) - left_gk) * (count - 1) / count
    held = reliance(spectrum, panel.prompts, panel.answers)
    if not alone:  # sums over groups do not show the tail of single prompts
        held = Reliance(held.share, 0, held.rising)
    return [
        # As if the answers to a prompt were all alike: what each changes by itself is not known.
        infer(
            float(value), held_g, float(held_g @ held_g) * panel.prompts / panel.answers, panel.size_p, held
        )
        for value, held_g in zip(value_k, influence_gk.T, strict=True)
    ]
