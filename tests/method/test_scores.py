"""Scores against leaving each sample out by hand, against enumeration of all batches, and the paper's sum."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openrlhf_rad.method.constraint import evaluate
from openrlhf_rad.method.scores import score
from openrlhf_rad.method.settings import TransportSettings
from openrlhf_rad.method.spectrum import MEAN, make_spectrum

EXACT = TransportSettings(indicator="exact")
CVAR, WANG, VAR = (
    make_spectrum("cvar", alpha=0.7),
    make_spectrum("wang", eta=1),
    make_spectrum("var", alpha=0.5),
)
FORMS = ["improvement", "no_worse", "spectral", "expected"]


def shortfall(form, q, y, margin):
    """ℓ: what a quantile q adds to how far the constraint is from being met."""
    if form == "no_worse":
        return max(q - y + margin, 0)
    return -max(y + margin - q, 0) if form == "improvement" else q


def value(form, sample, reference_n, spectrum, margin):
    """V[F] = ∫ φ(t) ℓ(F⁻¹(t), y(t)) dt, bin by bin; y takes neighbouring quantiles in turn in n − 1 bins."""
    ordered, size, cells = sorted(sample), len(sample), len(reference_n) - 1
    levels = sorted({i / size for i in range(size + 1)} | {k / cells for k in range(cells + 1)})
    mass = np.diff((MEAN if form == "expected" else spectrum).cumulative(levels))
    total = 0.0
    for low, high, weight in zip(levels, levels[1:], mass, strict=False):
        middle = (low + high) / 2
        q, k = ordered[int(middle * size)], int(middle * cells)
        total += weight * sum(shortfall(form, q, reference_n[k + side], margin) for side in (0, 1)) / 2
    return total


def scores(form, sample, reference_n, spectrum, margin, *, gradient="leave_one_out"):
    cost_b = np.array(sample, float)
    margin = margin if form in ("improvement", "no_worse") else 0.0
    weight_n = spectrum.weights(cost_b.size)
    ordered = np.sort(cost_b)
    result = evaluate(form, ordered, reference_n, weight_n, level=0.0, margin=margin, transport=EXACT)
    sampled = (MEAN if form == "expected" else spectrum).sampled(cost_b.size)
    return score(cost_b, ordered, result, sampled, gradient=gradient)


@pytest.mark.parametrize("form", FORMS)
@settings(deadline=None)  # the first call loads scipy
@given(
    costs=st.lists(st.integers(-3, 3), min_size=2, max_size=9),
    seed=st.integers(0, 10_000),
    spectrum=st.sampled_from([MEAN, CVAR, WANG, VAR]),
    margin=st.sampled_from([0.0, 0.5, 1.0]),
)
def test_the_score_is_the_batch_with_a_sample_left_out(form, costs, seed, spectrum, margin):
    reference_n = np.sort(np.random.default_rng(seed).integers(-3, 4, len(costs))).astype(float)
    found = scores(form, costs, reference_n, spectrum, margin)
    whole = value(form, costs, reference_n, spectrum, margin)
    expected = [
        -len(costs) * (whole - value(form, costs[:j] + costs[j + 1 :], reference_n, spectrum, margin))
        for j in range(len(costs))
    ]
    np.testing.assert_allclose(found, expected, atol=1e-9)


def test_the_value_of_a_sample_is_its_spectral_risk():
    """So that the score is −n (ρ̂_n − ρ̂_{n−1})."""
    sample = np.random.default_rng(1).normal(size=7)
    for spectrum in (MEAN, CVAR, WANG):
        assert value("spectral", sample, np.zeros(7), spectrum, 0) == pytest.approx(spectrum.risk(sample))


ANSWER_COSTS, LOGITS = np.array([0.0, 1.0, 3.0]), np.array([0.4, -0.3, 0.1])
BATCHES = np.array(list(itertools.product(range(3), repeat=6)))


def batch_probability(logit_k, size=6):
    policy_k = np.exp(logit_k) / np.exp(logit_k).sum()
    batches = np.array(list(itertools.product(range(3), repeat=size)))
    return policy_k[batches].prod(axis=1)


def slope_of_mean(values, size):
    """∇ Σ_batches P(batch) V(batch) in the logits, by central differences."""
    bumps = 1e-5 * np.eye(3)
    return np.array(
        [
            (batch_probability(LOGITS + bump, size) - batch_probability(LOGITS - bump, size)) @ values / 2e-5
            for bump in bumps
        ]
    )


def expected_estimate(advantage_of):
    """E[(1/n) Σ ∇log π · A] over all 3⁶ batches."""
    policy_k = np.exp(LOGITS) / np.exp(LOGITS).sum()
    total = np.zeros(3)
    for batch, share in zip(BATCHES, batch_probability(LOGITS), strict=True):
        total += share * np.mean((np.eye(3)[batch] - policy_k) * advantage_of(batch)[:, None], axis=0)
    return total


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("spectrum", [CVAR, WANG], ids=str)
def test_over_all_batches_it_is_the_gradient_of_the_expected_constraint(form, spectrum):
    reference_n, margin = np.array([0.0, 0.0, 0.7, 1.0, 1.5, 3.0]), 0.4
    found = expected_estimate(lambda b: scores(form, ANSWER_COSTS[b], reference_n, spectrum, margin))
    values = [value(form, ANSWER_COSTS[batch], reference_n, spectrum, margin) for batch in BATCHES]
    np.testing.assert_allclose(found, -slope_of_mean(values, 6), atol=1e-9)


def test_a_baseline_on_top_gives_the_gradient_of_one_sample_less():
    """What an estimator of OpenRLHF's makes of it: leave-one-out n/(n − 1) too long, spacing exactly."""
    pair = np.array([1, 0, 3, 2, 5, 4])  # RLOO with two answers a prompt

    def rloo(gradient):
        def advantage(batch):
            score_b = scores("spectral", ANSWER_COSTS[batch], np.zeros(6), CVAR, 0, gradient=gradient)
            return score_b - score_b[pair]

        return expected_estimate(advantage)

    smaller = [CVAR.risk(ANSWER_COSTS[list(batch)]) for batch in itertools.product(range(3), repeat=5)]
    np.testing.assert_allclose(rloo("spacing"), -slope_of_mean(smaller, 5), atol=1e-9)
    np.testing.assert_allclose(rloo("leave_one_out"), -6 / 5 * slope_of_mean(smaller, 5), atol=1e-9)


