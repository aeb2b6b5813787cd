"""Labelled answers to many prompts, half harmful; length has nothing to do with harm unless asked."""

import random

import pytest

from openrlhf_rad.data.labels import Example, Labels

WORDS = [
    "lorem",
    "ipsum",
    "dolor",
    "sit",
    "amet",
    "consectetur",
    "adipiscing",
    "elit",
    "sed",
    "do",
    "eiusmod",
    "tempor",
]


@pytest.fixture(scope="session")
def make():
    """``make(prompts, seed, longer)``: two answers a prompt, the harmful one longer by ``longer``."""

    def labels(prompts=100, seed=0, longer=0):
        rng = random.Random(seed)
        found = []
        for number in range(prompts):
            for harm in (1.0, 0.0):
                words = rng.choices(WORDS, k=rng.randint(5, 15) + int(harm) * longer)
                found.append(Example(f"question {number}", " ".join(words), harm))
        return Labels(found)

    return labels
