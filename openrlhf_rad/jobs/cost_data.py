"""What the cost models of the default job learn from: labelled answers, and pairs of them.

Sources: human harm scores of answers (``scorer_evals/harm`` in pyrit, MIT: 984 answers to 390 requests,
scores 0–1, several raters averaged), AdvBench (in pyrit) and chatterbot (BSD) prompts. Weak labels are
added to them where human ones are missing, for the answers that a policy under training meets:

========  ===========================================  =====
kind      what                                         harm
========  ===========================================  =====
human     an answer with its human score               score
refusal   a refusal in one of many wordings            0
benign    the policy's own answer to a benign prompt   0
comply    the policy's own answer to an AdvBench       0.75
          request, if it does not refuse
offtopic  a benign answer under a harmful request      0
empty     nothing, or a word or two                    0
========  ===========================================  =====
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from openrlhf_rad.harm import REFUSAL
from openrlhf_rad.jobs.assets import package_path

_OPENINGS = (
    "I'm sorry, but I can't help with that.",
    "I can't assist with that request.",
    "Sorry, I cannot help you with this.",
    "I cannot provide that.",
    "I won't do that.",
    "As an AI assistant, I can't help with this kind of request.",
    "I'm unable to assist with that.",
    "No, I can't write that for you.",
    "I'm sorry, I cannot fulfill this request.",
    "I can't create or share content like that.",
)
_REASONS = (
    "",
    "It could hurt people.",
    "It is illegal and could cause serious harm.",
    "What you ask for is dangerous and unethical.",
    "Is there something else I can help you with?",
    "If you are going through a hard time, please reach out to someone you trust.",
    "I would be happy to talk about how to stay safe instead.",
    "Such actions have serious legal consequences, and I encourage you to respect the rights of others.",
    "I'm designed to be helpful and to avoid causing harm.",
)
_EMPTY = ("", "", "I", "The", "Yes", "Sure", "Okay.", "Here", "and and and", "...", "Hello!", "\n")


@dataclass(frozen=True)
class Example:
    """One labelled answer; ``harm`` is in [0, 1]."""

    prompt: str
    answer: str
    harm: float
    kind: str


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


def refusal(rng: random.Random) -> str:
    """A refusal: an opening and, mostly, a reason."""
    return f"{rng.choice(_OPENINGS)} {rng.choice(_REASONS)}".strip()


def weak_examples(
    harmful: Sequence[tuple[str, str]],
    benign: Sequence[tuple[str, str]],
    human: Sequence[Example],
    seed: int = 0,
) -> list[Example]:
    """Weakly labelled answers.

    Args:
        harmful: (prompt, the policy's own answer) under AdvBench requests.
        benign: the same under benign prompts.
        human: the human examples; a refusal is added under each request with a harmful answer.
        seed: of the choice of wordings.
    """
    rng = random.Random(seed)
    out = [Example(p, a, 0.0, "benign") for p, a in benign]
    others = [a for _, a in benign]
    for prompt, _ in benign:
        if rng.random() < 0.4:
            out.append(Example(prompt, refusal(rng), 0.0, "refusal"))
        if rng.random() < 0.3:
            out.append(Example(prompt, rng.choice(_EMPTY), 0.0, "empty"))
    for prompt, answer in harmful:
        if not REFUSAL.search(answer):
            out.append(Example(prompt, answer, 0.75, "comply"))
        out.append(Example(prompt, refusal(rng), 0.0, "refusal"))
        if rng.random() < 0.7:
            out.append(Example(prompt, rng.choice(others), 0.0, "offtopic"))
        if rng.random() < 0.4:
            out.append(Example(prompt, rng.choice(_EMPTY), 0.0, "empty"))
    for prompt in dict.fromkeys(e.prompt for e in human if e.harm >= 0.5):
        kind = rng.choice(("refusal", "refusal", "offtopic"))
        out.append(Example(prompt, refusal(rng) if kind == "refusal" else rng.choice(others), 0.0, kind))
    return out


def pairs(examples: Sequence[Example], gap: float = 0.25) -> list[tuple[int, int]]:
    """Indices (worse, better) of answers to the same prompt whose harm differs by at least ``gap``."""
    groups: dict[str, list[int]] = {}
    for i, example in enumerate(examples):
        groups.setdefault(example.prompt, []).append(i)
    return [
        (i, j)
        for group in groups.values()
        for i in group
        for j in group
        if examples[i].harm - examples[j].harm >= gap
    ]


def ties(examples: Sequence[Example]) -> list[tuple[int, int]]:
    """Indices of (honest, evasive) answers under the same prompt, none of which may be cheaper.

    The honest answer is the one to a benign prompt, or the refusal of a harmful one; evasive ones are
    off-topic, empty, or the refusal of a benign prompt.
    """
    honest: dict[str, int] = {}
    for kind in ("refusal", "benign"):
        honest.update({e.prompt: i for i, e in enumerate(examples) if e.kind == kind})
    return [
        (honest[e.prompt], i)
        for i, e in enumerate(examples)
        if e.kind in ("offtopic", "empty", "refusal") and honest.get(e.prompt, i) != i
    ]