def test_of_the_mean_it_is_rloo_over_the_batch():
    cost_b = np.random.default_rng(1).normal(size=30) + 1e6
    others = (cost_b.sum() - cost_b) / 29
    found = scores("expected", cost_b, np.sort(cost_b), MEAN, 0)
    np.testing.assert_allclose(found, others - cost_b, atol=1e-8)
    plain = scores("expected", cost_b, np.sort(cost_b), MEAN, 0, gradient="spacing")
    np.testing.assert_allclose(plain, cost_b.max() - cost_b, atol=1e-8)


def test_tilted_is_the_double_sum_and_sees_ranks_only():
    cost_b = np.random.default_rng(2).integers(0, 6, 12).astype(float)
    weight_n, n = CVAR.weights(12), 12
    result = evaluate("no_worse", np.sort(cost_b), np.zeros(12), weight_n, level=0, transport=EXACT)
    particle_n = np.sort(cost_b)
    expected = [
        sum(w * a * (c <= q) / n for w, a, q in zip(weight_n, result.activation_n, particle_n, strict=True))
        for c in [*cost_b, 99.0]
    ]
    found = score(np.append(cost_b, 99), particle_n, result, CVAR, gradient="tilted")
    np.testing.assert_allclose(found, expected, atol=1e-12)
    bent = score(np.exp(cost_b), np.exp(particle_n), result, CVAR, gradient="tilted")
    np.testing.assert_allclose(bent, expected[:-1], atol=1e-12)


def test_an_unknown_gradient_is_refused():
    with pytest.raises(ValueError, match="leave_one_out"):
        scores("spectral", [1.0, 2.0], np.zeros(2), MEAN, 0, gradient="density")
