"""The converted SmolLM2: digits one by one, answers that end."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from openrlhf_rad.jobs import policy
from openrlhf_rad.jobs.chat import TEMPLATE


@pytest.fixture(scope="module")
def folder() -> Path:
    return policy.prepare()


@pytest.mark.parametrize("text", ["in 1234, it's 5.67%!", "naïve café – 2024\n\ttabs", "a  b"])
def test_text_comes_back_and_digits_are_single(folder: Path, text: str) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = tokenizer(text, add_special_tokens=False).input_ids
    assert tokenizer.decode(ids) == text
    assert all(sum(c.isdigit() for c in tokenizer.decode([i])) <= 1 for i in ids)


def test_the_end_token_and_the_template(folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert (tokenizer.eos_token_id, tokenizer.pad_token_id) == (2, 2)
    chat = [{"role": "user", "content": "Hi"}]
    assert tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True) == TEMPLATE.format(
        "Hi"
    )


def test_an_answer_ends(folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert model.dtype == torch.bfloat16
    prompt = TEMPLATE.format("What is the capital of France?")
    inputs = tokenizer(prompt, return_tensors="pt", add_special_tokens=False)
    out = tokenizer.decode(model.generate(**inputs, max_new_tokens=24, do_sample=False)[0])
    assert out.endswith("Paris.<|im_end|>")
