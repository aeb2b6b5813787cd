"""The paper's tables and figure by hand, the identity of Eq. (16), and the rulings of the gate."""

import numpy as np
import pytest

from openrlhf_rad.evaluation import compare, doubts
from openrlhf_rad.evaluation.compare import reward_wins, safety
from openrlhf_rad.evaluation.gate import Gate, GateVerdict, Outcome, Requirements, weighed
from openrlhf_rad.method.settings import Level
from openrlhf_rad.method.spectrum import make_spectrum
from openrlhf_rad.method.transport import dominance_gap
from openrlhf_rad.profile import EvaluateSettings
from openrlhf_rad.words import number

CVAR = make_spectrum("cvar", alpha=0.9)
MEAN = make_spectrum("mean")


@pytest.fixture
def six(panel):
    """Six prompts; baseline safe, candidate safe, sign of its lead: TT+, TT−, TF+, FT+, FF0, FT−."""
    baseline = [-1, -1, -1, 1, 1, 1]
    candidate = [-2, 0, 2, -2, 2, -1]
    lead = [1, -1, 1, 1, 0, -1]
    return panel(
        [1] * 6, {"baseline": baseline, "candidate": candidate}, {"baseline": np.zeros(6), "candidate": lead}
    )


def test_table_2_by_hand(six):
    table = safety(six, "baseline", "candidate", 0.0, 0.95)
    assert [
        (table[cell]["safe_count"], table[cell]["count"]) for cell in ("reward_higher", "reward_lower")
    ] == [
        (2, 3),
        (2, 2),
    ]
    assert table["ties"] == 1
    assert table["candidate"]["safe"].value == pytest.approx(4 / 6)
    assert table["baseline"]["safe"].value == pytest.approx(3 / 6)
    assert safety(six, "baseline", "candidate", 1.0, 0.95)["baseline"]["safe_count"] == 6


def test_figure_1_by_hand(six):
    cells = {
        cell["cell"]: (cell["wins"], cell["ties"], cell["count"])
        for cell in reward_wins(six, "baseline", "candidate", 0)
    }
    assert cells == {
        "safe,safe": (1, 0, 2),
        "safe,unsafe": (1, 0, 1),
        "unsafe,safe": (1, 0, 2),
        "unsafe,unsafe": (0, 1, 1),
        "overall": (3, 1, 6),
    }


def test_without_rewards_nothing_is_split(panel):
    held = panel([1, 1], {"baseline": [0, 1], "candidate": [1, 0]})
    assert reward_wins(held, "baseline", "candidate", 0.0) is None
    assert safety(held, "baseline", "candidate", 0.0, 0.95)["reward_higher"] is None
    empty = safety(
        panel([1], {"baseline": [0], "candidate": [0]}, {"baseline": [1], "candidate": [0]}),
        "baseline",
        "candidate",
        0.0,
        0.95,
    )
    assert empty["reward_higher"] == {"safe": None, "count": 0, "safe_count": 0}


@pytest.mark.parametrize("spectrum", [MEAN, CVAR, make_spectrum("wang", eta=0.75)], ids=str)
def test_table_3_is_the_difference_of_the_gaps(spectrum, panel):
    """Eq. (16), with the gaps of openrlhf_rad.method.transport as the second way to it."""
    rng = np.random.default_rng(0)
    baseline, candidate = rng.normal(size=1800), rng.normal(0.1, 0.6, 1800)
    held = panel([3] * 600, {"baseline": baseline, "candidate": candidate})
    weight_n = spectrum.weights(1800)
    below, above = dominance_gap(candidate, baseline, weight_n), dominance_gap(baseline, candidate, weight_n)
    row = compare.comparison(held, "baseline", "candidate", spectrum, compare.Analysis(draws=200))
    assert row["dominance"]["weighted"].value == pytest.approx(below - above)
    assert row["dominance"]["unweighted"].value == pytest.approx(baseline.mean() - candidate.mean())
    assert row["gaps"]["weighted"].below.value == pytest.approx(below)
    assert row["gaps"]["weighted"].above.value == pytest.approx(above)
    for side in (row["gaps"]["weighted"].below, row["gaps"]["weighted"].above):
        assert 0 <= side.low <= side.value <= side.high


def test_segments_are_evaluated_by_themselves(panel):
    rng = np.random.default_rng(1)
    baseline, candidate = rng.normal(size=90), rng.normal(size=90)
    names = ["a", "b", "c"] * 15
    held = panel([2] * 45, {"baseline": baseline, "candidate": candidate}, segments=names)
    rows = compare.comparison(held, "baseline", "candidate", MEAN, compare.Analysis(draws=100))["segments"]
    kept = np.repeat(np.array(names) == "b", 2)
    assert [(row["name"], row["prompts"], row["answers"]) for row in rows] == [(n, 15, 30) for n in "abc"]
    assert rows[1]["improvement_mean"].value == pytest.approx(baseline[kept].mean() - candidate[kept].mean())


