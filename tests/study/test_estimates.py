"""Intervals over seeds: scipy's t interval and, where prompts are sampled, the variance in closed form."""

import numpy as np
import pytest
from scipy import stats

from openrlhf_rad.method.settings import Level
from openrlhf_rad.method.spectrum import make_spectrum
from openrlhf_rad.study import estimates
from openrlhf_rad.study.answers import ModelScores
from openrlhf_rad.study.estimates import Draws


def test_where_only_seeds_are_sampled_it_is_the_t_interval():
    value_s = np.random.default_rng(0).normal(size=7)
    found = Draws.of(12, 7, 0).estimate(value_s[None])
    low, high = stats.t.interval(0.95, 6, value_s.mean(), value_s.std(ddof=1) / np.sqrt(7))
    assert (found.value, found.low, found.high) == pytest.approx((value_s.mean(), low, high))


def test_with_prompts_it_holds_the_noise_of_both_levels():
    # A mean over prompts and seeds of a_s + b_p: its variance is Var(a)/S + Var(b)/P.
    rng = np.random.default_rng(1)
    seeds, prompts = 40, 300
    draws = Draws.of(prompts, seeds, 4_000)
    value_ps = rng.normal(size=(prompts, 1)) * 3 + rng.normal(size=seeds)
    value_rs = draws.prompt_rp @ value_ps / prompts
    found = draws.estimate(value_rs)
    variance = value_ps.mean(axis=0).var(ddof=1) / seeds + value_ps.mean(axis=1).var() / prompts
    reach = stats.t.ppf(0.975, seeds - 1) * np.sqrt(variance)
    assert found.high - found.value == pytest.approx(reach, rel=0.05)
    assert found.value == pytest.approx(value_ps.mean())


def test_one_seed_has_no_interval():
    found = Draws.of(4, 1, 0).estimate(np.array([[2.0]]))
    assert (found.value, found.low, found.high) == (2.0, None, None)


@pytest.mark.parametrize(
    "spectrum", [make_spectrum("cvar", alpha=0.9), make_spectrum("wang", eta=1.0)], ids=str
)
def test_a_draw_that_takes_a_prompt_twice_has_its_answers_twice(spectrum):
    cost_pk = np.random.default_rng(2).lognormal(size=(30, 2))
    scores = ModelScores(np.full((30, 2), 0.5), cost_pk, cost_pk)
    prompt_rp = np.stack([np.ones(30), np.random.default_rng(3).multinomial(30, np.full(30, 1 / 30))])
    found = estimates.risk(scores, spectrum, prompt_rp)
    repeated = np.repeat(cost_pk, prompt_rp[1].astype(int), axis=0)
    assert found == pytest.approx([spectrum.risk(cost_pk.ravel()), spectrum.risk(repeated.ravel())])


def test_a_share_of_nothing_is_no_number():
    found = estimates.share(np.array([0.0, 1.0]), np.array([0.0, 2.0]), np.array([[1.0, 1.0], [2.0, 0.0]]))
    assert found[0] == 0.5
    assert np.isnan(found[1])


@pytest.mark.parametrize(("fall", "passes"), [(1.0, True), (0.32, False), (-1.0, False)])
def test_the_safety_test_passes_what_surely_fell_by_the_ask(fall, passes):
    start_pk = np.random.default_rng(4).normal(size=(200, 2))
    noise_pk = 0.5 * np.random.default_rng(5).normal(size=(200, 2))
    assert estimates.passes_safety_test(Level(0.3, "spread"), start_pk, start_pk + noise_pk - fall) == passes
