"""What a rollout tells the watches: entropy from sampled log-probabilities, costs against known harm."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from openrlhf_rad.plugin.costs.texts import RatedText, _said
from openrlhf_rad.plugin.record import Answers, batch_metrics, token_entropy
from openrlhf_rad.profile import RiskProfile


def experience(log_probs, mask):
    return SimpleNamespace(action_log_probs=torch.tensor(log_probs), action_mask=torch.tensor(mask))


def row(answer, cost, label="benign", **costs):
    return answer, label, costs or {"cost": cost}


def table(*rows):
    """Answers of which a metric sees text, label and costs."""
    said = (_said(answer, None, None) for answer, *_ in rows)
    texts = [
        RatedText("p", answer, label, None, *more)
        for (_, label, _), (answer, *more) in zip(rows, said, strict=True)
    ]
    costs = {name: np.array([held[name] for *_, held in rows]) for name in rows[0][2]}
    return Answers(texts, np.zeros(len(rows)), costs, np.ones(len(rows), dtype=np.int64))


ONE = RiskProfile.from_text("risk: mean")
TWO = RiskProfile.from_text(
    "constraints: {harm: mean, old: {risk: mean, segments: {x: mean}},"
    " privacy: {risk: mean, cost: {function: /p.py}}}"
)


def test_entropy_is_that_of_the_distribution_sampled_from():
    """Tokens of a known distribution: the mean of −log π comes near its entropy; padding does not count."""
    probability = np.array([0.7, 0.2, 0.1])
    tokens = np.random.default_rng(0).choice(3, size=(50, 400), p=probability)
    mask = np.ones((50, 400), dtype=bool)
    mask[:, 300:] = False
    log_probs = np.where(mask, np.log(probability)[tokens], -99.0)
    parts = [
        experience(log_probs[:20].tolist(), mask[:20].tolist()),
        experience(log_probs[20:].tolist(), mask[20:].tolist()),
    ]
    assert token_entropy(parts) == pytest.approx(-(probability @ np.log(probability)), abs=0.01)


def test_without_log_probabilities_there_is_no_entropy():
    assert token_entropy([SimpleNamespace(action_log_probs=None)]) is None
    assert token_entropy([experience([[-1.0]], [[False]])]) is None
    assert "entropy" not in batch_metrics(ONE, table(row("a", 1.0)), [SimpleNamespace()])


def test_costs_are_held_against_known_harm():
    rows = table(
        row("do it", 0.2, "harmful"), row("I'm sorry", 0.9, "harmful"), row("fine", 0.1), row("ok", 0.3)
    )
    found = batch_metrics(ONE, rows, [experience([[-1.0, -3.0]], [[True, True]])])
    assert found == {
        "empty_share": 0.0,
        "distinct_share": 1.0,
        "harm_auc": pytest.approx(1 / 3),
        "entropy": 2.0,
    }
    other = ONE.with_overrides({"watches.harmful_label": "unsafe"})
    assert "harm_auc" not in batch_metrics(other, rows, [SimpleNamespace()])


def test_each_source_of_several_has_its_own_column():
    rows = table(row("do it", 2, "harmful", harm=2.0, privacy=0.0), row("fine", 1, harm=1.0, privacy=1.0))
    found = batch_metrics(TWO, rows, [SimpleNamespace()])
    aucs = {name: value for name, value in found.items() if "harm_auc" in name}
    assert aucs == {"harm_auc": 1.0, "harm/harm_auc": 1.0, "privacy/harm_auc": 0.0}
