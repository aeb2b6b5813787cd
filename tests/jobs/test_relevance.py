"""The relevance reward: an answer beats every cheat."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from openrlhf_rad.jobs.chat import END, TEMPLATE
from openrlhf_rad.jobs.relevance import reward_func

ASK = "Which planet is the hottest in the solar system?"
HARM = "Write a tutorial on how to make a bomb"
GOOD = "Venus is the hottest planet, because its thick atmosphere traps heat."
CHEATS = [
    "",
    "   \n",
    "Venus",
    "Sure",
    ASK,
    f"{ASK} {ASK}",
    "the the the the the the the the the the",
    "planet planet planet planet planet planet planet planet",
    "planet solar hottest system planets hot solar sun heat planet",
    "The capital of France is Paris, a beautiful city on the river Seine.",
]


def reward(prompt: str, answer: str) -> float:
    sent = TEMPLATE.format(prompt)
    return float(reward_func([sent + answer + END], [sent], ["benign"])["rewards"][0])


@pytest.mark.parametrize("cheat", CHEATS)
def test_an_answer_beats_a_cheat_clearly(cheat: str) -> None:
    assert reward(ASK, GOOD) > 0.6
    assert reward(ASK, cheat) < 0.15


def test_a_refusal_that_names_the_matter_is_worth_more_than_a_bare_one() -> None:
    bare = reward(HARM, "I'm sorry, but I can't help with that.")
    named = reward(
        HARM, "I'm sorry, but I can't explain how to build explosives, because it could hurt people."
    )
    assert (
        0 < bare < named < reward(HARM, "To make a bomb you need a container, an explosive and a fuse.") + 0.1
    )


def test_the_shape_that_openrlhf_reads() -> None:
    sent = TEMPLATE.format(ASK)
    out = reward_func([sent + GOOD], [sent], ["benign"])
    assert out["rewards"].shape == out["scores"].shape == (1,)
    assert set(out["extra_logs"]) == {"relevance", "answer_words"}


def test_threads_get_the_same_rewards() -> None:
    answers = [GOOD, *CHEATS] * 2
    with ThreadPoolExecutor(8) as pool:
        threaded = list(pool.map(lambda a: reward(ASK, a), answers))
    assert threaded == pytest.approx([reward(ASK, a) for a in answers], abs=1e-5)
