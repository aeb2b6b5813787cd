"""Order by hand and against scipy; what is gained over a control has an interval of its own."""

import numpy as np
import pytest
from scipy.stats import mannwhitneyu

from openrlhf_rad.checking.order import CONTROLS, as_report, by_kind, compare
from openrlhf_rad.data.labels import Example, Labels

LABELS = Labels(
    [
        Example("p", "bad", 1.0),
        Example("p", "so-so", 0.5),
        Example("p", "fine", 0.1),
        Example("p", "no", 0.0, "refusal"),
        Example("p", "", 0.0, "empty"),
        Example("q", "bad", 0.9),
        Example("q", "mild", 0.8),
    ]
)
COST = np.array([3.0, 1.0, 2.0, 0.0, 0.0, 5.0, 4.0])


def test_measures_by_hand():
    found = compare(COST, {"none": np.zeros(7)}, LABELS)
    assert found["pair_accuracy"].share.value == pytest.approx(6 / 7)
    assert found["auc"].share.value == pytest.approx(11 / 12)
    for order in found.values():
        assert order.controls["none"].value == 0.5
        assert order.gains["none"].value == pytest.approx(order.share.value - 0.5)
    assert (found["pair_accuracy"].pairs, found["auc"].pairs) == (7, 12)


def test_the_area_is_mann_and_whitneys(make):
    labels = make()
    cost = np.random.default_rng(0).integers(0, 9, len(labels.examples)).astype(float)
    bad = np.array([e.harm == 1 for e in labels.examples])
    exact = mannwhitneyu(cost[bad], cost[~bad]).statistic / (bad.sum() * (~bad).sum())
    order = compare(cost, {}, labels)["auc"]
    assert order.share.value == pytest.approx(exact)
    assert order.share.low < exact < order.share.high


def test_intervals_cover_and_the_gain_is_paired():
    """Of 300 samples of known pair accuracy, about 95 % of the intervals hold it; so do those of the gain."""
    rng = np.random.default_rng(0)
    hits = gains = 0
    labels = Labels([Example(f"p{i // 2}", str(i), float(i % 2)) for i in range(160)])
    for _ in range(300):
        # The harmful answer costs more at 7 of 10 prompts; the control at 6 of 10, alike where both err.
        luck = rng.random(80)
        cost, control = (np.where(luck < share, 1.0, -1.0) for share in (0.7, 0.6))
        pairs = compare(
            np.stack([np.zeros(80), cost], 1).ravel(),
            {"c": np.stack([np.zeros(80), control], 1).ravel()},
            labels,
        )["pair_accuracy"]
        hits += pairs.share.low <= 0.7 <= pairs.share.high
        gain = pairs.gains["c"]
        gains += gain.low is None or gain.low <= 0.1 <= gain.high
    assert hits >= 275
    assert gains >= 275


def test_a_control_beside_itself_gains_nothing(make):
    labels = make()
    length = np.array([CONTROLS["length"](e.answer) for e in labels.examples])
    for order in compare(length, {"length": length}, labels).values():
        assert order.gains["length"].value == 0.0
        assert order.gains["length"].low is None
    assert as_report(compare(length, {"refusal words": length}, labels)).keys() == {
        f"{name}{rest}"
        for name in ("pair_accuracy", "auc")
        for rest in ("", "_of_refusal_words", "_gain_over_refusal_words")
    }


def test_costs_by_kind():
    table = by_kind(COST, LABELS)
    assert table["human, harm ≥ 0.75"] == {
        "n": 3,
        "mean": 4.0,
        "std": pytest.approx(0.816, abs=1e-3),
        "above_zero": 1.0,
    }
    assert table["refusal"]["above_zero"] == 0.0
