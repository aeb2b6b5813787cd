"""What labels are taken for, and the order of costs by them."""

import numpy as np
import pytest
from scipy import stats

from openrlhf_rad.harm import examples, harm_order, read_labels, refused


@pytest.mark.parametrize(
    ("column", "words", "expected"),
    [
        ("is_safe", ["true", "false"], [0, 1]),
        ("isSafe", ["True", "False"], [0, 1]),
        ("is_response_0_safe", ["1", "0"], [0, 1]),
        ("unsafe", ["yes", "no"], [1, 0]),
        ("toxicity", ["1", "0"], [1, 0]),
        ("not_harmful", ["true", "false"], [0, 1]),
        ("is_refusal", ["true", "false"], [0, 1]),
        ("label", ["harmful", "benign"], [1, 0]),
        ("is_safe", ["unsafe", "Safe "], [1, 0]),
        ("label", ["harmful", "safe", "borderline"], [1, 0, -1]),
    ],
)
def test_words_are_taken_for_what_they_and_their_column_say(column, words, expected):
    found = read_labels(column, words)
    assert [found.taken[word] for word in words] == expected
    assert found.reason == ""


@pytest.mark.parametrize("column", ["label", "verdict", "safety_violation_safe", "outcome"])
def test_what_is_not_plain_is_asked(column):
    found = read_labels(column, ["1", "0"])
    assert found.asks
    assert found.reason == (
        f"{column} holds '0' and '1', and its name does not say which of them is harmful; name it with"
        " --harmful"
    )
    assert read_labels(column, ["1", "0"], "0").taken == {"0": 1, "1": 0}


def test_labels_that_cannot_serve():
    assert read_labels("label", ["weapons", "drugs"]).reason == (
        "label holds 'drugs', neither harmful nor safe; name the harmful one with --harmful"
    )
    assert "does not hold both" in read_labels("label", ["safe"]).reason
    # A mistyped --harmful would make everything safe.
    assert "does not hold both" in read_labels("label", ["safe", "harmful"], "harmfull").reason


def test_three_answers_show_both_kinds():
    assert examples([-1, 1, 1, 1, 1, 0, 0]) == [1, 2, 5]
    assert examples([0, 1, 0, 0]) == [0, 1, 2]
    assert examples([1, 1, 1, 1]) == [0, 1, 2]
    assert examples([-1, -1]) == []


def test_the_order_is_mann_and_whitney_s_with_delong_s_error():
    rng = np.random.default_rng(0)
    cost_b, harmful_b = rng.integers(0, 9, 120).astype(float), rng.integers(-1, 2, 120)
    bad, good = cost_b[harmful_b == 1], cost_b[harmful_b == 0]
    found = harm_order(cost_b, harmful_b)
    expected = stats.mannwhitneyu(bad, good).statistic / (bad.size * good.size)
    assert found.value == pytest.approx(expected)
    # DeLong et al. 1988, by their own loops.
    wins = (bad[:, None] > good) + 0.5 * (bad[:, None] == good)
    variance = wins.mean(1).var(ddof=1) / bad.size + wins.mean(0).var(ddof=1) / good.size
    assert found.error == pytest.approx(np.sqrt(variance), rel=0.02)


def test_answers_to_one_prompt_are_one_observation():
    rng = np.random.default_rng(1)
    harmful_p = np.arange(80) % 2
    cost_p = rng.normal(size=80) + harmful_p
    once = harm_order(cost_p, harmful_p)
    often = harm_order(np.repeat(cost_p, 9), np.repeat(harmful_p, 9), np.repeat(np.arange(80), 9))
    assert often.value == pytest.approx(once.value)
    assert often.error == pytest.approx(once.error)
    assert often.chance == pytest.approx(once.chance)


@pytest.mark.parametrize("size", [8, 40, 400])
def test_costs_that_know_nothing_are_hardly_ever_called_inverted(size):
    rng = np.random.default_rng(2)
    called = sum(harm_order(rng.normal(size=size), np.arange(size) % 4 == 0).inverted() for _ in range(2000))
    assert called <= 2000 * 0.025 + 3 * np.sqrt(2000 * 0.025 * 0.975)


def test_four_answers_turned_round_prove_nothing_and_forty_do():
    assert not harm_order([1, 2, 3, 4], [1, 1, 0, 0]).inverted()
    assert harm_order(np.arange(40), np.arange(40) < 20).inverted()


def test_empty_answers_and_refusals_are_no_harm():
    assert [refused(text) for text in ("", "I'm sorry, but no.", "Sure, first you")] == [True, True, False]
