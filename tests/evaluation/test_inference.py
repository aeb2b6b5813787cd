"""Influence values, intervals and processes against closed forms, brute force and other libraries."""

import numpy as np
import pytest
from scipy import stats

from openrlhf_rad.evaluation.bands import difference, quantile_curve
from openrlhf_rad.evaluation.influence import average, effective_share, fall, ratio, risk, risk_influence
from openrlhf_rad.evaluation.interval import infer, share_estimate
from openrlhf_rad.evaluation.process import at_rank, process, quantile_levels
from openrlhf_rad.runs.bootstrap import Draws
from openrlhf_rad.spectrum import make_spectrum

CVAR = make_spectrum("cvar", alpha=0.9)
WANG = make_spectrum("wang", eta=0.75)
MEAN = make_spectrum("mean")


@pytest.mark.parametrize("spectrum", [MEAN, CVAR, WANG, make_spectrum("power", gamma=3.0)], ids=str)
def test_influence_is_what_leaving_an_answer_out_changes(spectrum):
    """The jackknife: n·(ρ − ρ without answer i) → u_i."""
    cost_b = np.random.default_rng(0).lognormal(size=4000)
    value, influence_b = risk_influence(spectrum, cost_b)
    assert value == pytest.approx(spectrum.risk(cost_b))
    assert influence_b.mean() == pytest.approx(0, abs=1e-10)
    for i in (0, 17, int(cost_b.argmax()), int(cost_b.argmin())):
        left = spectrum.risk(np.delete(cost_b, i))
        assert influence_b[i] == pytest.approx(3999 * (value - left), rel=0.09, abs=0.02)


def test_standard_errors_against_the_clustered_bootstrap(panel):
    rng = np.random.default_rng(1)
    sizes = rng.integers(1, 5, 200)
    common = np.repeat(rng.normal(size=200), sizes)
    red, blue = (np.exp(0.7 * common + 0.5 * rng.normal(size=sizes.sum())) for _ in range(2))
    held = panel(sizes, {"red": red, "blue": blue})
    draws = Draws(held.cluster_b, rng.multinomial(200, np.full(200, 1 / 200), 3000))
    for spectrum in (MEAN, CVAR, WANG):
        mass = draws.bin_mass(spectrum)
        spread = draws.total(mass * (draws.ordered(red) - draws.ordered(blue))).std()
        assert fall(held, spectrum, red, blue).error == pytest.approx(spread, rel=0.12)


def test_mean_of_single_answers_is_the_t_interval(panel):
    value_b = np.random.default_rng(2).normal(3, 2, 60)
    value_b = np.concatenate([value_b, 6 - value_b])  # no skewness, so both intervals agree
    found = average(panel(np.ones(120, int)), value_b).estimate()
    theirs = stats.ttest_1samp(value_b, 0).confidence_interval()
    assert (found.low, found.high) == pytest.approx(tuple(theirs))


def test_hall_s_interval_reaches_further_on_the_side_of_the_tail(panel):
    value_b = np.random.default_rng(3).lognormal(size=80)
    found = average(panel(np.ones(80, int)), value_b).estimate()
    assert found.high - found.value > found.value - found.low


def test_effective_share_in_closed_form():
    assert effective_share(CVAR) == pytest.approx(0.1)
    assert effective_share(MEAN) == 1
    assert effective_share(make_spectrum("linear")) == pytest.approx(0.75, rel=1e-4)


def test_copies_of_an_answer_are_no_new_evidence(panel):
    once = np.random.default_rng(4).normal(size=100)
    single, copied = average(panel([1] * 100), once), average(panel([5] * 100), np.repeat(once, 5))
    assert copied.error == pytest.approx(single.error)
    assert copied.effective == pytest.approx(single.effective)


def test_ratio_against_the_delta_method_by_bootstrap(panel):
    rng = np.random.default_rng(5)
    sizes = np.full(150, 3)
    kept = rng.random(450) < np.repeat(rng.random(150), 3)
    value = rng.normal(size=450) + np.repeat(rng.normal(size=150), 3)
    held = panel(sizes)
    weight = rng.multinomial(150, np.full(150, 1 / 150), 4000)
    drawn = (weight @ held.by_prompt(np.where(kept, value, 0.0))) / (weight @ held.by_prompt(kept * 1.0))
    assert ratio(held, value, kept).error == pytest.approx(drawn.std(), rel=0.08)


def test_shares_have_wilson_s_interval(panel):
    value_b = np.repeat([1.0, 0.0], [30, 70])
    theirs = stats.binomtest(30, 100).proportion_ci(method="wilson")
    found = share_estimate(30, average(panel([1] * 100), value_b))
    assert (found.low, found.high) == pytest.approx(tuple(theirs), abs=3e-3)
    none = share_estimate(0, average(panel([1] * 100), np.zeros(100)))
    assert none.low == 0
    assert none.high == pytest.approx(stats.binomtest(0, 100).proportion_ci(method="wilson").high)


