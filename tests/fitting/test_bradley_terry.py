"""The fit: order, zero and unit by hand, and how many weights the labels bear."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from openrlhf_rad.data.labels import Example, Labels
from openrlhf_rad.data.weak import evasions, ties
from openrlhf_rad.fitting.bradley_terry import Sides, calibrated, cross_validated, effective_parameters, fit

LABELS = Labels(
    [
        Example("p", "bad", 1.0, "human"),
        Example("p", "so-so", 0.5, "human"),
        Example("p", "fine", 0.1, "human"),
        Example("p", "no", 0.0, "refusal"),
        Example("p", "", 0.0, "empty"),
        Example("q", "bad", 0.9, "human"),
        Example("q", "mild", 0.8, "human"),
    ]
)
FEATURES = torch.tensor([[e.harm, 1.0] for e in LABELS.examples])
ONE = torch.tensor([0.0, 1.0])
HARMFUL, HARMLESS, HUMAN = (
    np.array(mask, dtype=bool)
    for mask in ([1, 0, 0, 0, 0, 1, 1], [0, 0, 0, 1, 0, 0, 0], [1, 1, 1, 0, 0, 1, 1])
)


def test_pairs_and_ties():
    assert LABELS.pairs == [(0, 1), (0, 2), (0, 3), (0, 4), (1, 2), (1, 3), (1, 4)]
    assert ties(LABELS.examples) == [(3, 4)]


def test_the_fit_finds_the_order_and_the_zero():
    costs = FEATURES @ fit(FEATURES, LABELS, l2=1e-4)
    assert costs[0] > costs[1] > costs[2] > costs[3]
    assert costs[0] > 0 > costs[3]


def test_pairs_alone_give_an_order():
    """People compared, and nobody said how harmful: the order of a chain of three is found."""
    examples = [Example("p", answer, None) for answer in "abc"]
    features = torch.tensor([[0.0, 1.0], [1.0, 1.0], [2.0, 1.0]])
    costs = features @ fit(features, Labels(examples, [(2, 1), (1, 0)]), l2=1e-3)
    assert costs[2] > costs[1] > costs[0]


def test_the_zero_is_half_way_between_the_costs_of_prompts_left_out():
    """By hand: left out, the harmful cost 3, 2 and 1, the harmless −2: the zero is 0, whatever the fit."""
    raw = torch.tensor([10.0, 7.0])
    crossed = np.array([3.0, 9.0, 9.0, -2.0, 9.0, 2.0, 1.0])
    sides = Sides(HARMFUL, HARMLESS, HUMAN)
    weight = calibrated(raw, ONE, FEATURES, crossed, sides)
    human = torch.tensor([1.0, 0.5, 0.1, 0.9, 0.8])
    torch.testing.assert_close(weight, torch.tensor([10.0, 7.0]) / (10.0 * human.std()))
    shifted = calibrated(raw, ONE, FEATURES, crossed + 4.0, sides)
    torch.testing.assert_close(FEATURES @ shifted, FEATURES @ weight - 4.0 / (10.0 * human.std()))


def test_a_prompt_that_was_left_out_tells_nothing_of_its_own_labels():
    """Turning one prompt's labels round leaves its own cross-validated costs as they are."""
    rng = np.random.default_rng(1)
    features = torch.tensor(rng.standard_normal((40, 3)), dtype=torch.float32)
    harm = rng.random(40)

    def labels(turned):
        return Labels(
            [
                Example(f"p{i // 4}", str(i), float(1 - h if turned and i < 4 else h))
                for i, h in enumerate(harm)
            ]
        )

    plain, other = (cross_validated(features, labels(turned)) for turned in (False, True))
    np.testing.assert_array_equal(plain[:4], other[:4])
    assert not np.array_equal(plain[4:], other[4:])


@pytest.mark.parametrize(("l2", "expected"), [(1e-9, 2.0), (1e9, 0.0)])
def test_the_penalty_decides_how_many_weights_are_free(l2, expected):
    assert effective_parameters(FEATURES, LABELS, l2) == pytest.approx(expected, abs=1e-3)


def test_the_effective_weights_are_the_trace_of_the_smoother():
    """Against the Hessian that autograd finds at 0, without the penalty."""
    labels = Labels([Example(f"p{i // 2}", str(i), float(i % 2)) for i in range(12)])
    features = torch.tensor(np.random.default_rng(0).standard_normal((12, 3)), dtype=torch.float64)
    z = features / (features.std(0) + 1e-3 * features.std())
    worse, better = (torch.tensor([pair[side] for pair in labels.pairs]) for side in (0, 1))
    harm = torch.tensor([e.harm for e in labels.examples], dtype=torch.float64)

    def loss(weight):
        s = z @ weight
        entropy = torch.nn.functional.binary_cross_entropy_with_logits(s, harm)
        return 0.5 * torch.nn.functional.softplus(s[better] - s[worse]).mean() + 0.5 * entropy

    bend = torch.autograd.functional.hessian(loss, torch.zeros(3, dtype=torch.float64))
    exact = torch.trace(bend @ torch.linalg.inv(bend + 0.04 * torch.eye(3)))
    assert effective_parameters(features, labels, 0.02) == pytest.approx(float(exact), rel=1e-6)


def test_evasions_are_added_under_harmful_prompts_alone():
    labels = Labels([Example("bomb", "Take powder", 1.0), Example("moon", "It is far", 0.0)])
    added = evasions(labels)
    assert {e.prompt for e in added} == {"bomb"}
    assert {e.harm for e in added} == {0.0}
    assert added[0].kind == "refusal"
    assert {e.kind for e in added} <= {"refusal", "offtopic", "empty"}
