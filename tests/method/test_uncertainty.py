"""The standard error of a violation, against the bootstrap and simulation; the bound, against scipy."""

import functools
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from openrlhf_rad.method.constraint import FORMS, evaluate
from openrlhf_rad.method.particles import empirical_quantiles
from openrlhf_rad.method.settings import TransportSettings
from openrlhf_rad.method.spectrum import MEAN
from openrlhf_rad.method.step import RadStep
from openrlhf_rad.method.uncertainty import upper_confidence_bound, violation_standard_error
from openrlhf_rad.profile import RiskProfile, load_profile

EXACT = TransportSettings(indicator="exact")
CASES = [
    ("uniform", "no_worse", 0.5),
    ("uniform", "no_worse", 0.0),
    ("cvar", "no_worse", 0.5),
    ("cvar", "improvement", 0.5),
    ("linear", "spectral", 0.0),
    ("medical", "expected", 0.0),
]


@functools.cache
def weights(profile, n):
    return load_profile(profile).weights(n)


def violation(profile, form, margin, cost_b, reference):
    """The violation at level 0, written out, and its error."""
    n = cost_b.size
    particle_n, reference_n = empirical_quantiles(cost_b, n), empirical_quantiles(reference, n)
    weight_n = weights(profile, n)
    missed_n = {
        "no_worse": weight_n * np.maximum(particle_n - reference_n + margin, 0),
        "improvement": margin - weight_n * np.maximum(reference_n + margin - particle_n, 0),
        "spectral": weight_n * (particle_n - reference_n),
        "expected": particle_n,
    }[form]
    found = error_of(form, cost_b, reference_n, load_profile(profile).risk, margin)
    return missed_n.mean(), found


def error_of(form, cost_b, reference_n, spectrum, margin, **more):
    ordered, weight_n = np.sort(cost_b), spectrum.weights(cost_b.size)
    result = evaluate(form, ordered, reference_n, weight_n, level=0.0, margin=margin, transport=EXACT)
    bounded = FORMS[form].spectrum(spectrum)
    return violation_standard_error(result, cost_b, ordered, bounded.sampled(cost_b.size), **more)


@pytest.mark.parametrize(("profile", "form", "margin"), CASES)
def test_the_violation_is_that_of_the_constraint(profile, form, margin):
    rng = np.random.default_rng(5)
    cost_b, reference = rng.normal(0.3, 1, 32), rng.normal(size=32)
    quantiles = np.sort(cost_b), np.sort(reference)
    expected = evaluate(form, *quantiles, weights(profile, 32), level=0.0, margin=margin, transport=EXACT)
    assert violation(profile, form, margin, cost_b, reference)[0] == pytest.approx(expected.violation)


@pytest.mark.parametrize(("profile", "form", "margin"), CASES)
def test_it_is_the_spread_of_the_violation_over_batches(profile, form, margin):
    rng = np.random.default_rng(0)
    reference = rng.normal(size=3000)
    found = [violation(profile, form, margin, rng.normal(0.1, 1, 150), reference) for _ in range(300)]
    spread = np.std([value for value, _ in found])
    assert np.mean([error.standard_error for _, error in found]) == pytest.approx(spread, rel=0.15)


@pytest.mark.parametrize(("profile", "form", "margin"), CASES)
def test_it_agrees_with_the_bootstrap_of_one_batch(profile, form, margin):
    rng = np.random.default_rng(1)
    reference, cost_b = rng.lognormal(0, 0.5, 3000), rng.lognormal(0.1, 0.5, 400)
    resampled = [
        violation(profile, form, margin, rng.choice(cost_b, cost_b.size), reference)[0] for _ in range(400)
    ]
    _, found = violation(profile, form, margin, cost_b, reference)
    assert found.standard_error == pytest.approx(np.std(resampled), rel=0.2)


def test_of_the_mean_it_is_the_textbook_s():
    cost_b = np.random.default_rng(2).normal(size=50)
    _, found = violation("safe-rlhf", "expected", 0.0, cost_b, cost_b)
    assert found.standard_error == pytest.approx(stats.sem(cost_b), rel=1e-12)
    assert found.samples == pytest.approx(50)


