"""Gaps and plans against POT's linear program, a second Sinkhorn and finite differences."""

import time
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from openrlhf_rad.errors import CostError, TransportError
from openrlhf_rad.method.particles import empirical_quantiles, quantile_levels
from openrlhf_rad.method.transport import dominance_gap, sinkhorn

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # torch, which POT imports where present, warns of its own dependencies
    import ot

RNG = np.random.default_rng(7)
PAIRS = {
    "normal": (RNG.normal(size=20), RNG.normal(0.3, 1.2, size=20)),
    "heavy": (RNG.standard_t(2, size=20), RNG.standard_t(2, size=20) + 1),
    "tied": (RNG.integers(0, 3, 20).astype(float), RNG.integers(0, 3, 20).astype(float)),
    "uneven": (RNG.normal(size=9), RNG.normal(size=14)),
}


def ground_cost(x, y):
    return np.maximum(y[None, :] - x[:, None], 0.0)


@pytest.mark.parametrize("name", ["normal", "heavy", "tied"])
def test_the_gap_is_the_linear_program(name):
    x, y = PAIRS[name]
    assert dominance_gap(x, y) == pytest.approx(ot.emd2([], [], ground_cost(x, y)), abs=1e-12)


@pytest.mark.parametrize("name", PAIRS)
def test_the_exact_plan_is_the_linear_program(name):
    x, y = PAIRS[name]
    result = sinkhorn(x, y, 0.1, solver="exact")
    assert result.cost == pytest.approx(ot.emd2([], [], ground_cost(x, y)), abs=1e-12)
    assert result.converged
    assert result.marginal_error < 1e-14


def test_the_gap_plus_its_reverse_is_the_wasserstein_distance():
    x, y = PAIRS["heavy"]
    assert dominance_gap(x, y) + dominance_gap(y, x) == pytest.approx(ot.emd2_1d(x, y, metric="euclidean"))


def test_weights_follow_the_sorted_order():
    assert dominance_gap([3.0, 1.0], [2.0, 7.0], [1.0, 5.0]) == pytest.approx((1 * 1 + 5 * 4) / 2)


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("epsilon", [0.05, 0.5])
def test_sinkhorn_agrees_with_a_log_domain_solver_started_cold(name, epsilon):
    x, y = PAIRS[name]
    n, m = x.size, y.size
    cost = ground_cost(x, y)
    options = {"numItermax": 200_000, "stopThr": 1e-12, "warn": False}
    plan = ot.bregman.sinkhorn_log(np.full(n, 1 / n), np.full(m, 1 / m), cost, epsilon, **options)
    value = (plan * cost).sum() + epsilon * (plan * np.log(plan)).sum()
    result = sinkhorn(x, y, epsilon, tol=1e-12, max_iterations=200_000)
    above = y[None, :] > x[:, None]
    assert result.converged
    assert result.value == pytest.approx(value, abs=1e-8)
    np.testing.assert_allclose(result.gradient, -(plan * above).sum(1), atol=1e-8)
    np.testing.assert_allclose(result.gradient_y, (plan * above).sum(0), atol=1e-8)
    rebuilt = np.exp((result.f[:, None] + result.g[None, :] - cost) / epsilon)
    np.testing.assert_allclose(rebuilt, plan, atol=1e-8)


@pytest.mark.parametrize("name", ["normal", "heavy", "uneven"])
def test_the_envelope_gradient_is_the_finite_difference(name):
    x, y = PAIRS[name]
    step, options = 1e-5, {"tol": 1e-13, "max_iterations": 200_000}
    result = sinkhorn(x, y, 0.2, **options)
    for i in range(x.size):
        bump = step * (np.arange(x.size) == i)
        slope = (
            sinkhorn(x + bump, y, 0.2, **options).value - sinkhorn(x - bump, y, 0.2, **options).value
        ) / (2 * step)
        assert result.gradient[i] == pytest.approx(slope, abs=1e-6)
    for j in range(y.size):
        bump = step * (np.arange(y.size) == j)
        slope = (
            sinkhorn(x, y + bump, 0.2, **options).value - sinkhorn(x, y - bump, 0.2, **options).value
        ) / (2 * step)
        assert result.gradient_y[j] == pytest.approx(slope, abs=1e-6)


