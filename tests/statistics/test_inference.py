"""Influence values, intervals and processes against closed forms, brute force and other libraries."""

import numpy as np
import pytest
from scipy import stats

from openrlhf_rad.method.spectrum import make_piecewise, make_spectrum
from openrlhf_rad.statistics.curves import at_rank, difference, process, quantile_curve, quantile_levels
from openrlhf_rad.statistics.inference import (
    Reliance,
    average,
    fall,
    hill,
    infer,
    influences,
    jackknife,
    prompts_needed,
    ratio,
    reliance,
    risk,
    risk_influence,
)
from openrlhf_rad.statistics.shares import share_estimate

CVAR = make_spectrum("cvar", alpha=0.9)
WANG = make_spectrum("wang", eta=0.75)
MEAN = make_spectrum("mean")
STEPS = make_piecewise([(0.0, 0.5), (0.9, 1.0), (0.99, 10.0)])


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
    baseline, candidate = (np.exp(0.7 * common + 0.5 * rng.normal(size=sizes.sum())) for _ in range(2))
    held = panel(sizes, {"baseline": baseline, "candidate": candidate})
    drawn = [np.repeat(np.arange(sizes.sum()), repeats[held.cluster_b])
             for repeats in rng.multinomial(200, np.full(200, 1 / 200), 3000)]  # fmt: skip
    for spectrum in (MEAN, CVAR, WANG):
        spread = np.std([spectrum.risk(baseline[rows]) - spectrum.risk(candidate[rows]) for rows in drawn])
        assert fall(held, spectrum, baseline, candidate).error == pytest.approx(spread, rel=0.12)


def test_leaving_prompts_out_agrees_with_influence_functions(panel):
    rng = np.random.default_rng(1)
    sizes = rng.integers(1, 4, 600)
    cost_b = np.repeat(rng.normal(size=600), sizes) + rng.normal(size=sizes.sum())
    held = panel(sizes)
    known = [average(held, cost_b), risk(held, CVAR, cost_b)]

    def statistic(kept_b):
        return np.array([cost_b[kept_b].mean(), CVAR.risk(cost_b[kept_b])])

    for groups in (600, 150):  # every prompt alone, and four at a time
        for found, theirs in zip(jackknife(held, CVAR, statistic, groups=groups), known, strict=True):
            assert found.value == pytest.approx(theirs.value)
            assert found.error == pytest.approx(theirs.error, rel=0.01 if groups == 600 else 0.2)
            assert found.prompts == 600


def test_mean_of_single_answers_is_the_t_interval(panel):
    value_b = np.random.default_rng(2).normal(3, 2, 60)
    value_b = np.concatenate([value_b, 6 - value_b])  # no skewness, so both intervals agree
    held = average(panel(np.ones(120, int)), value_b)
    found, theirs = held.estimate(), stats.t(held.freedom - 1, value_b.mean(), stats.sem(value_b))
    assert (found.low, found.high) == pytest.approx(theirs.interval(0.95))


def test_hall_s_interval_reaches_further_on_the_side_of_the_tail(panel):
    value_b = np.random.default_rng(3).lognormal(size=80)
    found = average(panel(np.ones(80, int)), value_b).estimate()
    assert found.high - found.value > found.value - found.low


def test_several_samples_at_once_are_each_by_itself():
    cost_rb = np.random.default_rng(11).lognormal(size=(3, 50)).round(1)  # with ties
    for spectrum in (MEAN, CVAR, WANG):
        value_r, influence_rb = influences(spectrum, cost_rb, np.argsort(cost_rb, axis=1, kind="stable"))
        for cost_b, value, influence_b in zip(cost_rb, value_r, influence_rb, strict=True):
            alone = risk_influence(spectrum, cost_b)
            assert value == pytest.approx(alone[0])
            assert influence_b == pytest.approx(alone[1])


def test_what_a_risk_rests_on_in_closed_form():
    """1/max φ, at most a quarter if uneven; Wang gives its heaviest answer the mass Φ(η − Φ⁻¹(1 − 1/n))."""
    for spectrum, share in (
        (MEAN, 1),
        (CVAR, 0.1),
        (make_spectrum("linear"), 0.25),
        (make_spectrum("power", gamma=5.0), 0.2),
        (make_spectrum("exponential", kappa=2.0), 0.25),
        (STEPS, 0.064),
    ):
        found = reliance(spectrum, 100_000, 100_000)
        assert found.share == pytest.approx(share, rel=1e-3), spectrum
        assert not found.rising, spectrum
    found = reliance(WANG, 1000, 1000)
    assert found.share == pytest.approx(1 / (1000 * stats.norm.cdf(0.75 - stats.norm.ppf(0.999))))
    assert found.rising


def test_prompts_asked_for_are_the_least(panel):
    """Also where the heaviest weight grows with the answers: twice of them rest on less than twice."""
    baseline, candidate = np.random.default_rng(12).normal(size=(2, 200))
    for spectrum in (MEAN, CVAR, WANG, make_spectrum("wang", eta=1.0)):
        found = fall(panel([1] * 200), spectrum, baseline, candidate)
        needed = prompts_needed(found, spectrum, 50)
        if found.effective >= 50:
            assert needed == 200
        else:
            assert needed * reliance(spectrum, needed, needed).share >= 50 - 1e-6
            assert (needed - 2) * reliance(spectrum, needed - 2, needed - 2).share < 50


