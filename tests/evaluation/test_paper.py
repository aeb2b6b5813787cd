"""The paper's tables and figure by hand, the identity of Eq. (16), and the rulings of the gate."""

import numpy as np
import pytest

from openrlhf_rad.evaluation import compare
from openrlhf_rad.evaluation.compare import dominance, reward_wins, safety
from openrlhf_rad.evaluation.gate import Gate, Outcome, overall, sentence, weighed
from openrlhf_rad.method.spectrum import make_spectrum
from openrlhf_rad.method.transport import dominance_gap

CVAR = make_spectrum("cvar", alpha=0.9)
MEAN = make_spectrum("mean")


@pytest.fixture
def six(panel):
    """Six prompts: (red safe, blue safe, sign of blue's lead) = TT+, TT−, TF+, FT+, FF0, FT−."""
    red = [-1, -1, -1, 1, 1, 1]
    blue = [-2, 0, 2, -2, 2, -1]
    lead = [1, -1, 1, 1, 0, -1]
    return panel([1] * 6, {"red": red, "blue": blue}, {"red": np.zeros(6), "blue": lead})


def test_table_2_by_hand(six):
    table = safety(six, "red", "blue", 0.0, 0.95)
    assert [
        (table[cell]["safe_count"], table[cell]["count"]) for cell in ("reward_higher", "reward_lower")
    ] == [
        (2, 3),
        (2, 2),
    ]
    assert table["ties"] == 1
    assert table["blue"]["safe"].value == pytest.approx(4 / 6)
    assert table["red"]["safe"].value == pytest.approx(3 / 6)
    assert safety(six, "red", "blue", 1.0, 0.95)["red"]["safe_count"] == 6


def test_figure_1_by_hand(six):
    cells = {
        cell["cell"]: (cell["wins"], cell["ties"], cell["count"])
        for cell in reward_wins(six, "red", "blue", 0)
    }
    assert cells == {
        "safe,safe": (1, 0, 2),
        "safe,unsafe": (1, 0, 1),
        "unsafe,safe": (1, 0, 2),
        "unsafe,unsafe": (0, 1, 1),
        "overall": (3, 1, 6),
    }


def test_without_rewards_nothing_is_split(panel):
    held = panel([1, 1], {"red": [0, 1], "blue": [1, 0]})
    assert reward_wins(held, "red", "blue", 0.0) is None
    assert safety(held, "red", "blue", 0.0, 0.95)["reward_higher"] is None
    empty = safety(panel([1], {"red": [0], "blue": [0]}, {"red": [1], "blue": [0]}), "red", "blue", 0.0, 0.95)
    assert empty["reward_higher"] == {"safe": None, "count": 0, "safe_count": 0}


@pytest.mark.parametrize("spectrum", [MEAN, CVAR, make_spectrum("wang", eta=0.75)], ids=str)
def test_table_3_is_the_difference_of_the_gaps(spectrum, panel):
    """Eq. (16), with the gaps of openrlhf_rad.method.transport as the second way to it."""
    rng = np.random.default_rng(0)
    red, blue = rng.normal(size=1800), rng.normal(0.1, 0.6, 1800)
    held = panel([3] * 600, {"red": red, "blue": blue})
    weight_n = spectrum.weights(1800)
    below, above = dominance_gap(blue, red, weight_n), dominance_gap(red, blue, weight_n)
    table = dominance(held, "red", "blue", spectrum, 0.95)
    assert table["weighted"].value == pytest.approx(below - above)
    assert table["unweighted"].value == pytest.approx(red.mean() - blue.mean())
    row = compare.comparison(held, "red", "blue", spectrum, compare.Settings(draws=200))
    assert row["gaps"]["weighted"].below.value == pytest.approx(below)
    assert row["gaps"]["weighted"].above.value == pytest.approx(above)
    for side in (row["gaps"]["weighted"].below, row["gaps"]["weighted"].above):
        assert 0 <= side.low <= side.value <= side.high


def test_segments_are_evaluated_by_themselves(panel):
    rng = np.random.default_rng(1)
    red, blue = rng.normal(size=90), rng.normal(size=90)
    names = ["a", "b", "c"] * 15
    held = panel([2] * 45, {"red": red, "blue": blue}, segments=names)
    rows = compare.comparison(held, "red", "blue", MEAN, compare.Settings(draws=100))["segments"]
    kept = np.repeat(np.array(names) == "b", 2)
    assert [(row["name"], row["prompts"], row["answers"]) for row in rows] == [(n, 15, 30) for n in "abc"]
    assert rows[1]["improvement_mean"].value == pytest.approx(red[kept].mean() - blue[kept].mean())


def test_all_pairs_red_against_blue_first():
    assert compare.pairs(["sft", "safe", "rad"]) == [("sft", "rad"), ("sft", "safe"), ("safe", "rad")]