def test_all_pairs_baseline_against_candidate_first():
    assert compare.pairs(["sft", "safe", "rad"]) == [("sft", "rad"), ("sft", "safe"), ("safe", "rad")]


def test_warnings_name_what_is_too_little(panel):
    rng = np.random.default_rng(2)
    held = panel([1] * 100, {"baseline": rng.normal(size=100), "candidate": rng.normal(size=100)})
    assert doubts.warnings(held, ["baseline", "candidate"], CVAR)[0] == (
        "baseline and candidate: cvar α=0.9 rests on 10 independent answers; below 30 it has no interval,"
        " for none would hold where tails are heavy; use about 300 prompts"
    )
    spiked = held.cost["candidate"].copy()
    spiked[3] = 1e4
    told = doubts.warnings(
        panel([1] * 100, {"baseline": held.cost["baseline"], "candidate": spiked}),
        ["baseline", "candidate"],
        MEAN,
    )
    assert told[0].startswith("baseline and candidate: one prompt makes up 99% of the variance")
    assert len(told) == 1  # rewards that nobody gave are no doubt
    rewarded = panel([1] * 3, {"old": [1, 2, 3], "new": [1, 2, 3]}, {"old": [0, 0, 1]})
    assert doubts.warnings(rewarded, ["old", "new"], MEAN)[-1] == (
        "no rewards of new: nothing is split by reward where it takes part"
    )
    assert doubts.warnings(panel([1] * 3, {"baseline": [1, 2, 3]}), ["baseline"], MEAN)[0] == (
        "3 prompts give no intervals; at least 8 are needed"
    )


@pytest.fixture
def sides(panel):
    def make(prompts, shift, seed=0):
        rng = np.random.default_rng(seed)
        common = rng.normal(size=prompts)
        baseline, candidate = (common + 0.5 * rng.normal(size=prompts) for _ in range(2))
        return panel([1] * prompts, {"baseline": baseline, "candidate": candidate + shift})

    return make


def decide(gate, held):
    verdict = GateVerdict("old", "new", gate.decide(held, "baseline", "candidate"))
    return verdict.outcome, verdict.lines, verdict.rulings


def test_a_gate_passes_what_is_clearly_better(sides):
    outcome, said, rulings = decide(Gate(MEAN, -0.3, 0.0), sides(300, -0.8))
    assert outcome is Outcome.PASS
    assert [ruling.rule for ruling in rulings] == ["risk", "quantiles"]
    assert rulings[0].low < rulings[0].change < rulings[0].high <= -0.3
    assert rulings[1].high <= 0.0
    ends = [number(-end) for end in (rulings[0].change, rulings[0].low, rulings[0].high)]
    assert said[0] == "PASS: new against old."
    assert said[1] == (
        f"- pass, mean: {ends[0]} below (95\N{NO-BREAK SPACE}%: {ends[1]} below to {ends[2]} below); a fall"
        " of 0.3 is required"
    )
    assert said[2] == (
        f"- pass, quantiles 0.05 to 0.95: at least {number(-rulings[1].change)} below"
        f" (95\N{NO-BREAK SPACE}%: at least {number(-rulings[1].high)} below); at most 0 above is allowed"
    )


def test_the_words_of_a_rule_that_is_not_met(sides):
    """An estimate on the wrong side, whose interval reaches to the right one."""
    outcome, said, rulings = decide(Gate(MEAN, -0.11, None), sides(60, 0.1))
    change, low, high = rulings[0].change, rulings[0].low, rulings[0].high
    assert low < 0 < change < high
    assert outcome is Outcome.FAIL
    assert said[1] == (
        f"- fail, mean: {number(change)} above (95\N{NO-BREAK SPACE}%: {number(-low)} below to {number(high)}"
        " above); a fall of 0.11 is required"
    )


def test_a_gate_fails_what_is_worse(sides):
    outcome, said, _ = decide(Gate(MEAN, -0.1, None), sides(300, 0.5))
    assert outcome is Outcome.FAIL
    assert said[1].startswith("- fail, mean: 0.")
    outcome, said, _ = decide(Gate(MEAN, None, 0.1), sides(300, 0.5))
    assert outcome is Outcome.FAIL
    assert "; at most 0.1 above is allowed; most at the 0." in said[1]


def test_a_gate_for_non_inferiority(sides):
    """A candidate that is a little worse passes where so much is allowed, and not where less is."""
    held = sides(2000, 0.02)
    outcome, said, _ = decide(Gate(MEAN, 0.1, None), held)
    assert outcome is Outcome.PASS
    assert said[1].endswith("; not worse by more than 0.1 is required")
    assert decide(Gate(MEAN, 0.04, None), held)[0] is Outcome.INCONCLUSIVE
    assert decide(Gate(MEAN, 0.005, None), held)[0] is Outcome.FAIL
    assert decide(Gate(MEAN, -0.1, None), held)[0] is Outcome.FAIL


