"""The choice of a dual variable in a profile: keys, what belongs to what, inheritance, round trip, words."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openrlhf_rad.authoring.words import explain, price_moves
from openrlhf_rad.errors import ProfileError
from openrlhf_rad.profile import DualSettings, RiskProfile

FULL = "{method: pid, proportional: 2, derivative: 4, smoothing: 0.25, delay: 3, confidence: 0.9}"


def read(text):
    return RiskProfile.from_text(text, "p.yaml")


def dual_of(text):
    return read(f"risk: mean\ndual: {text}").dual


def problems_of(text):
    with pytest.raises(ProfileError) as caught:
        read(text)
    return caught.value.problems


def test_every_key_is_read():
    assert dual_of(FULL) == DualSettings(
        method="pid", proportional=2, derivative=4, smoothing=0.25, delay=3, confidence=0.9
    )
    assert dual_of("{estimate: window, memory: 5}") == DualSettings(estimate="window", memory=5)
    assert dual_of("{confidence: null}") == DualSettings() == dual_of("{}")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            "{memory: 8}",
            "p.yaml:2:16: dual.memory is 8; it belongs to an average, and the estimate is last; write"
            " dual.estimate: ema, or remove it",
        ),
        (
            "{proportional: 0}",
            "p.yaml:2:22: dual.proportional is 0; it belongs to method pid, and the method is ascent; write"
            " dual.method: pid, or remove it",
        ),
        (
            "{method: adam, delay: 3}",
            "p.yaml:2:29: dual.delay is 3; it belongs to method pid, and the method is adam; write"
            " dual.method: pid, or remove it",
        ),
        (
            "{method: log, initial: 0}",
            "p.yaml:2:30: dual.initial is 0; with method log it must be > 0, for λ moves in proportion to"
            " itself; write dual.initial: 1, or another method",
        ),
        (
            "{confidence: 0.4}",
            "p.yaml:2:20: dual.confidence is 0.4; it must lie in [0.5, 1); below 0.5 the bound would excuse a"
            " violation; for nine in ten use 0.9, for none null",
        ),
        (
            "{methd: pid}",
            "p.yaml:2:8: dual.methd is not a key of dual; the keys are initial, step, max, method, gap,"
            " estimate, memory, confidence, proportional, derivative, smoothing, delay; did you mean method?",
        ),
        # An unknown method says nothing about the gains.
        (
            "{method: pidd, delay: 2}",
            "p.yaml:2:16: dual.method is pidd; it must be one of ascent, log, adam, pid; did you mean pid?",
        ),
    ],
)
def test_combinations_that_make_no_sense_are_named_at_their_place(text, problem):
    assert problems_of(f"risk: mean\ndual: {text}") == [problem]


def test_all_are_named_at_once():
    text = "risk: mean\ndual:\n  method: log\n  initial: 0\n  memory: 2\n  smoothing: 0.5\n"
    assert [line.split(";")[0] for line in problems_of(text)] == [
        "p.yaml:4:12: dual.initial is 0",
        "p.yaml:5:11: dual.memory is 2",
        "p.yaml:6:14: dual.smoothing is 0.5",
    ]


def test_a_new_method_begins_with_its_own_gains(tmp_path):
    (tmp_path / "base.yaml").write_text(f"risk: mean\ndual: {FULL}\n", encoding="utf-8")
    child = RiskProfile.from_text("extends: ./base.yaml\ndual: {method: log}", "c.yaml", tmp_path)
    assert child.dual == DualSettings(method="log", confidence=0.9)
    same = RiskProfile.from_text("extends: ./base.yaml\ndual: {delay: 2}", "c.yaml", tmp_path)
    assert (same.dual.method, same.dual.proportional, same.dual.delay) == ("pid", 2, 2)
    plain = RiskProfile.from_text("extends: ./base.yaml\ndual: {confidence: null}", "c.yaml", tmp_path)
    assert plain.dual.confidence is None


def test_a_segment_takes_over_the_gains_with_their_method_only():
    text = (
        f"risk: mean\ndual: {FULL}\nsegments:\n  same: {{dual: {{proportional: 7}}}}\n"
        "  other: {dual: {method: ascent, estimate: ema}}\n  third: {dual: {estimate: last}}\n"
    )
    rest, same, other, third = read(text).constraints
    assert rest.dual == third.dual == dual_of(FULL)
    assert (same.dual.method, same.dual.proportional, same.dual.derivative) == ("pid", 7, 4)
    assert other.dual == DualSettings(estimate="ema", confidence=0.9)
    wrong = "risk: mean\nsegments: {old: {dual: {memory: 3}}}"
    assert problems_of(wrong) == [
        "p.yaml:2:33: segments.old.dual.memory is 3; it belongs to an average, and the estimate is last;"
        " write segments.old.dual.estimate: ema, or remove it"
    ]


@given(
    st.builds(
        DualSettings,
        method=st.sampled_from(["ascent", "log", "adam", "pid"]),
        estimate=st.sampled_from(["last", "ema", "window"]),
        initial=st.floats(1e-9, 10),
        memory=st.integers(1, 10_000),
        confidence=st.none() | st.floats(0.5, 0.999),
        proportional=st.floats(0, 1e9),
        derivative=st.floats(0, 1e9),
        smoothing=st.floats(0, 0.999),
        delay=st.integers(1, 10_000),
    )
)
def test_the_resolved_profile_reads_back(dual):
    plain = read("risk: mean")
    profile = replace(plain, constraints=(replace(plain.constraints[0], dual=dual),))
    again = read(profile.to_yaml())
    # Gains of another method play no part, so they are not written.
    assert again.resolved()["dual"] == profile.resolved()["dual"]
    assert again.hash == profile.hash
    assert read(again.to_yaml()) == again


def test_the_choice_is_part_of_the_hash_and_of_an_override():
    plain = read("risk: mean")
    chosen = plain.with_overrides({"dual.method": "pid", "dual.proportional": "2"})
    assert chosen.dual == DualSettings(method="pid", proportional=2)
    assert chosen.hash != plain.hash
    assert plain.resolved()["dual"] == {
        "initial": 1.0,
        "step": 0.1,
        "max": 10.0,
        "method": "ascent",
        "gap": "exact",
        "estimate": "last",
        "confidence": None,
    }


def test_the_choice_in_words():
    assert price_moves(DualSettings()) == []
    assert price_moves(dual_of(FULL)) == [
        "The price follows the latest excess as well as its sum, and so turns sooner (a PID controller).",
        "A rise of the excess within 3 rounds raises it further.",
        "It goes by the most that the excess may be with 90 % confidence, so that a lucky round is not taken"
        " for safety.",
    ]
    assert price_moves(dual_of("{method: log, estimate: ema, memory: 4}")) == [
        "The price moves in proportion to itself: a low one moves slowly, a high one fast (Safe RLHF).",
        "It goes by the average of 4 rounds, older ones fading, not by the last one alone.",
    ]
    sections = dict(explain(read("risk: mean\ndual: {method: adam}")))
    assert sections["How strictly"][-1].endswith(
        "by about the same amount each round, large excess or small (Adam)."
    )
