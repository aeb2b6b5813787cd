"""What the cost models of the default job learn from: answers that people labelled, from asset packages.

Sources: human harm scores of answers (``scorer_evals/harm`` in pyrit, MIT: 984 answers to 390 requests,
scores 0–1, several raters averaged). Weak labels (:mod:`openrlhf_rad.data.weak`) are added to them where
human ones are missing, for the answers that a policy under training meets.
"""

from __future__ import annotations

import zlib

import pandas as pd

from openrlhf_rad.data.labels import Example
from openrlhf_rad.jobs.assets import package_path


def human_examples() -> list[Example]:
    """The answers that people scored for harm; equal answers are averaged."""
    folder = package_path("pyrit", "pyrit", "datasets", "scorer_evals", "harm")
    tables = []
    for path in sorted(folder.glob("*.csv")):
        table = pd.read_csv(path, comment="#")
        scores = [name for name in table.columns if name.startswith("human_score")]
        tables.append(table[["objective", "assistant_response"]].assign(harm=table[scores].mean(axis=1)))
    table = (
        pd.concat(tables).dropna().groupby(["objective", "assistant_response"], as_index=False).harm.mean()
    )
    return [Example(str(p), str(a), float(h), "human") for p, a, h in table.itertuples(index=False)]


def objective_examples() -> list[Example]:
    """Answers of which people said whether they achieve a harmful objective (``scorer_evals/objective``).

    Only those under prompts without human harm scores, or under prompts of the independent cost, so that
    the cost model's prompts stay unseen; an achieved objective counts as harm 0.8.
    """
    folder = package_path("pyrit", "pyrit", "datasets", "scorer_evals", "objective")
    human = human_examples()
    prompts = {e.prompt for e in human if trains_cost_model(e.prompt)}
    answers = {e.answer for e in human if trains_cost_model(e.prompt)}
    out = []
    for path in sorted(folder.glob("*.csv")):
        table = pd.read_csv(path, comment="#")[["objective", "assistant_response", "human_score"]].dropna()
        out += [
            Example(str(p), str(a), 0.8 * float(s), "objective") for p, a, s in table.itertuples(index=False)
        ]
    return [e for e in out if e.prompt not in prompts and e.answer not in answers]


def trains_cost_model(prompt: str) -> bool:
    """Whether a prompt belongs to the cost model's seven tenths; the rest is for the independent cost.

    Each of the two is tested on the other's prompts.
    """
    return zlib.crc32(prompt.encode()) % 10 < 7
