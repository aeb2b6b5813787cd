"""Simulation: intervals, bands, tests and the gate keep their word on known distributions.

A share of repetitions is compared with its bound up to three binomial standard errors of the repetitions
made, two for passes of the gate; the seeds are fixed. The slow versions repeat more often and cover all pairs
of benchmarks/intervals.py.
"""

import numpy as np
import pytest

from openrlhf_rad.evaluation.gate import Gate

PAIRS = [
    ("normal", "normal"),
    ("log-normal", "log-normal"),
    ("t 3", "t 3"),
    ("pareto 3", "pareto 3"),
    ("normal", "log-normal"),
    ("normal", "pareto 3"),
    ("constant", "t 3"),
    ("constant", "pareto 3"),
    ("constant", "pareto 2.5"),
]
#: Blue's tail is as heavy as red's, or heavier.
TAILS = [
    ("normal", "normal"),
    ("normal", "t 3"),
    ("normal", "log-normal"),
    ("normal", "pareto 3"),
    ("normal", "pareto 2.5"),
    ("constant", "log-normal"),
    ("constant", "pareto 3"),
    ("constant", "pareto 2.5"),
]


#: Spectrum, prompts and pair of the one design of the benchmark that falls short of 93 % beyond chance.
SHORT = ("linear", 50, ("normal", "pareto 2.5"))


def slack(share, count, errors=3):
    return errors * np.sqrt(share * (1 - share) / count)


def covers(coverage, world, name, count):
    high, low, shown = coverage.interval_coverage(world, coverage.SPECTRA[name], count)
    assert shown == 1
    inside = 1 - high - low
    assert 0.93 - slack(0.93, count) <= inside <= 0.97 + slack(0.97, count), (world, name, high, low)


def passes(coverage, world, gate, count):
    """Passes of a gate that must not pass."""
    rates = coverage.gate_rates(world, gate, count)
    assert rates["pass"] <= 0.05 + slack(0.05, count, errors=2), (world, gate, rates)


@pytest.mark.parametrize("name", ["mean", "cvar 0.9"])
@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
def test_intervals_cover_93_to_97_percent(pair, name, coverage):
    """With 300 prompts CVaR 0.9 rests on 30 answers, the least that an interval is given for."""
    covers(coverage, coverage.World(*pair, 300, 1), name, 1000)


@pytest.mark.parametrize("pair", TAILS, ids="-".join)
def test_intervals_of_few_answers_cover(pair, coverage):
    """The least number of answers that a mean gets an interval for."""
    covers(coverage, coverage.World(*pair, 30, 1), "mean", 2000)


@pytest.mark.parametrize("pair", [("log-normal", "t 3"), ("normal", "pareto 3")], ids="-".join)
@pytest.mark.parametrize("name", ["mean", "cvar 0.9"])
def test_intervals_of_clusters_cover(name, pair, coverage):
    """With 150 prompts the tail of 1 draw in 100 comes from fewer than 30 of them: no interval."""
    covers(coverage, coverage.World(*pair, 200, 4), name, 1000)


def test_no_interval_where_none_would_cover(coverage):
    """On fewer than 30 independent answers: CVaR 0.9 of 290 prompts, a mean of 29."""
    for prompts, name in ((290, "cvar 0.9"), (29, "mean")):
        world = coverage.World("normal", "pareto 3", prompts, 1)
        assert coverage.interval_coverage(world, coverage.SPECTRA[name], 20)[2] == 0


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mean", "cvar 0.9", "linear"])
@pytest.mark.parametrize("prompts", [50, 300, 1000])
def test_intervals_cover_on_all_pairs(name, prompts, coverage):
    if (name, prompts) == ("cvar 0.9", 50):
        pytest.skip("rests on 5 answers: no interval")
    for pair in coverage.PAIRS:
        if (name, prompts, pair) != SHORT:
            covers(coverage, coverage.World(*pair, prompts, 1), name, 4000)


@pytest.mark.slow
@pytest.mark.xfail(
    strict=True, reason="it covers 91 %: hardly a variance, and 50 prompts; docs/evaluation.md"
)
def test_the_one_known_interval_that_is_too_short(coverage):
    name, prompts, pair = SHORT
    covers(coverage, coverage.World(*pair, prompts, 1), name, 4000)


def test_bands_hold_whole_curves(coverage):
    count = 120
    rates = coverage.band_coverage(coverage.World("normal", "t 3", 128, 1), count)
    for share in rates.values():
        assert share >= 0.93 - slack(0.93, count), rates


