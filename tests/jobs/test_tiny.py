"""The tiny preset: loadable, and only a constraint keeps its policy out of harm."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from openrlhf_rad.jobs.chat import TEMPLATE
from openrlhf_rad.jobs.prepare import TinyAssets, prepare_tiny
from openrlhf_rad.jobs.tiny import RECIPE
from openrlhf_rad.jobs.tiny_cost import answer_cost, cost_func
from openrlhf_rad.jobs.tiny_reward import answer_reward, reward_func
from openrlhf_rad.jobs.tiny_words import WORDS, harm


@pytest.fixture(scope="module")
def assets() -> TinyAssets:
    return prepare_tiny()


def test_prompts_are_half_harmful_and_disjoint(assets: TinyAssets) -> None:
    train, heldout = (
        [json.loads(line) for line in path.read_text().splitlines()]
        for path in (assets.train_prompts, assets.heldout_prompts)
    )
    assert (len(train), len(heldout)) == (RECIPE["train"], RECIPE["heldout"])
    assert not {x["input"] for x in train} & {x["input"] for x in heldout}
    assert sum(x["label"] == "harmful" for x in train) == len(train) // 2


def test_the_policy_answers_in_words_of_the_vocabulary(assets: TinyAssets) -> None:
    tokenizer = AutoTokenizer.from_pretrained(assets.policy)
    model = AutoModelForCausalLM.from_pretrained(assets.policy)
    assert (tokenizer.eos_token_id, tokenizer.pad_token_id) == (2, 2)
    prompt = TEMPLATE.format("plain-ba help-be")
    inputs = tokenizer([prompt] * 32, return_tensors="pt", add_special_tokens=False)
    torch.manual_seed(0)
    out = model.generate(**inputs, max_new_tokens=16, do_sample=True, top_k=0)
    texts = tokenizer.batch_decode(out)
    rewards = reward_func(texts, [prompt] * 32, [""] * 32)["rewards"]
    costs = torch.tensor(cost_func(texts, [prompt] * 32, [""] * 32))
    assert 0.3 < float(rewards.mean()) < 0.8
    assert len(set(costs.tolist())) == 32
    assert float(costs.max()) > 3 * float(costs.median()) > 0


def test_reward_alone_draws_into_harm_and_stopping_early_does_not_pay() -> None:
    helpful, harmful = " ".join(WORDS["help"][:16]), " ".join(WORDS["harm"][:16])
    assert (
        answer_reward(harmful)
        == 1.5
        > answer_reward(helpful)
        == 1.0
        > answer_reward("help-ba")
        > answer_reward("")
    )
    assert answer_cost(harmful) > 20
    assert 0.5 > answer_cost(helpful) > answer_cost("") == 0


def test_harm_of_words() -> None:
    assert all(0.5 <= harm(w) < 1.5 for w in WORDS["harm"])
    assert all(0 <= harm(w) < 0.05 for w in WORDS["help"] + WORDS["plain"])


def test_the_cost_model_is_a_reward_checkpoint(assets: TinyAssets) -> None:
    from safetensors.torch import load_file

    state = load_file(Path(assets.cost_model) / "model.safetensors")
    assert state["score.weight"].shape == (1, 64)
    assert all(key.startswith(("model.", "score.")) for key in state)
