"""The four constraint forms, their limits, and the identity of Prop. 2."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from openrlhf_rad.errors import TransportError
from openrlhf_rad.method.constraint import FORMS, evaluate
from openrlhf_rad.method.settings import TransportSettings
from openrlhf_rad.method.spectrum import make_spectrum
from openrlhf_rad.method.transport import sinkhorn

CVAR = make_spectrum("cvar", alpha=0.8)
EXACT = TransportSettings(indicator="exact")
RNG = np.random.default_rng(11)
REFERENCE = np.sort(RNG.lognormal(size=40))
POLICY = np.sort(RNG.lognormal(0.1, 1.1, size=40))
WEIGHT = CVAR.weights(40)


@given(
    seed=st.integers(0, 10_000),
    n=st.integers(1, 40),
    kind=st.sampled_from(["normal", "tied", "heavy"]),
    spectrum=st.sampled_from([CVAR, make_spectrum("wang", eta=1), make_spectrum("var", alpha=0.5)]),
)
def test_the_gaps_differ_by_the_spectral_risks(seed, n, kind, spectrum):
    rng = np.random.default_rng(seed)
    draw = {
        "normal": lambda: rng.normal(size=n),
        "tied": lambda: rng.integers(0, 3, n).astype(float),
        "heavy": lambda: rng.standard_cauchy(size=n),
    }[kind]
    x, y = np.sort(draw()), np.sort(draw())
    result = evaluate("spectral", x, y, spectrum.weights(n), level=0.0)
    difference = spectrum.risk(y) - spectrum.risk(x)
    scale = 1e-9 * (1 + np.abs(x).max() + np.abs(y).max())
    assert result.gap_forward - result.gap_reverse == pytest.approx(difference, abs=scale)
    assert result.value == pytest.approx(difference, abs=scale)


@given(seed=st.integers(0, 10_000), margin=st.floats(0, 3))
def test_no_worse_bounds_the_risk_by_margin_and_value(seed, margin):
    rng = np.random.default_rng(seed)
    x, y = np.sort(rng.standard_t(2, size=20)), np.sort(rng.standard_t(2, size=20))
    result = evaluate("no_worse", x, y, CVAR.weights(20), level=0.1, margin=margin, transport=EXACT)
    assert CVAR.risk(x) <= CVAR.risk(y) - margin + result.value + 1e-9


def test_improvement_by_hand():
    # Only the top pair counts: w = (0, 2), gap = 2·(5 − 3)/2.
    result = evaluate(
        "improvement",
        np.array([1.0, 3.0]),
        np.array([4.0, 5.0]),
        np.array([0.0, 2.0]),
        level=2.5,
        transport=EXACT,
    )
    assert result.value == pytest.approx(2.0)
    assert result.violation == pytest.approx(0.5)
    assert not result.satisfied
    np.testing.assert_array_equal(result.activation_n, [1.0, 1.0])


def test_no_worse_by_hand():
    policy, reference = np.array([1.0, 3.0]), np.array([2.0, 2.5])
    result = evaluate("no_worse", policy, reference, np.ones(2), level=0.1, transport=EXACT)
    assert result.value == pytest.approx(0.25)
    assert result.violation == pytest.approx(0.15)
    np.testing.assert_array_equal(result.activation_n, [0.0, 1.0])
    shifted = evaluate("no_worse", policy, reference, np.ones(2), level=2.0, margin=1.5, transport=EXACT)
    assert shifted.value == pytest.approx((0.5 + 2.0) / 2)
    assert shifted.satisfied
    np.testing.assert_array_equal(shifted.activation_n, [1.0, 1.0])


def test_expected_ignores_the_spectrum():
    result = evaluate("expected", POLICY, REFERENCE, WEIGHT, level=1.0)
    assert result.value == pytest.approx(POLICY.mean())
    assert result.violation == pytest.approx(POLICY.mean() - 1.0)
    np.testing.assert_array_equal(result.weight_n, np.ones(40))
    np.testing.assert_array_equal(result.activation_n, np.ones(40))


@pytest.mark.parametrize("indicator", ["sinkhorn", "exact"])
def test_improvement_turns_into_spectral_as_the_margin_grows(indicator):
    options = TransportSettings(indicator=indicator)
    spectral = evaluate("spectral", POLICY, REFERENCE, WEIGHT, level=0.3)
    far = evaluate("improvement", POLICY, REFERENCE, WEIGHT, level=0.3, margin=1e3, transport=options)
    assert far.value == pytest.approx(spectral.value, abs=1e-9)
    assert far.violation == pytest.approx(spectral.violation, abs=1e-9)
    np.testing.assert_allclose(far.activation_n, spectral.activation_n, atol=1e-9)
    near = evaluate("improvement", POLICY, REFERENCE, WEIGHT, level=0.3, transport=options)
    assert near.value > spectral.value + 0.01


@pytest.mark.parametrize("form", ["improvement", "no_worse"])
def test_a_small_epsilon_gives_the_exact_indicator(form):
    # Spaced pairs, each far from its neighbours.
    reference_n = 3.0 * np.arange(12)
    particle_n = reference_n + np.where(np.arange(12) % 3, 0.8, -0.8)
    smooth = TransportSettings(epsilon=0.02, tolerance=1e-9)
    found = [
        evaluate(form, particle_n, reference_n, np.ones(12), level=0.1, transport=options).activation_n
        for options in (smooth, EXACT)
    ]
    assert set(found[1]) == {0.0, 1.0}
    np.testing.assert_allclose(found[0], found[1], atol=1e-3)


def test_at_the_reference_only_a_margin_wakes_the_tail():
    asleep = evaluate("improvement", REFERENCE, REFERENCE, WEIGHT, level=0.1, transport=EXACT)
    assert not asleep.activation_n.any()
    for form in ("improvement", "no_worse"):
        smooth = evaluate(form, REFERENCE, REFERENCE, WEIGHT, level=0.1, margin=0.5)
        assert smooth.activation_n[-8:].min() > 0.5
        exact = evaluate(form, REFERENCE, REFERENCE, WEIGHT, level=0.1, margin=0.5, transport=EXACT)
        np.testing.assert_array_equal(exact.activation_n, np.ones(40))


def test_quantiles_far_above_the_reference_keep_their_pull_only_under_no_worse():
    particle_n = REFERENCE + np.where(np.arange(40) >= 36, 50.0, 0.0)
    no_worse = evaluate("no_worse", particle_n, REFERENCE, WEIGHT, level=0.1, margin=0.5)
    improvement = evaluate("improvement", particle_n, REFERENCE, WEIGHT, level=0.1, margin=0.5)
    assert no_worse.activation_n[-4:].min() > 0.99
    assert improvement.activation_n[-4:].max() < 0.01


@pytest.mark.parametrize("form", ["improvement", "no_worse"])
def test_the_violation_is_free_of_entropic_bias(form):
    smooth = TransportSettings(epsilon=2.0)
    with_entropy = evaluate(form, POLICY, REFERENCE, WEIGHT, level=0.1, margin=0.2, transport=smooth)
    without = evaluate(form, POLICY, REFERENCE, WEIGHT, level=0.1, margin=0.2, transport=EXACT)
    assert with_entropy.violation == without.violation
    assert with_entropy.plan.iterations > 0
    assert without.plan.iterations == 0
    assert np.abs(with_entropy.activation_n - without.activation_n).max() > 0.01


@pytest.mark.parametrize("form", FORMS)
def test_activations_lie_between_zero_and_one(form):
    result = evaluate(form, POLICY, REFERENCE, WEIGHT, level=0.1)
    assert (result.activation_n >= 0).all()
    assert (result.activation_n <= 1).all()


def test_a_plan_that_is_no_coupling_is_refused():
    options = TransportSettings(epsilon=0.001, max_iterations=1)
    shuffled = np.sort(RNG.normal(size=40))
    with pytest.raises(TransportError, match=r"raise transport\.epsilon or transport\.max_iterations"):
        evaluate("improvement", shuffled, REFERENCE, WEIGHT, level=0.1, transport=options)


@pytest.mark.parametrize(("form", "margin"), [("nearly", 0.0), ("no_worse", -1.0), ("spectral", 1.0)])
def test_a_wrong_form_or_margin_is_refused(form, margin):
    with pytest.raises(ValueError, match=r"form is|margin is"):
        evaluate(form, POLICY, REFERENCE, WEIGHT, level=0.1, margin=margin)


@pytest.mark.parametrize("form", ["improvement", "no_worse"])
@pytest.mark.parametrize("tied", [False, True])
def test_the_smooth_change_across_a_gap_is_that_of_pot_s_potential(form, tied):
    """f where the particles are the sources of the plan, g where they are its targets."""
    rng = np.random.default_rng(2)
    draw = (lambda: rng.integers(0, 3, 12).astype(float)) if tied else (lambda: rng.normal(size=12))
    particle_n, reference_n, epsilon = np.sort(draw()), np.sort(draw()), 0.3
    found = evaluate(
        form,
        particle_n,
        reference_n,
        np.ones(12),
        level=0.1,
        transport=TransportSettings(epsilon, tolerance=1e-12),
    ).change_g
    x_n, y_n = (particle_n, reference_n) if form == "improvement" else (reference_n, particle_n)
    plan = sinkhorn(x_n, y_n, epsilon, solver="pot", tol=1e-12, max_iterations=50_000)
    expected = -np.diff(plan.f) if form == "improvement" else np.diff(plan.g)
    np.testing.assert_allclose(found, expected, atol=1e-7)
    assert found.max() > 0.1
