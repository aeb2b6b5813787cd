"""How sure a violation is: its standard error from one batch, and its upper confidence bound.

HC-RLHF (Chittepu, Metevier et al. 2025, arXiv 2506.08266) trains against mean + (C₁ t/√n) · deviation of the
costs instead of their mean, with Student's t at the wanted confidence. Here the constraint is a function of
quantiles, so that its standard error takes the place of deviation/√n.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from openrlhf_rad.method.constraint import ConstraintResult
from openrlhf_rad.method.reference import Ask
from openrlhf_rad.method.scores import score
from openrlhf_rad.method.spectrum import SampledSpectrum

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Uncertainty:
    """Of one batch's violation.

    Attributes:
        standard_error: in the unit of the costs.
        samples: how many samples carry the violation, (Σ k)²/Σ k² over its weights k on quantiles: the whole
            batch for the mean, (1 − α) of it for CVaR α.
    """

    standard_error: float
    samples: float


def upper_confidence_bound(
    violation: float, standard_error: float, confidence: float, samples: float | None = None
) -> float:
    """violation + t · standard_error; the true violation lies below it with probability ``confidence``.

    Args:
        confidence: in (0, 1), one-sided; 0.5 gives the violation back.
        samples: t is Student's with samples − 1 degrees of freedom, at least 1; None is the normal limit.

    Raises:
        ValueError: a confidence outside (0, 1).
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence is {confidence}; it must lie in (0, 1); for nine in ten use 0.9")
    degrees = math.inf if samples is None else max(samples - 1, 1)
    t = special.ndtri(confidence) if degrees == math.inf else special.stdtrit(degrees, confidence)
    return violation + float(t) * standard_error


def violation_standard_error(
    result: ConstraintResult,
    cost_b: Array,
    particle_n: Array,
    sampled: SampledSpectrum,
    *,
    cluster_b: ArrayLike | None = None,
) -> Uncertainty:
    """Error of the violation of :func:`~openrlhf_rad.method.constraint.evaluate` given its reference.

    Each form's violation is Σ k_i q_i up to constants, with k_i = w_i a_i/n and a_i the exact indicator of
    quantile i; its influence function at c is −∫_c k dq up to a constant: (n − 1)/n times the score that
    leaves one out, centred. So the error is the jackknife's, the standard deviation of that score over √B
    (Serfling 1980, section 8.1), enlarged by Bessel's factor for the samples that carry it.

    Args:
        result: of the constraint on these particles. cost_b, particle_n: in its unit.
        sampled: the spectrum that is bounded, on n samples.
        cluster_b: a label a sample; samples of one label, such as answers to one prompt, count as dependent.

    Returns:
        0 on 0 samples where the constraint feels no quantile.
    """
    n, carried_n = particle_n.size, sampled.weight_n * result.exact_n
    if not carried_n.any():
        return Uncertainty(0.0, 0.0)
    exact = replace(result, change_g=result.exact_g)
    influence_b = (1 - 1 / n) * score(cost_b, particle_n, exact, sampled)
    influence_b = influence_b - influence_b.mean()
    samples = float(carried_n.sum() ** 2 / (carried_n @ carried_n)) * cost_b.size / n
    if cluster_b is not None:
        _, place_b = np.unique(np.asarray(cluster_b), return_inverse=True)
        influence_b = np.asarray(np.bincount(place_b.reshape(-1), weights=influence_b), dtype=np.float64)
        samples = min(samples, float(influence_b.size))
    bessel = samples / max(samples - 1, 1.0)
    return Uncertainty(math.sqrt(bessel * float(influence_b @ influence_b)) / cost_b.size, samples)


def reference_standard_error(ask: Ask, cost_b: Array) -> float:
    """Standard error of the violation by the sample of reference costs, the policy's costs held fixed.

    The influence function of ∫ φ(t) ℓ(F_0⁻¹(t)) dt at c is ∫^c φ(F_0(y)) dℓ(y) (Serfling 1980, section 8.1):
    a sum over the gaps of the sorted reference, ℓ_i being what the constraint feels of y_i beside the
    policy's quantile of the same level. Level and margin are held as they were resolved.

    Args:
        cost_b: the policy's costs, in their own units.

    Returns:
        In the cost's own units; 0 for a threshold that the reference plays no part in.
    """
    level, reference_r, form = ask.settings.level, ask.reference_r, ask.form
    size = reference_r.size
    if form.threshold(level):
        if level.unit != "quantile":
            return 0.0
        # ρ_w(C_θ) or E[C_θ] stays below F_0⁻¹(p): the binomial interval of a quantile, one deviation wide.
        step = math.sqrt(level.value * (1 - level.value) / size)
        low, high = (level.value + side * step for side in (-1, 1))
        ends = np.quantile(reference_r, [max(low, 0.0), min(high, 1.0)], method="inverted_cdf")
        return float(ends[1] - ends[0]) / 2
    place_g = np.arange(1, size)
    # Across the gap at level i/N the policy's quantile is one and the same, the ⌈i·n/N⌉th cost: in whole
    # numbers, which no rounding moves, and by one sort, where np.quantile's selection is quadratic in N.
    beside_g = np.sort(cost_b)[(place_g * cost_b.size + size - 1) // size - 1]
    change_g = form.reference_changes(reference_r, beside_g, ask.shift, ask.least)
    influence_r = np.append(0.0, np.cumsum(ask.sampled.density_g * change_g))
    return float(influence_r.std(ddof=1)) / math.sqrt(size)
