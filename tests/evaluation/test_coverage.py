"""Simulation: intervals, bands, tests and the gate keep their word on known distributions.

A share of repetitions is compared with its bound up to three binomial standard errors of the repetitions
made, two for passes of the gate; the seeds are fixed. The slow versions repeat more often and cover all pairs
of benchmarks/intervals.py.
"""

from dataclasses import replace

import numpy as np
import pytest

from openrlhf_rad.evaluation.gate import Gate, GateVerdict

#: The pairs on which intervals and gate are wrong most often.
HARD = [("normal", "t 3"), ("normal", "pareto 2.5"), ("constant", "t 3"), ("constant", "pareto 2.5")]


def slack(share, count, errors=3):
    return errors * np.sqrt(share * (1 - share) / count)


def keeps_its_word(coverage, world, spectra, count, errors=3):
    """At most 7 % of the samples get an interval without the truth, at most 6 % a false pass."""
    for name, held in coverage.records(world, spectra, count).items():
        assert held.wrong <= 0.07 + slack(0.07, count, errors), (world, name, held)
        assert held.passes <= 0.06 + slack(0.06, count, errors), (world, name, held)


def passes(coverage, world, gate, count):
    """Passes of a gate that must not pass."""
    rates = coverage.gate_rates(world, gate, count)
    assert rates["pass"] <= 0.05 + slack(0.05, count, errors=2), (world, gate, rates)


@pytest.mark.parametrize("pair", HARD, ids="-".join)
def test_every_shipped_profile_keeps_its_word(pair, coverage):
    """Intervals and gate at its boundary, on the least prompts that a mean needs, on few and on more."""
    for prompts, each in ((50, 1), (300, 1), (1000, 1), (150, 4)):
        keeps_its_word(coverage, coverage.World(*pair, prompts, each), coverage.shipped(), 300)


@pytest.mark.slow
@pytest.mark.parametrize(
    "layout", [(None, 1, 0.4), (300, 1, 0.4), (1000, 1, 0.4), (3000, 1, 0.4), (300, 4, 0.9)]
)
def test_every_shipped_profile_keeps_its_word_in_many_repetitions(layout, coverage):
    """Cells of the table in docs/evaluation.md; None: as few prompts as the gate takes."""
    prompts, each, tied = layout
    for pair in coverage.TAILS:
        for name, spectrum in coverage.shipped().items():
            if prompts is None:
                world = coverage.World(*pair, coverage.least_prompts(spectrum), each, 0.0, tied)
                keeps_its_word(coverage, world, {name: spectrum}, 3000, errors=2)
        if prompts is not None:
            world = coverage.World(*pair, prompts, each, 0.0, tied)
            keeps_its_word(coverage, world, coverage.shipped(), 3000, errors=2)


def test_intervals_hold_95_percent_where_nothing_is_heavy(coverage):
    """Neither too short nor too wide."""
    for name, held in coverage.records(
        coverage.World("normal", "normal", 1000, 1), coverage.SPECTRA, 8000
    ).items():
        assert held.given == 1
        assert abs(held.wrong - 0.05) <= 0.015, (name, held)


def test_no_interval_where_none_would_cover(coverage):
    """On fewer than 30 independent answers: CVaR 0.9 of 290 prompts, linear of 119, a mean of 29."""
    for prompts, name in ((290, "cvar 0.9"), (119, "linear"), (29, "mean")):
        world = coverage.World("normal", "pareto 3", prompts, 1)
        assert coverage.records(world, {name: coverage.SPECTRA[name]}, 20)[name].given == 0


def test_the_experiments_judge_as_the_gate_does(coverage):
    """They infer from many samples at once; the gate takes each by itself."""
    for spectrum in coverage.shipped().values():
        world = coverage.World("normal", "t 3", 1000, 1)
        held = coverage.records(world, {"": spectrum}, 6)[""]
        rates = coverage.gate_rates(world, coverage.risk_boundary(world, spectrum), 6)
        assert (rates["pass"], rates["inconclusive"]) == pytest.approx((held.passes, held.silent)), spectrum


@pytest.mark.parametrize(("prompts", "each", "tied"), [(300, 1, 0.0), (100, 10, 0.8), (300, 4, 0.8)])
@pytest.mark.parametrize("share", [0.01, 0.03, 0.3])
def test_shares_of_clustered_answers_are_covered(prompts, each, tied, share, coverage):
    high, low = coverage.share_coverage(prompts, each, tied, share, 800)
    assert high + low <= 0.07 + slack(0.07, 800, errors=2)


def test_bands_hold_whole_curves(coverage):
    count = 120
    rates = coverage.band_coverage(coverage.World("normal", "t 3", 128, 1), count)
    for share in rates.values():
        assert share >= 0.93 - slack(0.93, count), rates


@pytest.mark.parametrize(("candidate", "shift"), [("normal", 0.0), ("t 3", -0.3)])
def test_gaps_hold_where_curves_touch_and_where_they_do_not(candidate, shift, coverage):
    count = 150
    for name in ("mean", "cvar 0.9"):
        world = coverage.World("normal", candidate, 300, 1, shift)
        for side, misses in coverage.gap_misses(world, coverage.SPECTRA[name], count).items():
            assert sum(misses) <= 0.07 + slack(0.07, count), (name, side, misses)


