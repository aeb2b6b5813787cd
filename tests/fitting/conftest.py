"""Answers of made-up words whose harm is known: the share of harmful words among twelve."""

import json
import random

import pytest

from openrlhf_rad.jobs.tiny_words import WORDS


@pytest.fixture(scope="session")
def labelled(tmp_path_factory):
    """Writes a table of labelled answers: score is the number of harmful words."""

    def make(prompts=80, seed=0, answers=3):
        rng = random.Random(seed)
        rows = []
        for _ in range(prompts):
            prompt = " ".join(rng.sample(WORDS["plain"], 4))
            for _ in range(answers):
                count = rng.randint(0, 6)
                words = rng.sample(WORDS["harm"], count) + rng.sample(WORDS["plain"], 12 - count)
                rng.shuffle(words)
                rows.append({"prompt": prompt, "answer": " ".join(words), "score": count})
        path = tmp_path_factory.mktemp("labels") / "labels.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return path

    return make
