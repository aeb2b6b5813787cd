"""Every spectrum that a profile can name, against definitions, quadrature and direct sample formulas."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import integrate

from openrlhf_rad.errors import ProfileError
from openrlhf_rad.method.spectrum import MEASURES, make_mixture, make_piecewise, make_spectrum
from openrlhf_rad.profile import RiskProfile
from openrlhf_rad.profile.risk import read_spectrum
from openrlhf_rad.profile.yaml import dump

LEVEL = st.floats(0.001, 0.999)
RANGES = {
    "alpha": LEVEL,
    "bandwidth": st.floats(0.01, 1),
    "kappa": st.floats(1e-6, 200),
    "gamma": st.floats(1, 50),
    "eta": st.floats(0, 3),
}


def _measure(name):
    parameters = {key: RANGES[key] for key in MEASURES[name].parameters}
    return st.builds(lambda **values: make_spectrum(name, **values), **parameters)


@st.composite
def _steps(draw):
    levels = draw(st.lists(LEVEL, max_size=8, unique=True))
    size = len(levels) + 1
    heights = draw(st.lists(st.floats(0, 1e6), min_size=size, max_size=size).filter(lambda h: max(h) > 1e-3))
    return make_piecewise(list(zip([0.0, *sorted(levels)], sorted(heights), strict=True)))


SIMPLE = st.one_of(*(_measure(name) for name in MEASURES), _steps())


@st.composite
def _members(draw):
    members = draw(st.lists(SIMPLE, min_size=2, max_size=5))
    raw = draw(st.lists(st.floats(0, 1), min_size=len(members), max_size=len(members)))
    total = math.fsum(raw)
    raw = [w / total for w in raw] if total > 1e-6 else [1.0, *[0.0] * (len(raw) - 1)]
    return list(zip(raw, members, strict=True))


SPECTRUM = st.one_of(SIMPLE, _members().map(make_mixture))
# Denser where numbers are hardest: all weight on one sample, a step in the last bin.
NARROW = make_piecewise([(0, 0), (1 - 2**-53, 1)])


@given(spectrum=SPECTRUM, n=st.integers(1, 500))
@example(spectrum=NARROW, n=7)
@example(spectrum=make_piecewise([(0, 5e-324)]), n=3)
@example(spectrum=make_piecewise([(0, 1e308), (0.5, 1.7e308)]), n=3)
def test_weights_are_never_negative_and_have_mean_one(spectrum, n):
    weight_n = spectrum.weights(n)
    assert weight_n.shape == (n,)
    assert (weight_n >= -1e-12).all()
    assert abs(weight_n.mean() - 1) <= 1e-12
    if spectrum.coherent:
        assert (np.diff(weight_n) >= -1e-9).all()


@given(spectrum=SPECTRUM, n=st.integers(1, 40), times=st.integers(2, 12))
def test_coarse_weights_are_the_averages_of_fine_ones(spectrum, n, times):
    fine = spectrum.weights(n * times).reshape(n, times).mean(axis=1)
    np.testing.assert_allclose(spectrum.weights(n), fine, rtol=0, atol=1e-10)


@given(
    members=_members(),
    n=st.integers(1, 64),
    sample=st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=30),
)
def test_mixtures_are_linear_in_weights_and_risk(members, n, sample):
    mixture = make_mixture(members)
    by_hand = sum(weight * member.weights(n) for weight, member in members)
    np.testing.assert_allclose(mixture.weights(n), by_hand, rtol=0, atol=1e-9)
    risk = sum(weight * member.risk(sample) for weight, member in members)
    assert mixture.risk(sample) == pytest.approx(risk, abs=1e-8)


@given(alpha=LEVEL, weight=st.floats(0, 1), sample=st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=40))
def test_cvar_and_mean_agree_with_direct_sample_formulas(alpha, weight, sample):
    cost_b = np.array(sample)
    # Rockafellar and Uryasev: CVaR is the least of q + E[(X − q)₊]/(1 − α), met at a sample.
    cvar = min(q + np.maximum(cost_b - q, 0).mean() / (1 - alpha) for q in cost_b)
    tail = make_spectrum("cvar", alpha=alpha)
    assert tail.risk(sample) == pytest.approx(cvar, abs=1e-6)
    assert make_spectrum("mean").risk(sample) == pytest.approx(cost_b.mean(), abs=1e-9)
    both = make_mixture([(weight, tail), (1 - weight, make_spectrum("mean"))])
    assert both.risk(sample) == pytest.approx(weight * cvar + (1 - weight) * cost_b.mean(), abs=1e-6)
    # CVaR is the step spectrum 0, 1 with its step at α.
    assert make_piecewise([(0, 0), (alpha, 2.5)]).risk(sample) == pytest.approx(cvar, abs=1e-6)


def _breaks(spectrum):
    plain = spectrum.plain()
    found = set()
    for member in plain.get("mixture", [plain]):
        found.update(level for level, _ in member.get("piecewise", []))
        if "alpha" in member:
            # The bell of VaR is found by the quadrature only when a piece is as narrow as it is.
            spread = member.get("bandwidth", 0.0)
            found.update(member["alpha"] + step * spread for step in (-6, -2, 0, 2, 6))
        found.update({1 - 5 / member["kappa"], 1 - 25 / member["kappa"]} if "kappa" in member else ())
    return found


@settings(max_examples=60, deadline=None)
@given(spectrum=SPECTRUM, ends=st.lists(st.floats(0, 1), min_size=2, max_size=2))
def test_the_cumulative_is_the_integral_of_the_density(spectrum, ends):
    low, high = sorted(ends)
    points = [low, *sorted(t for t in _breaks(spectrum) if low < t < high), high]
    integral = sum(
        integrate.quad(lambda t: float(spectrum.density(t)), a, b, epsabs=1e-10, limit=200)[0]
        for a, b in itertools.pairwise(points)
        if b - a > 1e-12
    )
    expected = float(spectrum.cumulative(high) - spectrum.cumulative(low))
    assert integral == pytest.approx(expected, abs=2e-7)


@given(spectrum=SPECTRUM)
@example(spectrum=NARROW)
@example(spectrum=make_spectrum("exponential", kappa=1e300))
def test_the_expression_and_the_long_form_read_back_as_the_same_spectrum(spectrum):
    again = read_spectrum(str(spectrum))
    assert again == spectrum
    assert hash(again) == hash(spectrum)
    profile = RiskProfile.from_text(dump({"risk": spectrum.plain()}))
    assert profile.risk == spectrum
    assert RiskProfile.from_text(profile.to_yaml()).hash == profile.hash


def test_the_largest_spectrum_reads_back():
    steps = make_piecewise([(k / 101, (k + 1) / 3) for k in range(100)])
    largest = make_mixture([(1 / 20, steps)] * 20)
    assert read_spectrum(str(largest)) == largest
    assert RiskProfile.from_text(dump({"risk": largest.plain()})).risk == largest


def test_steps_by_hand():
    spectrum = make_piecewise([(0, 0.2), (0.9, 1), (0.99, 5)])
    # 0.2 · 0.9 + 1 · 0.09 + 5 · 0.01 = 0.32
    np.testing.assert_allclose(spectrum.density([0, 0.5, 0.9, 0.95, 0.99, 1]) * 0.32, [0.2, 0.2, 1, 1, 5, 5])
    np.testing.assert_allclose(spectrum.cumulative([0, 0.45, 0.9, 0.99, 1]), [0, 0.28125, 0.5625, 0.84375, 1])
    np.testing.assert_allclose(spectrum.weights(10), [*[0.625] * 9, 4.375])
    assert str(spectrum) == "piecewise 0=0.2 0.9=1 0.99=5"
    assert spectrum.formula == "φ(t) = 0.625 from t = 0, 3.125 from t = 0.9, 15.62 from t = 0.99"
    assert spectrum.density([[0.1], [0.95]]).shape == (2, 1)


def test_mixtures_by_hand():
    mixture = make_mixture([(0.8, make_spectrum("cvar", alpha=0.9)), (0.2, make_spectrum("mean"))])
    np.testing.assert_allclose(mixture.weights(10), [*[0.2] * 9, 8.2])
    assert str(mixture) == "0.8*cvar α=0.9 + 0.2*mean"
    assert mixture.formula == "φ(t) = 0.8·[1{t ≥ 0.9} / (1 − 0.9)] + 0.2·[1]"
    assert mixture.coherent
    var = make_spectrum("var", alpha=0.9)
    assert not make_mixture([(0.1, var), (0.9, make_spectrum("mean"))]).coherent
    assert make_mixture([(0, var), (1, make_spectrum("mean"))]).coherent
    nested = make_mixture([(0.5, mixture), (0.5, var)])
    assert str(nested) == "0.4*cvar α=0.9 + 0.1*mean + 0.5*var α=0.9 h=0.05"
    # Wang's φ is infinite at 1; a member without weight must not make that 0 · ∞.
    assert make_mixture([(0, make_spectrum("wang", eta=1)), (1, make_spectrum("mean"))]).density(1.0) == 1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: make_piecewise([(0, 2), (0.5, 1)]),
            "piecewise.1.1 is 1; heights must not fall (the one before is 2); worse costs never count less;"
            " raise it or lower those before",
        ),
        (
            lambda: make_piecewise([(math.nan, math.inf)]),
            "piecewise.0.0 is nan; a level must lie in [0, 1); for the worst 10 % use 0.9\n"
            "piecewise.0.1 is inf; a height must be ≥ 0 and finite; heights are relative to each other",
        ),
        (
            lambda: make_piecewise([]),
            "piecewise is a list of 0 steps; it must hold 1 to 100; write for instance [[0, 0.2], [0.9, 1]]",
        ),
        (
            lambda: make_mixture([(0.5, make_spectrum("mean")), (math.nan, make_spectrum("mean"))]),
            "mixture.1.weight is nan; a weight must be ≥ 0 and finite; raise this weight and lower another",
        ),
        (
            lambda: make_mixture([(0.5, make_spectrum("mean")), (1, make_spectrum("linear"))]),
            "mixture is weighted 0.5, 1; weights must sum to 1 (their sum is 1.5);"
            " write 0.333333333, 0.666666667",
        ),
        (
            lambda: make_mixture([]),
            "mixture is a list of 0 members; it must hold 1 to 20; put small ones together",
        ),
    ],
)
def test_wrong_parts_are_refused(make, message):
    with pytest.raises(ProfileError) as caught:
        make()
    assert str(caught.value) == message


def test_spectra_cannot_be_changed():
    with pytest.raises(AttributeError):
        make_piecewise([(0, 1)]).steps = ()  # type: ignore[misc]