def test_dominance_tests_keep_their_level(coverage):
    """Equal distributions are the boundary of both nulls; crossing ones lie inside the second."""
    for prompts, each, count in ((128, 1, 200), (60, 4, 200)):
        rates = coverage.test_rates(coverage.World("log-normal", "log-normal", prompts, each), count)
        assert rates["against dominance"] <= 0.05 + slack(0.05, count), (prompts, each)
        assert rates["for dominance"] <= 0.05 + slack(0.05, count), (prompts, each)
    crossing = coverage.test_rates(coverage.World("normal", "t 3", 128, 1), 100)
    assert crossing["for dominance"] <= 0.05 + slack(0.05, 100)


@pytest.mark.slow
@pytest.mark.parametrize(("prompts", "each"), [(128, 1), (100, 4)])
def test_dominance_tests_keep_their_level_in_many_repetitions(prompts, each, coverage):
    count = 2000
    rates = coverage.test_rates(coverage.World("normal", "normal", prompts, each), count)
    assert rates["against dominance"] <= 0.05 + slack(0.05, count, errors=2), rates
    assert rates["for dominance"] <= 0.05, rates


def test_dominance_tests_have_power(coverage):
    """Half a standard deviation, 200 prompts with two answers each."""
    worse = coverage.test_rates(coverage.World("normal", "normal", 200, 2, 0.5), 60)
    assert worse["against dominance"] >= 0.9
    better = coverage.test_rates(coverage.World("normal", "normal", 200, 2, -0.5), 60)
    assert better["for dominance"] >= 0.8
    assert better["against dominance"] == 0


@pytest.mark.parametrize(
    ("pair", "least"),
    [(("normal", "normal"), 0.75), (("t 3", "t 3"), 0.6), (("log-normal", "log-normal"), 0.6)],
)
def test_caution_costs_little_power_where_tails_are_alike(pair, least, coverage):
    """Where Student's t at the same level passes in 80 %."""
    found = coverage.World(*pair, 1000, 1).inferences(coverage.SPECTRA, 600)
    for name, held in found.items():
        assert least <= coverage.risk_power(held) <= 0.8 + 1e-9, name


@pytest.mark.parametrize("name", ["mean", "cvar 0.9"])
@pytest.mark.parametrize("pair", [("normal", "normal"), ("normal", "t 3"), ("constant", "pareto 2.5")])
def test_false_passes_of_non_inferiority(pair, name, coverage):
    """The candidate's risk is higher by exactly what is allowed, half a unit: every pass is false."""
    spectrum = coverage.SPECTRA[name]
    world = coverage.World(*pair, 600, 1, 0.5 + coverage.World(*pair, 600, 1).fall(spectrum))
    gate = coverage.risk_boundary(world, spectrum)
    assert gate.risk == pytest.approx(0.5, abs=1e-3)
    passes(coverage, world, gate, 400)


def test_non_inferiority_has_power(coverage):
    """Equal models of 600 prompts, where half a standard deviation is allowed."""
    gate = Gate(coverage.SPECTRA["mean"], 0.5, None)
    assert coverage.gate_rates(coverage.World("normal", "normal", 600, 1), gate, 50)["pass"] >= 0.9


@pytest.mark.parametrize("pair", [("normal", "t 3"), ("constant", "pareto 2.5")], ids="-".join)
def test_false_passes_of_the_quantile_rule(pair, coverage):
    world = coverage.World(*pair, 128, 1)
    passes(coverage, world, coverage.quantile_boundary(world, coverage.SPECTRA["mean"]), 150)


def test_quantile_rule_has_power_where_baseline_is_constant(coverage):
    """The baseline's quantiles are known; the candidate's may lie a unit above, and lie 0.5 further down."""
    world = coverage.World("constant", "normal", 300, 1, -1.15)
    gate = Gate(coverage.SPECTRA["mean"], None, 1.0, levels=(0.05, 0.95), draws=500)
    assert coverage.gate_rates(world, gate, 50)["pass"] >= 0.8


@pytest.mark.slow
def test_false_passes_of_the_quantile_rule_on_all_pairs(coverage):
    for pair in coverage.PAIRS:
        world = coverage.World(*pair, 150, 1)
        passes(coverage, world, coverage.quantile_boundary(world, coverage.SPECTRA["mean"]), 1000)


def test_both_rules_together_keep_the_level(coverage):
    """One rule is false and the other true: the gate passes no more often than α."""
    count = 150
    world = coverage.World("normal", "normal", 300, 1, -0.3)
    gate = Gate(coverage.SPECTRA["mean"], -0.3 - 1e-9, 0.5, levels=(0.05, 0.95), draws=300)
    passes(coverage, world, gate, count)


def test_the_number_of_prompts_asked_for_is_enough(coverage):
    """With the prompts that the gate asks for it passes about as often as its power says, 80 %."""
    spectrum = coverage.SPECTRA["mean"]
    gate = Gate(spectrum, -0.1, None)
    asked = []
    for baseline_b, candidate_b in coverage.World("normal", "normal", 80, 1, -0.3).samples(200):
        panel = coverage.World("normal", "normal", 80, 1).panel
        held = replace(panel, costs={"cost": {"baseline": baseline_b, "candidate": candidate_b}})
        ruling = gate.decide(held, "baseline", "candidate")[0]
        if ruling.needed:
            said = GateVerdict("baseline", "candidate", [ruling]).sentence
            assert f"about {ruling.needed:,} prompts would do, not 80" in said
            if abs(ruling.change + 0.3) < 0.02:  # a pilot that is about right
                asked.append(ruling.needed)
    needed = int(np.median(asked))
    rates = coverage.gate_rates(coverage.World("normal", "normal", needed, 1, -0.3), gate, 200)
    assert 0.65 <= rates["pass"] <= 0.92, (needed, rates)