@pytest.mark.parametrize(("blue", "shift"), [("normal", 0.0), ("t 3", -0.3)])
def test_gaps_hold_where_curves_touch_and_where_they_do_not(blue, shift, coverage):
    count = 150
    for name in ("mean", "cvar 0.9"):
        world = coverage.World("normal", blue, 300, 1, shift)
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


@pytest.mark.parametrize("pair", TAILS, ids="-".join)
def test_false_passes_of_the_risk_rule(pair, coverage):
    """ε is exactly what blue has: a pass is false. 50 and 500 prompts are the least that the gate takes."""
    for prompts, name in ((50, "mean"), (128, "mean"), (500, "cvar 0.9")):
        world = coverage.World(*pair, prompts, 1)
        passes(coverage, world, coverage.risk_boundary(world, coverage.SPECTRA[name]), 1500)


@pytest.mark.parametrize(
    "pair", [("normal", "normal"), ("log-normal", "log-normal"), ("t 3", "t 3")], ids="-".join
)
@pytest.mark.parametrize(("prompts", "name"), [(128, "mean"), (1000, "cvar 0.9")])
def test_caution_costs_little_power_where_tails_are_alike(pair, prompts, name, coverage):
    """Where bounds without it pass in 80 %."""
    power = coverage.risk_power(coverage.World(*pair, prompts, 1), coverage.SPECTRA[name], 600)
    assert 0.75 <= power <= 0.8 + 1e-9


@pytest.mark.parametrize("pair", [("normal", "t 3"), ("constant", "pareto 2.5")], ids="-".join)
def test_false_passes_of_the_quantile_rule(pair, coverage):
    world = coverage.World(*pair, 128, 1)
    passes(coverage, world, coverage.quantile_boundary(world, coverage.SPECTRA["mean"]), 150)


def test_quantile_rule_has_power_where_red_is_constant(coverage):
    """Red's quantiles are then known; blue's may lie a whole unit above, and lie 0.5 further down."""
    world = coverage.World("constant", "normal", 300, 1, -1.15)
    gate = Gate(coverage.SPECTRA["mean"], None, 1.0, levels=(0.05, 0.95), draws=500)
    assert coverage.gate_rates(world, gate, 50)["pass"] >= 0.8


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mean", "cvar 0.9"])
@pytest.mark.parametrize(("prompts", "each"), [(50, 1), (100, 1), (500, 1), (1000, 1), (150, 4)])
def test_false_passes_on_all_pairs(prompts, each, name, coverage):
    for pair in coverage.PAIRS:
        world = coverage.World(*pair, prompts, each)
        passes(coverage, world, coverage.risk_boundary(world, coverage.SPECTRA[name]), 8000)


@pytest.mark.slow
def test_false_passes_of_the_quantile_rule_on_all_pairs(coverage):
    for pair in coverage.PAIRS:
        world = coverage.World(*pair, 150, 1)
        passes(coverage, world, coverage.quantile_boundary(world, coverage.SPECTRA["mean"]), 1000)


def test_both_rules_together_keep_the_level(coverage):
    """One rule is false and the other true: the gate passes no more often than α."""
    count = 150
    world = coverage.World("normal", "normal", 300, 1, -0.3)
    gate = Gate(coverage.SPECTRA["mean"], 0.3 + 1e-9, 0.5, levels=(0.05, 0.95), draws=300)
    passes(coverage, world, gate, count)


def test_the_number_of_prompts_asked_for_is_enough(coverage):
    """With the prompts that the gate asks for it passes about as often as its power says, 80 %."""
    import re

    spectrum = coverage.SPECTRA["mean"]
    gate = Gate(spectrum, 0.1, None)
    asked = []
    for red_b, blue_b in coverage.World("normal", "normal", 80, 1, -0.3).samples(200):
        panel = coverage.World("normal", "normal", 80, 1).panel
        held = type(panel)(
            panel.start_p, panel.size_p, panel.segment_p, (), {"red": red_b, "blue": blue_b}, {}, {}
        )
        ruling = gate.decide(held, "red", "blue")[0]
        if ruling.needed:
            assert re.search(f"about {ruling.needed} prompts could tell, not 80", ruling.sentence)
            if abs(ruling.value - 0.3) < 0.02:  # a pilot that is about right
                asked.append(ruling.needed)
    needed = int(np.median(asked))
    rates = coverage.gate_rates(coverage.World("normal", "normal", needed, 1, -0.3), gate, 200)
    assert 0.65 <= rates["pass"] <= 0.92, (needed, rates)
