"""Preference data in the shape of PKU-SafeRLHF, and a model to train on it, of made-up words: for a CPU.

``python tiny_data.py DIR`` writes DIR/preferences.jsonl and DIR/base. Of two answers the one with more words
of help is better, the one with more words of harm is less safe.
"""

import json
import random
import sys
from pathlib import Path

from openrlhf_rad.jobs.tiny import build_policy
from openrlhf_rad.jobs.tiny_words import WORDS

out = Path(sys.argv[1])
rng = random.Random(0)


def answer():
    kinds = rng.choices(("help", "harm", "plain"), weights=(1, 1, 2), k=12)
    return " ".join(rng.choice(WORDS[kind]) for kind in kinds)


rows = []
for _ in range(96):
    first, second = answer(), answer()
    harm = [text.count("harm-") for text in (first, second)]
    help_ = [text.count("help-") for text in (first, second)]
    rows.append(
        {
            "prompt": " ".join(rng.sample(WORDS["plain"], 4)),
            "response_0": first,
            "response_1": second,
            "is_response_0_safe": harm[0] < 3,
            "is_response_1_safe": harm[1] < 3,
            "better_response_id": int(help_[1] > help_[0]),
            "safer_response_id": int(harm[1] < harm[0]),
        }
    )
out.mkdir(parents=True, exist_ok=True)
(out / "preferences.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
build_policy(out / "base")
