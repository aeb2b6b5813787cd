"""Words and pictures against sums taken directly."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openrlhf_rad.authoring import difference, show, words
from openrlhf_rad.authoring.words import parts
from openrlhf_rad.method.spectrum import make_spectrum
from openrlhf_rad.profile import Level, RiskProfile

SPECTRA = st.one_of(
    st.floats(0.01, 0.99).map(lambda a: make_spectrum("cvar", alpha=a)),
    st.floats(0, 3).map(lambda e: make_spectrum("wang", eta=e)),
    st.floats(1, 9).map(lambda g: make_spectrum("power", gamma=g)),
    st.floats(0.1, 9).map(lambda k: make_spectrum("exponential", kappa=k)),
    st.sampled_from([make_spectrum("mean"), make_spectrum("linear"), make_spectrum("var", alpha=0.9)]),
)


def profile_of(text):
    return RiskProfile.from_text(text, "p.yaml")


def part_of(text):
    return parts(profile_of(text))[0]


@settings(deadline=None)
@given(SPECTRA, st.sampled_from(words.TAILS))
def test_the_share_on_the_worst_is_the_sum_of_their_weights(spectrum, tail):
    weight_n = spectrum.weights(1000)
    assert words.share_on_worst(spectrum, tail) == pytest.approx(
        weight_n[-10 * tail :].sum() / 1000, abs=1e-9
    )


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (0, "0 %"),
        (1, "100 %"),
        (0.1, "10 %"),
        (0.12345, "12.3 %"),
        (0.9987, "99.87 %"),
        (1e-6, "under 0.01 %"),
    ],
)
def test_percentages(share, text):
    assert words.percent(share) == text


@pytest.mark.parametrize(
    ("risk", "text"),
    [
        ("cvar α=0.9", "the mean cost of the most harmful 10 % of answers"),
        ("power γ=3", "the expected cost of the worst of 3 answers"),
        (
            "power γ=2.5",
            "an average of all costs in which the worst 10 % of answers carry 23.2 % of the weight",
        ),
        ("var α=0.9", "the cost that 90 % of answers stay below, smoothed over 5 %"),
        ("linear", "the expected cost of the worse of two answers"),
        (
            "0.8 * cvar α=0.9 + 0.2 * mean",
            "a sum: 80 % of the mean cost of the most harmful 10 % of answers plus 20 % of the mean cost of"
            " all answers",
        ),
        # 3 · 0.1 / (0.9 + 0.3) of the weight
        (
            "{piecewise: [[0, 1], [0.9, 3]]}",
            "an average of all costs in which the worst 10 % of answers carry 25 % of the weight",
        ),
    ],
)
def test_what_a_risk_bounds(risk, text):
    assert words.bounded(part_of(f"risk: {risk}").risk) == text


def test_the_phrases_of_order_statistics_are_true():
    """Power γ is the mean of the worst of γ, linear of the worse of two."""
    generator = np.random.default_rng(0)
    drawn = generator.exponential(size=(200_000, 3))
    for risk, count in (("power γ=3", 3), ("linear", 2)):
        spectrum = part_of(f"risk: {risk}").risk
        expected = drawn[:, :count].max(axis=1).mean()
        assert spectrum.risk(drawn[:, 0]) == pytest.approx(expected, rel=0.02)


def test_what_is_asked_for():
    asked = words.asked_reduction
    assert asked(part_of("risk: mean").settings) == Level(0.4, "spread")
    mixed = "risk: mean\nconstraint: {level: 0.3, margin: 60% of reference spread}"
    assert asked(part_of(mixed).settings) is None
    threshold = part_of("risk: mean\nconstraint: {form: expected, level: -2.5}").settings
    assert asked(threshold) is None
    assert words.requirement(threshold) == "the mean cost must stay below -2.5"
    quantile = part_of("risk: mean\nconstraint: {form: spectral, level: reference quantile 0.9}").settings
    assert asked(quantile) is None
    assert words.requirement(quantile) == (
        "the risk must stay below the cost that 90 % of the reference's answers stay below"
    )


@pytest.mark.parametrize(
    ("constraint", "text"),
    [
        (
            "{form: no_worse, level: 0.3, margin: 1.0 of reference spread}",
            "The new model's answer should cost less by 100 % of the reference's spread at every place; what"
            " is missing may amount to 0.3 in the cost's own unit on average.",
        ),
        (
            "{form: improvement, level: 20% of reference risk}",
            "What the new model's answers cost less must amount to 20 % of the reference's risk on average.",
        ),
        (
            "{form: spectral, level: 0.4 of reference spread}",
            "The risk must lie below the reference's by 40 % of the reference's spread.",
        ),
        ("{form: expected, level: 1.5}", "The mean cost must stay below 1.5."),
    ],
)
def test_what_is_asked_in_plain_words(constraint, text):
    told = words.strictness(part_of(f"risk: mean\nconstraint: {constraint}\ndual: {{initial: 2}}"))
    assert text in told
    assert told[-1] == (
        "While this fails, breaking it becomes dearer with each round (price 2 at first, 10 at most); while"
        " it holds, the price falls."
    )


@settings(deadline=None)
@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=30), st.integers(1, 8))
def test_columns_are_as_high_as_their_values(values, rows):
    lines = show.columns(values, rows)
    assert {len(line) for line in lines} == {len(values)}
    heights = [sum(" ▁▂▃▄▅▆▇█".index(line[i]) for line in lines) for i in range(len(values))]
    top = max(values)
    for value, height in zip(values, heights, strict=True):
        if top == 0:
            assert height == 0
        else:
            assert abs(height - value / top * rows * 8) <= 1
            assert (height > 0) == (value > 1e-9 * top)


@settings(deadline=None)
@given(SPECTRA, st.integers(40, 120))
def test_pictures_keep_to_their_width(spectrum, width):
    for line in [*show.weight_picture(spectrum, width), *show.tail_lines(spectrum, width)]:
        assert len(line) <= width


@settings(deadline=None)
@given(
    st.lists(st.floats(-1e3, 1e3), min_size=8, max_size=50).filter(lambda v: np.std(v) > 1e-3),
    st.floats(-1e4, 1e4),
)
def test_histograms_keep_to_their_width_and_point_at_the_mark(values, mark):
    lines = show.histogram(values, 60, 4, [(mark, "here")])
    assert all(len(line) <= 60 for line in lines)
    assert sum(line.count("▲") for line in lines) == 1


@settings(deadline=None)
@given(SPECTRA, SPECTRA, st.integers(0, 99))
def test_never_less_risky_is_so_on_every_sample(a, b, seed):
    pair = difference.Counterparts("", *(part_like(s) for s in (a, b)))
    text = " ".join(difference.sentences(pair))
    sample = np.random.default_rng(seed).exponential(size=200)
    slack = 1e-9 * sample.max() * 200
    if "never judges a model less risky" in text:
        assert b.risk(sample) >= a.risk(sample) - slack
    if "never judges a model more risky" in text:
        assert b.risk(sample) <= a.risk(sample) + slack


def part_like(spectrum):
    from dataclasses import replace

    return replace(part_of("risk: mean"), risk=spectrum)


def test_every_setting_that_differs_is_named():
    a = profile_of("name: a\nrisk: cvar α=0.9\n")
    b = profile_of("name: b\nrisk: wang η=1\nreference: {samples: 99}\ncost: {model: org/m}\n")
    assert [s.key for s in difference.settings(a, b)] == [
        "name",
        "risk.measure",
        "risk.alpha",
        "risk.eta",
        "cost.model",
        "reference.samples",
    ]
    assert difference.settings(a, a) == []