def test_freedom_is_that_of_the_influences(panel):
    """(Σu²)²/Σu⁴: P for ±1, P/3 for normal ones, 1 for a single one; t takes it."""
    signs = np.tile([1.0, -1.0], 200)
    assert average(panel([1] * 400), signs).freedom == pytest.approx(400)
    normal = stats.norm.ppf((np.arange(4000) + 0.5) / 4000)
    assert average(panel([1] * 4000), normal).freedom == pytest.approx(4000 / 3, rel=0.02)
    value_b = np.concatenate([np.tile([1.0, -1.0], 50), [8.0, -8.0]])
    found = average(panel([1] * 102), value_b)
    assert found.freedom == pytest.approx(228**2 / (100 + 2 * 8**4))
    reach = (found.estimate().high - found.value) / found.error
    assert reach == pytest.approx(stats.t.ppf(0.975, found.freedom - 1))


def test_hill_against_the_closed_form_of_a_pareto_tail():
    """The mean of log(x_i/x_{k+1}) of exact Pareto quantiles is 1/α."""
    size = 100_000
    upper = ((np.arange(size) + 0.5) / size) ** (-1 / 1.5)
    assert hill(upper, 1000) == pytest.approx(1 / 1.5, rel=0.01)
    assert hill(np.repeat([1.0, 50.0], [990, 10]), 31) == 0  # two values have no tail
    assert hill(np.zeros(100), 10) == 0


@pytest.mark.parametrize(("alpha", "refused"), [(1.0, True), (4.0, False)])
def test_no_interval_where_the_variance_looks_infinite(alpha, refused, panel):
    """Costs of a Pareto distribution have a variance where α > 2."""
    rng = np.random.default_rng(13)
    baseline, candidate = np.zeros(2000), rng.pareto(alpha, 2000)
    found = fall(panel([1] * 2000), MEAN, baseline, candidate)
    assert found.infinite == refused
    assert (found.estimate().low is None) == (found.cautious(0.95) is None) == refused


def test_answers_to_a_prompt_count_as_clustered_whatever_the_sample_shows():
    """Eight answers a prompt that cancel: they look more than independent, and count as n/(1 + 7/10)."""
    influence_p = np.tile([1e-3, -1e-3], 50)
    found = infer(0.0, influence_p, 1.0, np.full(100, 8), Reliance(tail=0))
    assert found.independent == pytest.approx(800 / (1 + 0.1 * 7))
    assert infer(0.0, influence_p, 1.0, np.ones(100)).independent == pytest.approx(100)
    uneven = infer(0.0, influence_p, 1.0, np.tile([1, 9], 50))  # the mean answer is one of 8.2
    assert uneven.independent == pytest.approx(500 / (1 + 0.1 * (82 / 10 - 1)))


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
    for hits in (0, 30, 100):
        value_b = np.repeat([1.0, 0.0], [hits, 100 - hits])
        theirs = stats.binomtest(hits, 100).proportion_ci(method="wilson")
        found = share_estimate(average(panel([1] * 100), value_b))
        assert (found.low, found.high) == pytest.approx(tuple(theirs))


def test_shares_of_few_prompts_have_korn_and_graubard_s_effective_number(panel):
    """n* = p(1 − p)/s²·(z/t)², t with (Σu²)²/Σu⁴ freedom; at least as if a prompt's answers were alike."""
    hits_p = np.repeat([0, 1, 4], [80, 12, 8])
    value_b = (np.arange(4) < hits_p[:, None]).ravel().astype(float)
    found = share_estimate(average(panel([4] * 100), value_b))
    share, residual_p = value_b.mean(), hits_p - 4 * value_b.mean()
    variance = (residual_p**2).sum() / 400**2 * 100 / 99
    freedom = (residual_p**2).sum() ** 2 / (residual_p**4).sum()
    size = share * (1 - share) / variance * (stats.norm.ppf(0.975) / stats.t.ppf(0.975, freedom)) ** 2
    size = max(size, 100)
    z = stats.norm.ppf(0.975)
    for end in (found.low, found.high):  # Wilson's ends lie z standard errors from the share
        assert (end - share) ** 2 == pytest.approx(z**2 * end * (1 - end) / size)


def test_no_interval_for_few_prompts_or_without_variation(panel):
    assert average(panel([1] * 5), np.arange(5.0)).estimate().low is None
    assert average(panel([1] * 50), np.ones(50)).estimate().low is None
    assert infer(1.0, np.zeros(3), 0.0, np.ones(3)).error == 0


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
    assert moved.draw_rk.std() == pytest.approx(0.5 / 20 / 0.9, rel=0.2)  # that of the candidate alone


def test_yes_or_no_costs_have_a_bound(panel):
    """A level beside a jump: whether the quantile is 0 or 1 is open just there, and sure elsewhere."""
    rng = np.random.default_rng(10)
    baseline, candidate = ((rng.random(500) < share).astype(float) for share in (0.3, 0.1))
    level_k = np.array([0.6, 0.68, 0.8, 0.95])
    moved = difference(panel([1] * 500), baseline, candidate, level_k, draws=1000, seed=0)
    assert moved.value_k.tolist() == [0, 0, -1, 0] or moved.value_k.tolist() == [0, -1, -1, 0]
    assert np.isfinite(moved.draw_rk).all()
    assert 0.05 < (moved.draw_rk[:, 1] < 0).mean() < 0.95
    assert moved.upper(0.95).tolist()[2:] == [-1, 0]


def test_risk_of_one_model(panel):
    cost_b = np.random.default_rng(8).normal(size=500)
    assert risk(panel([1] * 500), CVAR, cost_b).value == pytest.approx(np.sort(cost_b)[-50:].mean())