def test_no_interval_for_few_prompts_or_without_variation(panel):
    assert average(panel([1] * 5), np.arange(5.0)).estimate().low is None
    assert average(panel([1] * 50), np.ones(50)).estimate().low is None
    assert infer(1.0, np.zeros(3), 0.0, 3).error == 0


def test_process_against_plain_loops(panel):
    rng = np.random.default_rng(6)
    sizes = rng.integers(1, 4, 30)
    costs = [rng.normal(size=sizes.sum()) for _ in range(2)]
    held = panel(sizes)
    points = [np.sort(rng.normal(size=5)) for _ in range(2)]
    found = process(held, costs, points)
    count_pk = np.concatenate(
        [
            np.stack([held.by_prompt((cost <= point).astype(float)) for point in grid], axis=1)
            for cost, grid in zip(costs, points, strict=True)
        ],
        axis=1,
    )
    share = count_pk.sum(0) / sizes.sum()
    residual = count_pk - sizes[:, None] * share
    assert found.share.ravel() == pytest.approx(share)
    assert found.covariance == pytest.approx(residual.T @ residual / sizes.sum() ** 2 * 30 / 29)
    drawn = found.draws(40_000, 0).reshape(40_000, -1)
    assert np.cov(drawn.T) == pytest.approx(found.covariance, abs=0.0003)


def test_ranks_are_those_of_numpy_and_end_where_the_data_end():
    ordered = np.sort(np.random.default_rng(7).normal(size=10))
    level = np.array([0.05, 0.1, 0.5, 0.9, 0.95, 1.0])
    assert at_rank(ordered, level) == pytest.approx(np.quantile(ordered, level, method="inverted_cdf"))
    assert at_rank(ordered, np.array([-0.01, 0.0, 1.01])).tolist() == [-np.inf, -np.inf, np.inf]


def test_levels_stay_where_prompts_are():
    level_k = quantile_levels(100)
    assert (level_k[0], level_k[-1]) == (0.05, 0.95)
    assert quantile_levels(10**6)[-1] == 0.9999
    assert quantile_levels(3).size == 0


def test_tied_costs_give_bands_that_hold_them(panel):
    cost_b = np.repeat([0.0, 1.0], [60, 40])
    curve = quantile_curve(panel([1] * 100), cost_b, 0.95, 500, 0)
    assert set(curve.value_k) == {0.0, 1.0}
    assert (curve.low_k <= curve.value_k).all()
    assert (curve.value_k <= curve.high_k).all()
    moved = difference(panel([1] * 100), cost_b, cost_b, quantile_levels(100), draws=200, seed=0)
    assert np.abs(moved.value_k).max() == 0


def test_costs_at_their_limit_leave_bands_finite(panel):
    """A tenth of the costs at 1: F̂ does not vary there, and the band of the other levels must not suffer."""
    rng = np.random.default_rng(9)
    cost_b = np.minimum(rng.uniform(0, 1 / 0.9, 400), 1.0)
    held, free = panel([1] * 400), np.sort(rng.uniform(0, 1, 400))
    capped, plain = (quantile_curve(held, side, 0.95, 2000, 0) for side in (cost_b, free))
    middle = slice(20, -60)
    width, other = (curve.high_k[middle] - curve.low_k[middle] for curve in (capped, plain))
    assert width.mean() == pytest.approx(other.mean() / 0.9, rel=0.15)
    moved = difference(held, np.zeros(400), cost_b, np.array([0.5]), draws=2000, seed=0)
    assert moved.draw_rk.std() == pytest.approx(0.5 / 20 / 0.9, rel=0.2)  # that of blue alone


def test_yes_or_no_costs_have_a_bound(panel):
    """A level beside a jump: whether the quantile is 0 or 1 is open just there, and sure elsewhere."""
    rng = np.random.default_rng(10)
    red, blue = ((rng.random(500) < share).astype(float) for share in (0.3, 0.1))
    level_k = np.array([0.6, 0.68, 0.8, 0.95])
    moved = difference(panel([1] * 500), red, blue, level_k, draws=1000, seed=0)
    assert moved.value_k.tolist() == [0, 0, -1, 0] or moved.value_k.tolist() == [0, -1, -1, 0]
    assert np.isfinite(moved.draw_rk).all()
    assert 0.05 < (moved.draw_rk[:, 1] < 0).mean() < 0.95
    assert moved.upper(0.95).tolist()[2:] == [-1, 0]


def test_risk_of_one_model(panel):
    cost_b = np.random.default_rng(8).normal(size=500)
    assert risk(panel([1] * 500), CVAR, cost_b).value == pytest.approx(np.sort(cost_b)[-50:].mean())
