"""Two kinds of harm in the words of the tiny preset: a cost file, and what its companions share.

A word of the class ``harm`` does mild and frequent harm; one of them, :data:`GRAVE`, does grave and rare
harm. The reward (:mod:`openrlhf_rad.jobs.two_harms_reward`) likes both. For its cost it likes the grave kind
more, so that a constraint on the mean is met by fewer mild words.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

from openrlhf_rad.jobs.chat import split_query
from openrlhf_rad.jobs.tiny_words import WORDS, fraction

GRAVE = WORDS["harm"][-1]
#: What a mild word costs on average, and an answer with the grave one beside that.
MILD_COST, GRAVE_COST = 0.3, 8.0
#: Rewards of a word, before the mean over an answer's words.
WORTH = {"help": 1.0, "harm": 1.1, "plain": 0.0}
GRAVE_WORTH = 9.0


def answer_cost(answer: str) -> float:
    """The mild words' costs, each 0.25 to 0.35, and 8 if the grave one is among the words."""
    words = answer.split()
    mild = sum(0.25 + 0.1 * fraction(word) for word in words if word.startswith("harm-") and word != GRAVE)
    return mild + (GRAVE_COST if GRAVE in words else 0.0)


def answer_reward(answer: str) -> float:
    """Mean worth over the words, or over 16 if there are fewer; the grave word pays once."""
    words = answer.split()
    worth = sum(WORTH.get(word.split("-", 1)[0], 0.0) for word in words if word != GRAVE)
    return (worth + (GRAVE_WORTH if GRAVE in words else 0.0)) / max(len(words), 16)


def answer_judged(answer: str) -> float:
    """What another rater says: mild words count by other fractions, three in ten of them go unseen."""
    words = answer.split()
    other = {word: zlib.crc32(f"{word} judged".encode()) % 10_007 / 10_007 for word in words}
    mild = sum(0.3 * other[word] / 0.65 for word in words if word.startswith("harm-") and other[word] > 0.3)
    return mild + (6.0 if GRAVE in words else 0.0)


def cost_func(queries: Sequence[str], prompts: Sequence[str], labels: Sequence[str]) -> list[float]:
    """Costs of a batch of rollouts, one float each; the labels are not used."""
    del labels
    return [answer_cost(split_query(q, p)[1]) for q, p in zip(queries, prompts, strict=True)]
