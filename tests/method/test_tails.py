"""Winsorised gaps: what is heavy, what stays as it is, and that nothing is flat."""

import numpy as np
import pytest
from scipy import stats

from openrlhf_rad.method.scores import Tails, heavy_tails, leave_one_out
from openrlhf_rad.method.spectrum import MEAN, make_spectrum
from openrlhf_rad.method.step import RadStep
from openrlhf_rad.profile import ConstraintSettings, RiskProfile

CVAR = make_spectrum("cvar", alpha=0.9)
SETTINGS = ConstraintSettings()


def quantiles(law, size=4096):
    return law.ppf((np.arange(size) + 0.5) / size)


@pytest.mark.parametrize(
    ("law", "heavy"),
    [
        (stats.norm(3, 2), False),
        (stats.uniform(), False),
        (stats.t(2), True),
        (stats.lognorm(1), True),
        (stats.pareto(1.5), True),
    ],
    ids=["normal", "uniform", "t2", "log-normal", "pareto"],
)
def test_heavy_is_heavier_than_normal(law, heavy):
    tails = heavy_tails(SETTINGS, CVAR, quantiles(law))
    if not heavy:
        assert tails == Tails()
        return
    # A quarter of the weight of CVaR 0.9 lies below level 0.925, and counts as it is.
    assert tails.high == pytest.approx(0.925, abs=1e-3)
    assert tails.stretch > 1
    lower, upper = law.ppf([0.25, 0.75])
    assert tails.reach == pytest.approx(0.25 * (upper - lower) / 1.349, rel=1e-2)


def test_of_t2_it_begins_where_the_quantile_is_a_quarter_further_out_than_a_normal_one():
    law = stats.t(2)
    tails = heavy_tails(SETTINGS, MEAN, quantiles(law))
    deviation = law.ppf(0.75) / stats.norm.ppf(0.75)
    assert law.ppf(tails.high) / deviation == pytest.approx(1.25 * stats.norm.ppf(tails.high), rel=0.01)
    assert tails.low == pytest.approx(1 - tails.high, abs=1e-3)


@pytest.mark.parametrize("change", ["all of the gap", "half of it"])
def test_gaps_beyond_the_level_keep_a_part(change):
    particle_n = np.array([0.0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 1e3, 1e4, 1e5, 1e6])
    change_g = np.diff(particle_n) * (1.0 if change == "all of the gap" else 0.5)
    found = Tails(0.0, 0.75, 2.5).winsorised(change_g, particle_n)
    # The level 0.75 lies at the twelfth, 11; up to 13.5 all counts, beyond it at most 2.5/(16 · 0.25) a gap.
    whole = 2.5 if change == "all of the gap" else 1.25
    np.testing.assert_allclose(found[:11], change_g[:11])
    assert found[11] == pytest.approx(whole + 0.625)
    np.testing.assert_allclose(found[12:], 0.625)
    mirrored = Tails(0.25, 1.0, 2.5).winsorised(change_g[::-1], -particle_n[::-1])
    np.testing.assert_allclose(mirrored, found[::-1])


@pytest.mark.parametrize("costs", [[0] * 90 + [1] * 10, [1] * 60 + [2] * 25 + [3] * 8 + [4] * 5 + [5] * 2])
def test_flags_and_ratings_keep_every_gap(costs):
    cost_n = np.array(costs, float)
    tails = heavy_tails(SETTINGS, make_spectrum("wang", eta=1), cost_n)
    np.testing.assert_allclose(tails.winsorised(np.diff(cost_n), cost_n), np.diff(cost_n))


def test_a_catastrophe_moves_the_scores_of_others_by_a_bounded_amount():
    """As it is by n times as much, which would be all that a rollout says."""
    rng = np.random.default_rng(0)
    reference, batch = rng.standard_t(2, size=1024), rng.standard_t(2, size=64)
    far = np.where(batch == batch.max(), 1e9, batch)

    def scores(cost_b, tails):
        profile = RiskProfile.from_text(f"risk: cvar α=0.9\nconstraint: {{form: spectral, tails: {tails}}}")
        return RadStep(profile, reference)(cost_b).score_b

    assert np.abs(scores(far, "winsorised") - scores(batch, "winsorised")).max() < 5
    assert np.abs(scores(far, "whole") - scores(batch, "whole")).max() > 1e6


def test_safe_rlhf_is_left_as_others_have_it():
    heavy = quantiles(stats.pareto(1.5))
    assert heavy_tails(ConstraintSettings(form="expected"), MEAN, heavy) == Tails()
    assert heavy_tails(ConstraintSettings(tails="whole"), CVAR, heavy) == Tails()


def test_the_scores_of_the_reference_spread_as_far_as_whole_ones():
    """By mean absolute deviation, which heavy tails have; so that λ keeps its price."""
    cost_r = quantiles(stats.lognorm(1), 1024)
    tails = heavy_tails(SETTINGS, CVAR, cost_r)
    gap_r, sampled = np.diff(cost_r), CVAR.sampled(1024)
    whole, left = leave_one_out(gap_r, sampled), leave_one_out(tails.winsorised(gap_r, cost_r), sampled)
    deviations = [np.abs(score_r - score_r.mean()).mean() for score_r in (left, whole)]
    assert deviations[0] == pytest.approx(deviations[1])
    assert np.abs(left).max() < np.abs(whole).max() / 2