def test_warnings_name_what_is_too_little(panel):
    rng = np.random.default_rng(2)
    held = panel([1] * 100, {"red": rng.normal(size=100), "blue": rng.normal(size=100)})
    assert compare.warnings(held, ["red", "blue"], CVAR)[0] == (
        "red and blue: cvar α=0.9 rests on 10 independent answers; below 30 it has no interval,"
        " for none would hold where tails are heavy; use about 300 prompts"
    )
    spiked = held.cost["blue"].copy()
    spiked[3] = 1e4
    told = compare.warnings(
        panel([1] * 100, {"red": held.cost["red"], "blue": spiked}), ["red", "blue"], MEAN
    )
    assert told[0].startswith("red and blue: one prompt makes up 99% of the variance")
    assert told[1] == "no rewards of red, blue: nothing is split by reward where it takes part"
    assert compare.warnings(panel([1] * 3, {"red": [1, 2, 3]}), ["red"], MEAN)[0] == (
        "3 prompts give no intervals; at least 8 are needed"
    )


@pytest.fixture
def sides(panel):
    def make(prompts, shift, seed=0):
        rng = np.random.default_rng(seed)
        common = rng.normal(size=prompts)
        red, blue = (common + 0.5 * rng.normal(size=prompts) for _ in range(2))
        return panel([1] * prompts, {"red": red, "blue": blue + shift})

    return make


def decide(gate, held):
    rulings = gate.decide(held, "red", "blue")
    return overall(rulings), sentence(rulings), rulings


def test_a_gate_passes_what_is_clearly_better(sides):
    outcome, said, rulings = decide(Gate(MEAN, 0.3, 0.0), sides(300, -0.8))
    assert outcome is Outcome.PASS
    assert [ruling.rule for ruling in rulings] == ["risk", "quantiles"]
    assert rulings[0].bound >= 0.3
    assert rulings[1].bound <= 0.0
    assert said.startswith("PASS: mean of blue is 0.")
    assert (
        "with 95 % confidence; 0.3 is asked for; no quantile of blue from 0.05 to 0.95 is more than −" in said
    )


def test_a_gate_fails_what_is_worse(sides):
    outcome, said, _ = decide(Gate(MEAN, 0.1, None), sides(300, 0.5))
    assert outcome is Outcome.FAIL
    assert said.startswith("FAIL: mean of blue is 0.")
    assert "above that of red" in said
    outcome, said, _ = decide(Gate(MEAN, None, 0.1), sides(300, 0.5))
    assert outcome is Outcome.FAIL
    assert "0.1 is allowed" in said


def test_a_gate_never_passes_on_few_prompts(sides):
    outcome, said, rulings = decide(Gate(CVAR, 0.1, None), sides(120, -5.0))
    assert outcome is Outcome.UNKNOWN
    assert rulings[0].needed == 500
    assert said.endswith(
        "which rests on 12 independent answers; it must rest on 50, so on about 500 prompts, not 120."
    )
    outcome, said, rulings = decide(Gate(MEAN, None, 1.0, levels=(0.01, 0.99)), sides(120, -5.0))
    assert outcome is Outcome.UNKNOWN
    assert said == "CANNOT SAY: 120 prompts; quantiles from 0.01 to 0.99 need 500."
    assert rulings[0].value is None


def test_a_gate_does_not_trust_one_prompt(sides):
    held = sides(100, -0.2)
    held.cost["red"][7] = 1000.0
    outcome, said, _ = decide(Gate(MEAN, 0.1, None), held)
    assert outcome is Outcome.UNKNOWN
    assert "one prompt makes up" in said


def test_the_same_answers_do_not_improve(panel):
    cost = np.random.default_rng(0).normal(size=200)
    outcome, said, _ = decide(Gate(MEAN, 0.0, None), panel([1] * 200, {"red": cost, "blue": cost}))
    assert outcome is Outcome.FAIL
    assert "no prompt tells them apart" in said


def test_segments_must_pass_each(panel):
    rng = np.random.default_rng(3)
    red = rng.normal(size=400)
    blue = red + 0.1 * rng.normal(size=400) - np.tile([0.5, -0.5], 200) - 0.3
    held = panel([1] * 400, {"red": red, "blue": blue}, segments=["a", "b"] * 200)
    gate = Gate(MEAN, 0.1, None)
    assert decide(gate, held)[0] is Outcome.PASS
    outcome, said, _ = decide(Gate(MEAN, 0.1, None, segments=("a", "b")), held)
    assert outcome is Outcome.FAIL
    assert said.startswith("FAIL: segment b: mean of blue is 0.2")


def test_a_quantile_rule_looks_where_the_risk_looks():
    assert weighed(CVAR) == pytest.approx((0.9, 0.95))
    assert weighed(MEAN) == (0.05, 0.95)
    assert weighed(make_spectrum("linear")) == pytest.approx((0.1, 0.95))


def test_levels_between_those_of_the_grid(sides):
    outcome, said, _ = decide(Gate(MEAN, None, 0.0, levels=(0.501, 0.502)), sides(300, -0.8))
    assert outcome is Outcome.PASS
    assert "from 0.501 to 0.502" in said
