"""What the costs are made of, in each number format: hidden states, sampled answers, and the head."""

from __future__ import annotations

import pytest
import torch

from openrlhf_rad.fitting.pooling import add_cost_layer, constant_functional
from openrlhf_rad.fitting.states import last_scores, mean_states, truncated_backbone
from openrlhf_rad.jobs.policy_answers import sample_answers
from openrlhf_rad.jobs.prepare import prepare_tiny

CHATS = [[1, 3, 9, 20, 2, 1, 4, *range(30, 30 + length)] for length in (4, 9, 17)]


@pytest.mark.parametrize(("wanted", "tolerance"), [("bfloat16", 0.05), ("float32", 0.01)])
def test_the_head_gives_the_cost_of_the_mean_state(wanted, tolerance, monkeypatch):
    """score = w · mean of normed states, recomputed from the states themselves in float64."""
    monkeypatch.setenv("OPENRLHF_RAD_DTYPE", wanted)
    backbone = truncated_backbone(prepare_tiny().policy, 2)
    assert backbone.dtype == getattr(torch, wanted)
    told: list[float] = []
    means = mean_states(backbone, CHATS, 2, told.append)
    assert told[0] == 0.0
    assert 0.0 < told[-1] < 1.0
    for chat, mean in zip(CHATS, means, strict=True):
        alone = backbone(torch.tensor([chat])).last_hidden_state[0].double().mean(0)
        torch.testing.assert_close(mean.double(), alone, rtol=tolerance, atol=tolerance)
    weight = torch.randn(64, generator=torch.Generator().manual_seed(0)) / 8
    head = add_cost_layer(backbone, weight, constant_functional(means))
    assert backbone.dtype == getattr(torch, wanted)
    scores = last_scores(backbone, head, CHATS)
    torch.testing.assert_close(scores, means @ weight, rtol=tolerance, atol=3 * tolerance)


@pytest.mark.parametrize("wanted", ["bfloat16", "float32"])
def test_answers_are_sampled_in_each_format(wanted, monkeypatch):
    monkeypatch.setenv("OPENRLHF_RAD_DTYPE", wanted)
    prompts = [f"plain-ba harm-{word}" for word in ("ba", "be", "bi")]
    told: list[float] = []
    answers = sample_answers(prepare_tiny().policy, prompts, tokens=6, done=told.append)
    assert [len(answer.split()) for answer in answers] == [6, 6, 6]
    assert told == [0.0]
