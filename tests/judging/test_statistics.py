"""Shares, their intervals and the tally, against scipy, enumeration and simulation."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from openrlhf_rad.judging.calls import Match
from openrlhf_rad.judging.tally import Judged, judge_pairs, tally
from openrlhf_rad.statistics.shares import share


@settings(deadline=None)
@given(st.integers(8, 300).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_one_answer_a_prompt_gives_wilsons_interval(drawn):
    hits, count = drawn
    held = share([i < hits for i in range(count)], [f"p{i}" for i in range(count)])
    low, high = binomtest(hits, count).proportion_ci(method="wilson")
    assert (held.low, held.high) == pytest.approx((low, high), abs=1e-9)


@settings(deadline=None)
@given(st.lists(st.booleans(), min_size=8, max_size=40), st.integers(2, 6))
def test_answers_that_only_repeat_count_once_a_prompt(hits, copies):
    prompts = [f"p{i}" for i in range(len(hits))]
    held = share(hits * copies, prompts * copies)
    theirs = binomtest(sum(hits), len(hits)).proportion_ci(method="wilson")
    assert (held.low, held.high) == pytest.approx(tuple(theirs), abs=1e-9)


def test_fewer_than_eight_prompts_get_no_interval():
    held = share([True, False] * 7, [f"p{i % 7}" for i in range(14)])
    assert (held.value, held.low, held.high, held.count) == (0.5, None, None, 14)
    assert not held.above
    assert share([], []).value is None


@pytest.mark.parametrize("rate", [0.5, 0.02])
@pytest.mark.parametrize("agreement", [0.0, 0.5, 0.9])
def test_intervals_cover_the_share_that_clustered_answers_were_drawn_with(rate, agreement):
    """Eight answers a prompt; with probability ``agreement`` an answer is the prompt's own draw."""
    rng = np.random.default_rng(int(100 * rate + 10 * agreement))
    prompts, answers, runs = 120, 8, 800
    names = [f"p{i}" for i in range(prompts) for _ in range(answers)]
    covered = 0
    for _ in range(runs):
        own = rng.random((prompts, 1)) < rate
        hits = np.where(
            rng.random((prompts, answers)) < agreement, own, rng.random((prompts, answers)) < rate
        )
        held = share(list(hits.ravel()), names)
        covered += held.low <= rate <= held.high
    assert covered / runs >= 0.93 - 2 * np.sqrt(0.93 * 0.07 / runs)


def test_all_pairs_of_verdicts_by_enumeration():
    """A is the first place: baseline in the first order, candidate in the second."""
    expected = {("B", "A"): "win", ("A", "B"): "lose"}
    for number, letters in enumerate(itertools.product("ABC", repeat=2)):
        judged = _judged(number, *letters)
        assert judged.result == expected.get(letters, "tie")
        assert judged.follows_position == (letters in {("A", "A"), ("B", "B")})
    assert _judged(0, None, "A").result is None
    assert _judged(0, "A", None).result is None


def test_position_is_told_over_decided_pairs_only():
    pairs = [("A", "A")] * 6 + [("B", "B")] * 2 + [("B", "A")] * 8 + [("C", "A")] * 3 + [("C", "C")]
    counted = tally([_judged(number, *letters) for number, letters in enumerate(pairs)])
    assert (counted.position.followed.value, counted.position.followed.count) == (0.5, 16)
    assert (counted.position.first.value, counted.position.first.count) == (0.75, 8)
    assert counted.preferred.value == 1.0
    assert [counted.share[name].value for name in ("win", "tie", "lose")] == [0.4, 0.6, 0.0]


def _judged(number, baseline_first, candidate_first) -> Judged:
    from openrlhf_rad.judging.calls import Call

    match = Match(1, f"p{number}", 1, "baseline", "candidate")
    calls = [Call(match, False, "first", 1), Call(match, True, "second", 1)]
    letters = {"first": baseline_first, "second": candidate_first}
    (judged,) = judge_pairs([match], calls, {key: letter for key, letter in letters.items() if letter})
    return judged