def test_a_small_epsilon_gives_the_exact_gap():
    # Spaced points: their best plan is unique, so the entropy fades with ε.
    x, y = np.arange(10.0), np.arange(10.0) + np.where(np.arange(10) % 2, 0.3, -0.3)
    result = sinkhorn(x, y, 0.005)
    assert result.converged
    assert result.cost == pytest.approx(dominance_gap(x, y), abs=1e-6)
    np.testing.assert_allclose(-10 * result.gradient, (y > x).astype(float), atol=1e-6)


def test_a_large_epsilon_gives_the_independent_plan():
    x, y = PAIRS["uneven"]
    result = sinkhorn(x, y, 1e6)
    assert result.cost == pytest.approx(ground_cost(x, y).mean(), rel=1e-4)
    np.testing.assert_allclose(result.gradient, -(y[None, :] > x[:, None]).mean(1) / x.size, atol=1e-6)


@pytest.mark.parametrize("scale", [1.0, 1e3])
def test_far_points_do_not_overflow(scale):
    x, y = np.array([0.0, 1.0, 500.0]) * scale, np.array([0.5, 2.0, 900.0]) * scale
    result = sinkhorn(x, y, 0.1)
    assert np.isfinite(result.value)
    assert result.cost == pytest.approx(dominance_gap(x, y), rel=1e-3)


def test_stopping_early_is_reported():
    x, y = PAIRS["heavy"]
    result = sinkhorn(x, y, 0.01, max_iterations=2)
    assert not result.converged
    assert result.iterations == 2
    assert result.marginal_error > 1e-9


@pytest.mark.parametrize(("x", "epsilon"), [([np.nan], 0.1), ([], 0.1), ([1.0], 0.0), ([1.0], -1.0)])
def test_invalid_problems_are_refused(x, epsilon):
    with pytest.raises(TransportError):
        sinkhorn(x, [1.0], epsilon)


def test_gaps_of_different_lengths_are_refused():
    with pytest.raises(TransportError, match="same number of quantiles"):
        dominance_gap([1.0, 2.0], [1.0])


def test_one_training_step_is_quick():
    x, y = np.sort(RNG.normal(size=64)), np.sort(RNG.normal(size=64))
    sinkhorn(x, y, 0.1, tol=1e-5)
    best = min(_seconds(lambda: sinkhorn(x, y - 0.5, 0.1, tol=1e-5)) for _ in range(5))
    assert best < 0.05


def _seconds(run):
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


@given(sample=st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30), n=st.integers(1, 30))
def test_quantiles_are_left_continuous(sample, n):
    if n > len(sample):
        with pytest.raises(CostError, match="cannot give"):
            empirical_quantiles(sample, n)
        return
    for i, particle in enumerate(empirical_quantiles(sample, n), start=1):
        # inf{z : F(z) ≥ t}, with F and t in whole numbers.
        reached = [z for z in sample if 2 * n * sum(c <= z for c in sample) >= (2 * i - 1) * len(sample)]
        assert particle == min(reached)
    np.testing.assert_allclose(quantile_levels(4), [0.125, 0.375, 0.625, 0.875])


def test_costs_that_are_not_finite_are_refused():
    with pytest.raises(CostError, match=r"1 of 3 costs are not finite \(number 1 is nan\)"):
        empirical_quantiles([1.0, np.nan, 2.0], 2)


def test_heavy_tails_take_far_fewer_iterations_than_a_cold_start():
    uniform, options = np.full(64, 1 / 64), {"numItermax": 20_000, "stopThr": 1e-5, "warn": False}
    cold, warm = 0, 0
    for seed in range(4):
        y = np.sort(np.random.default_rng(seed).lognormal(size=64))
        y /= y.std()
        cost = ground_cost(y - 0.5, y)
        cold += ot.bregman.sinkhorn_log(uniform, uniform, cost, 0.1, log=True, **options)[1]["niter"]
        result = sinkhorn(y - 0.5, y, 0.1, tol=1e-5)
        assert result.converged
        warm += result.iterations
    assert warm < 0.3 * cold