@pytest.mark.parametrize(
    ("settings", "ask", "limit"),
    [
        ({}, Requirements(), -0.2),
        ({"worsening": Level(0.5)}, Requirements(), 0.5),
        ({"worsening": Level(0.5)}, Requirements(improvement=Level(0.1)), -0.1),
        ({}, Requirements(worsening=Level(0.3)), 0.3),
        ({}, Requirements(worsening=Level(0.5, "spread")), 0.5),
        ({"worsening": Level(0.5)}, Requirements(worsening=Level(0.0)), -0.2),
    ],
)
def test_which_amount_decides_about_the_risk(settings, ask, limit, panel):
    amount, sign = ask.limit(EvaluateSettings(improvement=Level(0.2), **settings))
    assert sign * amount.resolve(np.array([-1.0, 1.0]), 1.0) == pytest.approx(limit)


def test_a_gate_never_passes_on_few_prompts(sides):
    outcome, said, rulings = decide(Gate(CVAR, -0.1, None), sides(120, -5.0))
    assert outcome is Outcome.INCONCLUSIVE
    assert rulings[0].needed == 500
    assert said[0] == "INCONCLUSIVE: new against old; about 500 prompts would do, not 120."
    assert said[1].endswith(
        "a fall of 0.1 is required; it rests on 12 independent answers and must rest on 50, so on about 500"
        " prompts"
    )
    outcome, said, rulings = decide(Gate(MEAN, None, 1.0, levels=(0.01, 0.99)), sides(120, -5.0))
    assert outcome is Outcome.INCONCLUSIVE
    assert said[1] == "- inconclusive, quantiles 0.01 to 0.99: they need 500 prompts, not 120"
    assert rulings[0].change is None


def test_a_gate_does_not_trust_one_prompt(sides):
    held = sides(100, -0.2)
    held.cost["baseline"][7] = 1000.0
    outcome, said, _ = decide(Gate(MEAN, -0.1, None), held)
    assert outcome is Outcome.INCONCLUSIVE
    assert "one prompt makes up" in said[1]


def test_the_same_answers_do_not_improve_and_are_no_evidence(panel):
    cost = np.random.default_rng(0).normal(size=200)
    held = panel([1] * 200, {"baseline": cost, "candidate": cost})
    outcome, said, _ = decide(Gate(MEAN, 0.0, None), held)
    assert outcome is Outcome.FAIL
    assert said[1] == "- fail, mean: no difference; a fall of 0 is required; no prompt tells them apart"
    # Nor that nothing is worse: a table that is compared with itself must not pass.
    assert decide(Gate(MEAN, 0.1, None), held)[0] is Outcome.INCONCLUSIVE


def test_segments_must_pass_each(panel):
    rng = np.random.default_rng(3)
    baseline = rng.normal(size=400)
    candidate = baseline + 0.1 * rng.normal(size=400) - np.tile([0.5, -0.5], 200) - 0.3
    held = panel([1] * 400, {"baseline": baseline, "candidate": candidate}, segments=["a", "b"] * 200)
    assert decide(Gate(MEAN, -0.1, None), held)[0] is Outcome.PASS
    outcome, said, _ = decide(Gate(MEAN, -0.1, None, segments=("a", "b")), held)
    assert outcome is Outcome.FAIL
    assert [line.split(":")[0] for line in said] == [
        "FAIL", "- pass, mean", "- pass, mean, segment a", "- fail, mean, segment b",
    ]  # fmt: skip


def test_one_number_of_prompts_would_do(sides, panel):
    """The largest of all rules; a segment that is half of the prompts needs twice as many in all."""
    held = sides(100, -0.3)
    half = panel(
        [1] * 100, {name: list(cost_b) for name, cost_b in held.cost.items()}, segments=["a", "b"] * 50
    )
    rulings = Gate(MEAN, -0.1, None, segments=("a", "b")).decide(half, "baseline", "candidate")
    verdict = GateVerdict("old", "new", rulings)
    wanted = [2 * one.needed if one.segment else one.needed for one in rulings if one.needed]
    assert verdict.outcome is Outcome.INCONCLUSIVE
    assert verdict.needed == max(wanted)
    assert (
        verdict.sentence == f"INCONCLUSIVE: new against old; about {max(wanted)} prompts would do, not 100."
    )


def test_a_quantile_rule_looks_where_the_risk_looks():
    assert weighed(CVAR) == pytest.approx((0.9, 0.95))
    assert weighed(MEAN) == (0.05, 0.95)
    assert weighed(make_spectrum("linear")) == pytest.approx((0.1, 0.95))


def test_levels_between_those_of_the_grid(sides):
    outcome, said, _ = decide(Gate(MEAN, None, 0.0, levels=(0.501, 0.502)), sides(300, -0.8))
    assert outcome is Outcome.PASS
    assert "quantiles 0.501 to 0.502: at least" in said[1]
