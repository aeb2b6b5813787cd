"""Scores against the double loop of the formula."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from openrlhf_rad.scores import score


def by_double_loop(cost_b, particle_n, weight_n, activation_n, gradient):
    n = len(particle_n)
    scores = []
    for c in cost_b:
        total = 0.0
        for i in range(n):
            spacing = particle_n[i + 1] - particle_n[i] if i + 1 < n else 0.0
            factor = 1 / n if gradient == "tilted" else spacing
            total += weight_n[i] * activation_n[i] * factor * (c <= particle_n[i])
        scores.append(total)
    return np.array(scores)


@pytest.mark.parametrize("gradient", ["spacing", "tilted"])
@given(
    costs=st.lists(st.integers(-5, 5), min_size=1, max_size=20),
    particles=st.lists(st.integers(-4, 4), min_size=1, max_size=12),
    seed=st.integers(0, 10_000),
)
def test_scores_are_the_double_sum(gradient, costs, particles, seed):
    # Whole numbers make many ties, where < and ≤ part.
    rng = np.random.default_rng(seed)
    cost_b, particle_n = np.array(costs, float), np.sort(np.array(particles, float))
    weight_n, activation_n = rng.exponential(size=particle_n.size), rng.uniform(size=particle_n.size)
    expected = by_double_loop(cost_b, particle_n, weight_n, activation_n, gradient)
    found = score(cost_b, particle_n, weight_n, activation_n, gradient)
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_without_weights_spacing_is_the_expected_cost_score():
    cost_b = np.random.default_rng(1).normal(size=30)
    found = score(cost_b, np.sort(cost_b), np.ones(30), np.ones(30))
    np.testing.assert_allclose(found, cost_b.max() - cost_b, atol=1e-12)


def test_tilted_sees_ranks_only():
    cost_b = np.random.default_rng(2).normal(size=10)
    ones = np.ones(10)
    plain = score(cost_b, np.sort(cost_b), ones, ones, "tilted")
    bent = score(np.exp(3 * cost_b), np.sort(np.exp(3 * cost_b)), ones, ones, "tilted")
    np.testing.assert_allclose(plain, bent)
    np.testing.assert_allclose(np.sort(plain), (np.arange(10) + 1) / 10)


def test_an_unknown_gradient_is_refused():
    with pytest.raises(ValueError, match="spacing"):
        score(np.ones(1), np.ones(1), np.ones(1), np.ones(1), "density")
