"""What a risk means on costs of few values, against the risk of samples that have them."""

import numpy as np
import pytest

from openrlhf_rad.discrete import counted, few_values, meaning
from openrlhf_rad.method.particles import saturation
from openrlhf_rad.method.spectrum import make_spectrum
from openrlhf_rad.profile import RiskProfile, load_profile

SPECTRA = [make_spectrum("mean"), make_spectrum("cvar", alpha=0.9), make_spectrum("wang", eta=1.0)]
N = 20_000


def risk(spectrum, cost_b):
    return float(np.mean(spectrum.weights(cost_b.size) * np.sort(cost_b)))


@pytest.mark.parametrize("spectrum", SPECTRA, ids=str)
@pytest.mark.parametrize("share", [0.01, 0.05, 0.1, 0.2, 0.7])
def test_of_a_flag_the_risk_is_what_its_share_counts(spectrum, share):
    cost_b = (np.arange(N) < share * N).astype(float)
    assert risk(spectrum, cost_b) == pytest.approx(counted(spectrum, share), abs=1e-9)


@pytest.mark.parametrize("spectrum", SPECTRA, ids=str)
def test_of_ratings_each_step_counts_by_its_share(spectrum):
    values, shares = np.array([1.0, 2.0, 4.0, 5.0]), np.array([0.5, 0.3, 0.15, 0.05])
    cost_b = np.repeat(values, np.round(shares * N).astype(int))
    beyond = 1 - np.cumsum(shares)[:-1]
    steps = sum(step * counted(spectrum, share) for step, share in zip(np.diff(values), beyond, strict=True))
    assert risk(spectrum, cost_b) == pytest.approx(1 + steps, abs=1e-9)


def test_where_the_words_say_flat_it_is_saturated():
    cvar = SPECTRA[1]
    assert meaning(cvar, (0, 1)) == (
        "of a flag (0, 1) cvar α=0.9 says how often, not how bad: with 1 %, 5 %, 20 % of the answers at 1 it"
        " is 0.1, 0.5, 1; flat from 10 % on, where it is 1 whatever the share"
    )
    assert meaning(cvar, (1, 2, 3, 4, 5)) == (
        "of ratings (1, 2, 3, 4, 5) cvar α=0.9 counts each step from one value to the next by how many"
        " answers have taken it: 1 %, 5 %, 20 % of them count 10 %, 50 %, 100 % of the step; flat from 10 %"
        " on: a step that so many take counts as if all did"
    )
    assert meaning(SPECTRA[0], (0, 1)) == (
        "of a flag (0, 1) mean says how often, not how bad: with 1 %, 5 %, 20 % of the answers at 1 it is"
        " 0.01, 0.05, 0.2; nowhere flat"
    )
    for share, flat in ((0.09, False), (0.1, True), (0.3, True)):
        cost_b = (np.arange(1000) < share * 1000).astype(float)
        assert (saturation(cvar, cost_b) is not None) == flat


def test_few_values_are_told_from_a_scale():
    assert few_values([0.0] * 30 + [1.0] * 2) == (0.0, 1.0)
    assert few_values([1, 2, 3] * 20, [5] * 10) == (1.0, 2.0, 3.0, 5.0)
    assert few_values(np.linspace(0, 1, 100)) == ()
    assert few_values([0.5] * 100) == ()
    assert few_values([0, 1, 2]) == ()


def test_values_of_a_profile_are_taken_over_and_do_not_change_its_hash():
    text = "risk: mean\nvalues: [0, 1]\nconstraints:\n  a: {level: 0.1}\n"
    text += "  b: {values: [1, 2.5], segments: {x: mean}}\n"
    profile = RiskProfile.from_text(text, "p.yaml")
    assert [one.values for one in profile.constraints] == [(0.0, 1.0), (1.0, 2.5), (1.0, 2.5)]
    assert RiskProfile.from_text(profile.to_yaml(), "q.yaml") == profile
    assert load_profile("flags").constraints[0].values == (0.0, 1.0)
    plain = RiskProfile.from_text("risk: mean", "p.yaml")
    assert RiskProfile.from_text("risk: mean\nvalues: [0, 1]", "p.yaml").hash == plain.hash
    judge = "risk: mean\ncost: {judge: {model: m, base_url: 'http://x/v1', score: number, highest: 3}}"
    assert RiskProfile.from_text(judge, "p.yaml").constraints[0].values == (1.0, 2.0, 3.0)
