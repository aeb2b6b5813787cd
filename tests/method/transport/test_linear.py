"""The linear-time solver against the dense certificate, POT, limits, and finite differences."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openrlhf_rad.method.spectrum import make_spectrum
from openrlhf_rad.method.transport import dominance_gap, sinkhorn

RNG = np.random.default_rng(5)
POWERS = st.floats(-4, 2).map(lambda power: 10.0**power)


@settings(max_examples=300, deadline=None)
@given(data=st.data(), power=POWERS)
def test_every_result_is_certified_optimal(adversarial, spread, certificate, data, power):
    x, y = data.draw(adversarial())
    epsilon = power * spread(x, y)
    result = sinkhorn(x, y, epsilon).require()
    dense = certificate(x, y, epsilon, result)
    n, m = x.size, y.size
    # Potentials of 1e4 ε lose four of sixteen digits, and a plan is read off their exponential.
    digits = 1e-9
    np.testing.assert_allclose(dense["rows"], 1 / n, rtol=digits, atol=2e-9)
    np.testing.assert_allclose(dense["columns"], 1 / m, rtol=digits, atol=2e-9)
    np.testing.assert_allclose(result.gradient, dense["gradient"], rtol=0, atol=2e-9)
    np.testing.assert_allclose(result.gradient_y, dense["gradient_y"], rtol=0, atol=2e-9)
    scale = spread(x, y) + epsilon * np.log(n * m + 1)
    assert result.cost == pytest.approx(dense["cost"], abs=1e-8 * scale)
    assert result.value == pytest.approx(dense["value"], abs=1e-8 * scale)
    assert result.marginal_error <= 1e-9
    assert result.iterations <= 40


@settings(max_examples=60, deadline=None)
@given(data=st.data(), power=st.floats(-1.5, 2).map(lambda power: 10.0**power))
def test_the_linear_solver_agrees_with_pot(adversarial, spread, data, power):
    x, y = data.draw(adversarial(largest=12))
    epsilon = power * spread(x, y)
    other = sinkhorn(x, y, epsilon, solver="pot", tol=1e-10, max_iterations=20_000)
    result = sinkhorn(x, y, epsilon)
    assert result.converged
    if other.converged:
        np.testing.assert_allclose(result.gradient, other.gradient, atol=1e-7)
        assert result.value == pytest.approx(other.value, abs=1e-7 * spread(x, y) * max(1.0, power))


@pytest.mark.parametrize("n", [64, 513, 2048])
@pytest.mark.parametrize("epsilon", [0.1, 1.0])
def test_gradients_are_exact_to_1e_8_of_a_particles_mass(certificate, n, epsilon):
    x, y = RNG.normal(size=n), RNG.lognormal(size=n)
    result = sinkhorn(x, y, epsilon)
    dense = certificate(x, y, epsilon, result)
    np.testing.assert_allclose(dense["rows"] * n, 1, atol=1e-9)
    np.testing.assert_allclose(dense["columns"] * n, 1, atol=1e-9)
    np.testing.assert_allclose(result.gradient * n, dense["gradient"] * n, atol=1e-8)


@given(data=st.data())
@settings(max_examples=100, deadline=None)
def test_order_offset_and_scale_do_not_matter(adversarial, spread, data):
    x, y = data.draw(adversarial())
    epsilon = 0.1 * spread(x, y)
    result = sinkhorn(x, y, epsilon)
    shuffle_x, shuffle_y = (np.random.default_rng(1).permutation(size) for size in (x.size, y.size))
    shuffled = sinkhorn(x[shuffle_x], y[shuffle_y], epsilon)
    np.testing.assert_allclose(shuffled.gradient, result.gradient[shuffle_x], atol=1e-9)
    np.testing.assert_allclose(shuffled.f, result.f[shuffle_x], atol=1e-5 * spread(x, y))
    scaled = sinkhorn(1024 * x, 1024 * y, 1024 * epsilon)
    np.testing.assert_array_equal(scaled.gradient, result.gradient)
    assert scaled.value == 1024 * result.value


@pytest.mark.parametrize("kind", ["normal", "cauchy", "ties"])
def test_a_small_epsilon_gives_the_exact_gap(kind):
    draw = {"normal": RNG.normal, "cauchy": RNG.standard_cauchy}.get(
        kind, lambda size: RNG.integers(0, 5, size)
    )
    x, y = draw(size=300).astype(float), draw(size=300).astype(float)
    spread = float(np.ptp(np.concatenate([x, y])))
    errors = [
        sinkhorn(x, y, share * spread).require().cost - dominance_gap(x, y) for share in (1e-2, 1e-4, 1e-6)
    ]
    # The entropic plan costs at least the optimum, and at most ε log(nm) more.
    for share, error in zip((1e-2, 1e-4, 1e-6), errors, strict=True):
        assert -1e-9 * spread <= error <= share * spread * np.log(300 * 300)


def test_a_large_epsilon_gives_the_independent_coupling():
    x, y = RNG.normal(size=90), RNG.normal(0.5, size=70)
    result = sinkhorn(x, y, 1e6)
    above = y[None, :] > x[:, None]
    np.testing.assert_allclose(result.gradient, -above.mean(1) / 90, atol=1e-7)
    np.testing.assert_allclose(result.gradient_y, above.mean(0) / 70, atol=1e-7)
    assert result.cost == pytest.approx(np.maximum(y[None, :] - x[:, None], 0).mean(), rel=1e-4)
    assert result.value == pytest.approx(-1e6 * np.log(90 * 70), rel=1e-6)


@pytest.mark.parametrize(("x", "y", "moves"), [(3.0, 3.0, 0.0), (3.0, 5.0, 2.0), (5.0, 3.0, 0.0)])
@pytest.mark.parametrize("sizes", [(1, 1), (4, 7)])
def test_constant_samples_have_the_known_answer(x, y, moves, sizes):
    n, m = sizes
    result = sinkhorn(np.full(n, x), np.full(m, y), 0.5)
    assert result.converged
    assert result.cost == pytest.approx(moves, abs=1e-12)
    assert result.value == pytest.approx(moves - 0.5 * np.log(n * m), abs=1e-12)
    np.testing.assert_allclose(result.gradient, -float(moves > 0) / n, atol=1e-12)
    np.testing.assert_allclose(result.gradient_y, float(moves > 0) / m, atol=1e-12)


def test_the_gradients_are_finite_differences_of_the_value():
    x, y = RNG.standard_t(3, size=12), RNG.standard_t(3, size=17)
    result = sinkhorn(x, y, 0.3)
    step = 1e-5
    for points, gradient, swap in ((x, result.gradient, False), (y, result.gradient_y, True)):
        for i in range(points.size):
            bump = step * (np.arange(points.size) == i)
            pairs = [(x, y + s * bump) if swap else (x + s * bump, y) for s in (1, -1)]
            up, down = (sinkhorn(*pair, 0.3).value for pair in pairs)
            assert gradient[i] == pytest.approx((up - down) / (2 * step), abs=1e-9)


def test_gradients_add_up_to_the_mass_that_moves_up():
    x, y = RNG.normal(size=500), RNG.normal(size=800)
    result = sinkhorn(x, y, 0.1)
    assert -result.gradient.sum() == pytest.approx(result.gradient_y.sum(), abs=1e-9)
    assert (result.gradient <= 0).all()
    assert (result.gradient >= -1 / 500 - 1e-9).all()


@pytest.mark.parametrize("solver", ["linear", "pot", "exact"])
def test_weights_report_the_weighted_gap(solver):
    x, y = RNG.normal(size=20), RNG.normal(0.4, size=20)
    weights = make_spectrum("cvar", alpha=0.8).weights(20)
    result = sinkhorn(x, y, 0.2, weights=weights, solver=solver)
    assert result.weighted_gap == pytest.approx(dominance_gap(x, y, weights), abs=1e-12)
    plain = sinkhorn(x, y, 0.2, solver=solver)
    assert plain.weighted_gap is None
    np.testing.assert_array_equal(plain.gradient, result.gradient)


def test_the_weighted_gap_of_unequal_sizes_is_that_of_repeated_points():
    x, y = RNG.normal(size=4), RNG.normal(0.4, size=6)
    weights = np.array([0.5, 0.5, 1.0, 2.0])
    found = sinkhorn(x, y, 0.2, weights=weights).weighted_gap
    assert found == pytest.approx(dominance_gap(np.repeat(x, 3), np.repeat(y, 2), np.repeat(weights, 3)))


def test_an_earlier_result_is_a_start():
    x, y = RNG.normal(size=64), RNG.normal(size=50)
    cold = sinkhorn(x, y, 0.01)
    again = sinkhorn(x, y, 0.01, init=cold)
    assert again.iterations <= 1 < cold.iterations
    np.testing.assert_allclose(again.gradient, cold.gradient, atol=1e-12)
    moved = sinkhorn(x + 1e-4 * RNG.normal(size=64), y, 0.01, init=(cold.f, cold.g))
    assert moved.converged
    assert moved.iterations <= cold.iterations


def test_a_start_that_is_far_off_is_only_a_start():
    x, y = RNG.normal(size=64), RNG.normal(size=50)
    cold = sinkhorn(x, y, 0.1)
    wild = sinkhorn(x, y, 0.1, init=(1e3 * RNG.normal(size=64), 1e3 * RNG.normal(size=50)))
    assert wild.converged
    np.testing.assert_allclose(wild.gradient, cold.gradient, atol=1e-9)


def test_scalings_that_have_run_away_are_moved_into_the_potential():
    from openrlhf_rad.method.transport import recurrences

    n, m = 300, 200
    x, y = np.sort(RNG.standard_t(2, size=n)), np.sort(RNG.standard_t(2, size=m))
    z, order = np.empty(n + m), np.empty(n + m, np.int32)
    work, pair = np.empty((recurrences.ROWS, n + m)), np.empty((n + m, 2))
    recurrences.merge(x, y, np.arange(n), np.arange(m), 0.1, z, order)
    empty = np.empty(0)
    recurrences.solve(z, order, n, m, 0.1, 1e-9, 100, empty, empty, work, pair)
    right = pair[:, 1].copy()
    work[3] *= np.where(order < n, 1e70, 1e-70)
    recurrences.from_above(order, n, work)
    recurrences.absorb(z, order, n, work)
    assert np.abs(np.log10(work[3])).max() < 10
    assert recurrences.eliminate(order, n, m, work, pair) < 1e-12
    recurrences.finish(z, order, n, m, 0.1, work, pair)
    np.testing.assert_allclose(pair[:, 1], right, atol=1e-12)


def test_iterations_do_not_grow_with_the_problem():
    counts = [
        sinkhorn(RNG.normal(size=n), RNG.normal(0.3, 1.2, size=n), 0.1).iterations for n in (64, 4096, 10**5)
    ]
    assert max(counts) <= 7


def test_a_hundred_thousand_points_have_right_marginals():
    x, y = RNG.standard_t(3, size=100_000), RNG.standard_t(3, size=90_000)
    result = sinkhorn(x, y, 0.1).require()
    # A thousand rows of the dense plan, 10⁸ entries.
    rows = RNG.choice(x.size, 50, replace=False)
    cost = np.maximum(y[None, :] - x[rows, None], 0)
    plan = np.exp((result.f[rows, None] + result.g[None, :] - cost) / 0.1)
    np.testing.assert_allclose(plan.sum(1) * x.size, 1, atol=1e-4)
    np.testing.assert_allclose((plan * (cost > 0)).sum(1), -result.gradient[rows], atol=1e-9)


def test_importing_the_package_loads_neither_numba_nor_pot_nor_torch():
    script = (
        "import sys, openrlhf_rad, openrlhf_rad.method.transport\n"
        "from openrlhf_rad import sinkhorn, dominance_gap\n"
        "print([name for name in ('numba', 'ot', 'torch', 'datasketches') if name in sys.modules])\n"
        "sinkhorn([1.0], [2.0], 0.1, solver='exact')\n"
        "print('numba' in sys.modules, sinkhorn([1.0], [2.0], 0.1).cost, 'numba' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["[]", "False 1.0 True"]


def test_a_second_process_loads_the_compiled_code(tmp_path):
    script = (
        "from openrlhf_rad.method.transport import recurrences, sinkhorn\n"
        "sinkhorn([1.0, 3.0], [2.0], 0.1)\n"
        "stats = recurrences.solve.stats\n"
        "print(sum(stats.cache_hits.values()), sum(stats.cache_misses.values()))"
    )
    words = [sys.executable, "-c", script]
    subprocess.run(words, capture_output=True, check=True)
    assert subprocess.run(words, capture_output=True, text=True, check=True).stdout.split() == ["1", "0"]


def test_code_without_a_folder_to_cache_in_is_compiled_in_memory():
    from openrlhf_rad.method.transport.recurrences import compiled

    scope = {}
    exec(compile("def double(x):\n    return 2 * x\n", "<nowhere>", "exec"), scope)
    assert compiled(scope["double"])(21) == 42
