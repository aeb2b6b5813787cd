"""The baseline within prompts against leaving two out by hand, all rollouts enumerated, and simulation."""

import itertools

import numpy as np
import pytest

from openrlhf_rad.method.scores import PartnerBaseline, PartnerScores, leave_one_out
from openrlhf_rad.method.spectrum import MEAN, make_spectrum

CVAR, WANG = make_spectrum("cvar", alpha=0.7), make_spectrum("wang", eta=1)


@pytest.mark.parametrize("spectrum", [MEAN, CVAR, WANG], ids=str)
@pytest.mark.parametrize("tied", [False, True])
def test_a_partner_is_scored_in_the_batch_without_the_answer(spectrum, tied):
    rng = np.random.default_rng(1)
    cost_n = np.sort(rng.integers(0, 3, 9) if tied else rng.normal(size=9)).astype(float)
    partner = PartnerScores(np.diff(cost_n), spectrum)
    for without, place in itertools.permutations(range(9), 2):
        rest = np.delete(cost_n, without)
        expected = leave_one_out(np.diff(rest), spectrum.sampled(8))[place - (place > without)]
        found = partner(np.array([place]), np.array([without]))[0]
        assert found == pytest.approx(expected, abs=1e-12)
        if tied:  # of equal costs the first place stands for all
            first = np.searchsorted(cost_n, cost_n)
            assert partner(first[[place]], first[[without]])[0] == pytest.approx(expected, abs=1e-12)


def baselined(cost_b, cluster_b, spectrum, *, correlation=None, baseline=None):
    """Scores of one rollout with partners; a correlation stands for one that was seen before."""
    baseline = baseline or PartnerBaseline()
    if correlation is not None:
        baseline.products, baseline.squares, baseline.pairs = correlation * 1e12, 1e12, 1e12
    cost_n = np.sort(cost_b)
    place_b = np.searchsorted(cost_n, cost_b)
    score_b = leave_one_out(np.diff(cost_n), spectrum.sampled(cost_n.size))[place_b]
    partner = PartnerScores(np.diff(cost_n), spectrum)
    return baseline(score_b, place_b, np.asarray(cluster_b), partner)


@pytest.mark.parametrize("spectrum", [MEAN, CVAR], ids=str)
def test_over_all_rollouts_the_expectation_is_exact(spectrum):
    """Two prompts of two kinds, two or three answers each: E[(1/n) Σ ∇log π · A] = −∇E[ρ̂_n]."""
    cost_xa = np.array([[0.0, 1.0, 4.0], [2.0, 3.0, 3.5]])
    logit_xa = np.array([[0.3, -0.2, 0.1], [-0.4, 0.5, 0.0]])
    clusters = np.array([0, 0, 1, 1, 1])
    rollouts = [
        (np.array(kinds)[clusters], np.array(answers))
        for kinds in itertools.product(range(2), repeat=2)
        for answers in itertools.product(range(3), repeat=5)
    ]

    def policy(logit_xa):
        return np.exp(logit_xa) / np.exp(logit_xa).sum(1, keepdims=True)

    def mean_risk(logit_xa):
        return sum(
            policy(logit_xa)[kind_b, answer_b].prod() / 4 * spectrum.risk(cost_xa[kind_b, answer_b])
            for kind_b, answer_b in rollouts
        )

    found = np.zeros((2, 3))
    for kind_b, answer_b in rollouts:
        advantage_b = baselined(cost_xa[kind_b, answer_b], clusters, spectrum, correlation=0.6)
        share = policy(logit_xa)[kind_b, answer_b].prod() / 4
        for kind, answer, advantage in zip(kind_b, answer_b, advantage_b, strict=True):
            found[kind] += share * advantage / 5 * (np.eye(3)[answer] - policy(logit_xa)[kind])
    step = 1e-4
    truth = np.zeros((2, 3))
    for place in itertools.product(range(2), range(3)):
        bump = np.zeros((2, 3))
        bump[place] = step
        truth[place] = (mean_risk(logit_xa - bump) - mean_risk(logit_xa + bump)) / (2 * step)
    np.testing.assert_allclose(found, truth, atol=1e-7)


@pytest.mark.parametrize("correlation", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("answers", [2, 4])
def test_its_variance_is_the_least_of_all_baselines(correlation, answers):
    """Of Σ z · A/n with z for ∇log π, over rollouts of 64 whose costs correlate so within prompts."""
    rng, baseline, size = np.random.default_rng(3), PartnerBaseline(), 64
    cluster_b = np.repeat(np.arange(size // answers), answers)
    noise = {"shrunken": [], "batch": [], "rloo": []}
    for _ in range(1500):
        prompt_b = rng.normal(size=size // answers)[cluster_b]
        cost_b = np.sqrt(correlation) * prompt_b + np.sqrt(1 - correlation) * rng.normal(size=size)
        sign_b = rng.choice([-1.0, 1.0], size)
        grouped = cost_b.reshape(-1, answers)
        rloo = (grouped.sum(1, keepdims=True) - answers * grouped).ravel() / (answers - 1)
        noise["shrunken"].append(sign_b @ baselined(cost_b, cluster_b, MEAN, baseline=baseline))
        noise["batch"].append(sign_b @ (cost_b.mean() - cost_b) * size / (size - 1))
        noise["rloo"].append(sign_b @ rloo)
    variance = {name: np.var(values[100:]) / size for name, values in noise.items()}
    partners = answers - 1
    expected = 1 - correlation**2 * partners / (1 + (partners - 1) * correlation)
    assert baseline.correlation == pytest.approx(correlation, abs=0.15)
    assert variance["shrunken"] == pytest.approx(expected, rel=0.12)
    assert variance["rloo"] == pytest.approx((1 - correlation) * answers / partners, rel=0.12)
    assert variance["shrunken"] <= 1.02 * min(variance["batch"], variance["rloo"])


def test_it_learns_from_rollouts_before_only_and_goes_on_from_a_checkpoint():
    rng = np.random.default_rng(5)
    cluster_b, first = np.repeat(np.arange(40), 2), PartnerBaseline()
    prompt_b = rng.normal(size=40)[cluster_b]
    cost_b = prompt_b + 0.1 * rng.normal(size=80)
    place_b = np.argsort(np.argsort(cost_b))
    plain = leave_one_out(np.diff(np.sort(cost_b)), CVAR.sampled(80))[place_b]
    np.testing.assert_array_equal(baselined(cost_b, cluster_b, CVAR, baseline=first), plain)
    assert first.correlation > 0.3
    second = PartnerBaseline()
    second.load_state_dict(first.state_dict())
    again = baselined(cost_b, cluster_b, CVAR, baseline=first)
    assert np.abs(again - plain).max() > 0.1
    np.testing.assert_array_equal(baselined(cost_b, cluster_b, CVAR, baseline=second), again)
