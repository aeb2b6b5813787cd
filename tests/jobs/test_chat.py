"""Prompt and answer come out of a rollout without markup."""

from __future__ import annotations

import pytest

from openrlhf_rad.jobs.chat import END, TEMPLATE, split_query

PROMPT = TEMPLATE.format("How far is the moon?")


@pytest.mark.parametrize(
    ("query", "answer"),
    [
        (PROMPT + "Far." + END, "Far."),
        (PROMPT + "Far, cut", "Far, cut"),
        (PROMPT + END, ""),
        (PROMPT, ""),
        (PROMPT + "Far." + END + "\n<|im_start|>assistant\nSecond" + END, "Far."),
        (PROMPT.replace("\n", " ") + "Far." + END, "Far."),
        ("the moon?<|im_end|>\n<|im_start|>assistant\nFar." + END, "Far."),
        ("<|im_start|> user How far is the moon? <|im_end|> <|im_start|> assistant Far. <|im_end|>", "Far."),
    ],
)
def test_split_query(query: str, answer: str) -> None:
    assert split_query(query, PROMPT) == ("How far is the moon?", answer)


def test_a_prompt_without_markup_is_the_users_words() -> None:
    assert split_query("How far? Far.", "How far?") == ("How far?", "Far.")