def test_only_the_tail_carries_a_tail_mean():
    cost_b = np.random.default_rng(3).normal(size=200)
    _, found = violation("medical", "spectral", 0.0, cost_b, cost_b)
    assert found.samples == pytest.approx(20)


def test_answers_to_one_prompt_count_as_dependent():
    cost_p = np.random.default_rng(4).normal(size=40)
    cost_b, prompt_b = np.repeat(cost_p, 4), np.repeat(np.arange(40), 4).astype(str)
    arguments = (cost_b, np.sort(cost_b), MEAN, 0.0)
    alone = error_of("expected", *arguments)
    found = error_of("expected", *arguments, cluster_b=prompt_b)
    assert found.standard_error == pytest.approx(stats.sem(cost_p), rel=1e-12)  # four copies tell nothing new
    assert found.samples == 40
    assert alone.standard_error == pytest.approx(found.standard_error / 2, rel=0.02)


def test_a_constraint_that_feels_no_quantile_has_no_error():
    cost_b = np.arange(10.0)
    found = error_of("no_worse", cost_b, cost_b + 100, MEAN, 1.0)
    assert (found.standard_error, found.samples) == (0.0, 0.0)


ASKS = {
    "no_worse": "margin: 0.5, level: 0.1",
    "no_worse, floor": "margin: 0.5, level: 0.1, floor: -0.3",
    "improvement": "form: improvement, margin: 0.5, level: 0.2",
    "spectral": "form: spectral, level: 0.2",
    "spectral, quantile": "form: spectral, level: reference quantile 0.6",
    "expected": "form: expected, level: 0.4 of reference spread",
    "expected, quantile": "form: expected, level: reference quantile 0.4",
}


@pytest.mark.parametrize("risk", ["mean", "cvar α=0.8", "linear"])
@pytest.mark.parametrize("ask", ASKS)
def test_the_reference_s_error_is_the_spread_of_the_violation_over_references(ask, risk):
    """400 references of 300 costs beside one policy; each violation by the whole step."""
    profile = RiskProfile.from_text(
        f"risk: {risk}\nconstraint: {{{ASKS[ask]}}}\ntransport: {{indicator: exact}}\nunits: cost"
    )
    rng = np.random.default_rng(2)
    cost_b = np.sort(rng.normal(0.1, 0.9, 200))
    rows = []
    for _ in range(400):
        reference = np.maximum(rng.normal(size=300), -0.3) if "floor" in ask else rng.normal(size=300)
        step = RadStep(profile, reference, fixed_dual=0.0)
        if ask.startswith("no_worse"):  # a margin or a shift of its own is no part of the error
            step.ask = replace(step.ask, shift=0.5)
        if ask == "expected":
            step.ask = replace(step.ask, level=float(reference.mean()) - 0.4)
        metrics = step(cost_b).metrics
        rows.append((metrics["violation"], metrics["reference_error"]))
    violations, errors = np.array(rows).T
    assert errors.mean() == pytest.approx(violations.std(), rel=0.12)


def test_a_threshold_of_its_own_owes_the_reference_nothing():
    profile = RiskProfile.from_text("risk: mean\nconstraint: {form: expected, level: 0.1}")
    reference = np.random.default_rng(0).normal(size=256)
    assert RadStep(profile, reference)(reference[:32]).metrics["reference_error"] == 0


@pytest.mark.parametrize("samples", [2.0, 6.4, 64, None])
def test_the_bound_is_student_s(samples):
    law = stats.norm if samples is None else stats.t(samples - 1)
    expected = -0.2 + law.ppf(0.95) * 0.3
    assert upper_confidence_bound(-0.2, 0.3, 0.95, samples) == pytest.approx(expected, rel=1e-9)
    assert upper_confidence_bound(-0.2, 0.3, 0.5, samples) == pytest.approx(-0.2)


@pytest.mark.parametrize("confidence", [0.0, 1.0, 90.0, float("nan")])
def test_a_confidence_that_is_none_is_refused(confidence):
    message = rf"^confidence is {confidence}; it must lie in \(0, 1\); for nine in ten use 0\.9$"
    with pytest.raises(ValueError, match=message):
        upper_confidence_bound(0.0, 1.0, confidence)
