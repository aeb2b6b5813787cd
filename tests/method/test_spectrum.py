"""Spectra against numerical integration of their densities and against closed forms."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, stats

from openrlhf_rad.errors import ProfileError
from openrlhf_rad.method.spectrum import MEASURES, make_spectrum

SPECTRA = [
    make_spectrum("mean"),
    make_spectrum("var", alpha=0.9),
    make_spectrum("var", alpha=0.97, bandwidth=0.1),
    make_spectrum("cvar", alpha=0.9),
    make_spectrum("cvar", alpha=0.37),
    make_spectrum("linear"),
    make_spectrum("exponential", kappa=0.01),
    make_spectrum("exponential", kappa=8),
    make_spectrum("power", gamma=1),
    make_spectrum("power", gamma=3.5),
    make_spectrum("wang", eta=0),
    make_spectrum("wang", eta=0.75),
]


def test_all_seven_measures_are_covered():
    assert {spectrum.measure for spectrum in SPECTRA} == set(MEASURES)
    assert len(MEASURES) == 7


@pytest.mark.parametrize("spectrum", SPECTRA, ids=str)
@pytest.mark.parametrize("n", [1, 7, 32])
def test_weights_integrate_the_density_over_bins(spectrum, n):
    def phi(t):
        return float(spectrum.density(t))

    alpha = dict(spectrum.parameters).get("alpha", 0.5)
    expected = []
    for i in range(n):
        breaks = [i / n, *([alpha] if i / n < alpha < (i + 1) / n else []), (i + 1) / n]
        pieces = itertools.pairwise(breaks)
        expected.append(n * sum(integrate.quad(phi, a, b, epsabs=1e-12, limit=200)[0] for a, b in pieces))
    np.testing.assert_allclose(spectrum.weights(n), expected, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("spectrum", SPECTRA, ids=str)
@pytest.mark.parametrize("n", [1, 2, 10, 1000])
def test_weights_are_non_negative_with_mean_one(spectrum, n):
    weight_n = spectrum.weights(n)
    assert weight_n.shape == (n,)
    assert weight_n.dtype == np.float64
    assert (weight_n >= 0).all()
    assert abs(weight_n.sum() - n) <= 1e-12 * n


@pytest.mark.parametrize("spectrum", SPECTRA, ids=str)
def test_the_cumulative_is_exact_at_its_ends(spectrum):
    assert spectrum.cumulative(0.0) == 0.0
    assert spectrum.cumulative(1.0) == 1.0


@pytest.mark.parametrize("spectrum", SPECTRA, ids=str)
def test_coherent_means_weights_that_never_fall(spectrum):
    rises = bool((np.diff(spectrum.weights(64)) >= -1e-9).all())
    assert rises == spectrum.coherent


@given(
    alpha=st.floats(0.01, 0.99),
    sample=st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=40),
)
def test_cvar_is_the_tail_mean_with_a_fractional_last_sample(alpha, sample):
    n = len(sample)
    left, total = (1 - alpha) * n, 0.0
    for cost in sorted(sample, reverse=True):
        taken = min(1.0, left)
        total += taken * cost
        left -= taken
        if left <= 0:
            break
    expected = total / ((1 - alpha) * n)
    assert make_spectrum("cvar", alpha=alpha).risk(sample) == pytest.approx(expected, rel=1e-7, abs=1e-7)


def test_closed_forms_on_samples():
    sample = np.random.default_rng(0).normal(size=41)
    pairs = np.maximum(sample[:, None], sample[None, :])
    assert make_spectrum("mean").risk(sample) == pytest.approx(sample.mean())
    # linear: the expected larger of two independent draws.
    assert make_spectrum("linear").risk(sample) == pytest.approx(pairs.mean())
    assert make_spectrum("power", gamma=2).risk(sample) == pytest.approx(pairs.mean())


def test_wang_shifts_a_normal_by_eta():
    quantiles = stats.norm.ppf((np.arange(200_000) + 0.5) / 200_000)
    assert make_spectrum("wang", eta=0.75).risk(quantiles) == pytest.approx(0.75, abs=1e-3)


def test_a_small_kappa_does_not_cancel():
    # G(t) → t − κ t(1 − t)/2 for κ → 0.
    t = np.linspace(0, 1, 11)
    cumulative = make_spectrum("exponential", kappa=1e-9).cumulative(t)
    np.testing.assert_allclose(cumulative, t, atol=1e-9)


@pytest.mark.parametrize(
    ("measure", "parameters", "message"),
    [
        ("cvar", {"alpha": 1.7}, "alpha is 1.7; it must lie in (0, 1); for the worst 10 % use 0.9"),
        ("cvar", {}, "alpha is missing; it must lie in (0, 1); for the worst 10 % use 0.9"),
        ("power", {"gamma": 0.5}, "gamma is 0.5; it must lie in [1, ∞); 1 is the mean and 2 is linear"),
        ("mean", {"alpha": 0.5}, "alpha is not a parameter of mean; remove it"),
        ("wang", {"eta": math.nan}, "eta is nan; it must lie in [0, ∞); 0 is the mean; 0.75 is moderate"),
    ],
)
def test_wrong_parameters_are_refused(measure, parameters, message):
    with pytest.raises(ProfileError) as caught:
        make_spectrum(measure, **parameters)
    assert str(caught.value) == message


def test_the_formula_shows_the_numbers():
    assert make_spectrum("cvar", alpha=0.9).formula == "φ(t) = 1{t ≥ 0.9} / (1 − 0.9)"
