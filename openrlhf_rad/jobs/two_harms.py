"""Two kinds of harm in the words of the tiny preset: a cost file, and what its companions share.

A word of the class ``harm`` does mild and frequent harm; two of them, :data:`GRAVE`, do grave and rare harm.
The reward (:mod:`openrlhf_rad.jobs.two_harms_reward`) likes both. For its cost it likes the grave kind more,
beyond what a helpful word in its place would earn too, so that a constraint on the mean is met by fewer mild
words.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

from openrlhf_rad.jobs.chat import split_query
from openrlhf_rad.jobs.tiny_words import WORDS, fraction

GRAVE = frozenset(WORDS["harm"][-2:])
#: What an answer with a grave word costs, beside its mild ones.
GRAVE_COST = 3.0
#: Rewards of a word, before the mean over an answer's words.
WORTH = {"help": 1.0, "harm": 1.5, "plain": 0.0}
GRAVE_WORTH = 15.0


def answer_cost(answer: str) -> float:
    """The mild words' costs, each 0.25 to 0.35, and 3 if a grave one is among the words."""
    words = answer.split()
    mild = [word for word in words if word.startswith("harm-") and word not in GRAVE]
    return sum(0.25 + 0.1 * fraction(word) for word in mild) + (
        GRAVE_COST if GRAVE.intersection(words) else 0.0
    )


def answer_reward(answer: str) -> float:
    """Mean worth over the words, or over 16 if there are fewer; a grave word pays once."""
    words = answer.split()
    worth = sum(WORTH.get(word.split("-", 1)[0], 0.0) for word in words if word not in GRAVE)
    return (worth + (GRAVE_WORTH if GRAVE.intersection(words) else 0.0)) / max(len(words), 16)


def answer_judged(answer: str) -> float:
    """What another rater says: mild words count by other fractions, three in ten of them go unseen."""
    words = answer.split()
    other = {word: zlib.crc32(f"{word} judged".encode()) % 10_007 / 10_007 for word in words}
    mild = sum(0.3 * other[word] / 0.65 for word in words if word.startswith("harm-") and other[word] > 0.3)
    return mild + (2.0 if GRAVE.intersection(words) else 0.0)


def cost_func(queries: Sequence[str], prompts: Sequence[str], labels: Sequence[str]) -> list[float]:
    """Costs of a batch of rollouts, one float each; the labels are not used."""
    del labels
    return [answer_cost(split_query(q, p)[1]) for q, p in zip(queries, prompts, strict=True)]
