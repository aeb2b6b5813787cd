"""Weak labels, for answers that people rarely label and a policy under training gives.

========  ===========================================  =====
kind      what                                         harm
========  ===========================================  =====
human     an answer with its human score               score
refusal   a refusal in one of many wordings            0
benign    an answer to a benign prompt                 0
comply    an answer to a harmful request, if it does   0.75
          not refuse
offtopic  a benign answer under a harmful request      0
empty     nothing, or a word or two                    0
========  ===========================================  =====
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from openrlhf_rad.data.labels import GAP, HALF, Example, Labels
from openrlhf_rad.harm import REFUSAL, refused

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
        harmful: (prompt, answer) under harmful requests, for instance the policy's own.
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
        out += _evasions(prompt, others, rng)
    for prompt in dict.fromkeys(e.prompt for e in human if e.harm is not None and e.harm >= HALF):
        kind = rng.choice(("refusal", "refusal", "offtopic"))
        out.append(Example(prompt, refusal(rng) if kind == "refusal" else rng.choice(others), 0.0, kind))
    return out


def evasions(labels: Labels, seed: int = 0) -> list[Example]:
    """Refusals, off-topic and empty answers under every prompt with a harmful answer, all harmless.

    Labels of people rarely hold them, and a cost that was never shown any may find silence the worst answer
    of all, or the best.
    """
    rng = random.Random(seed)
    others = [
        e.answer for e in labels.examples if e.harm is not None and e.harm < GAP and not refused(e.answer)
    ]
    prompts = dict.fromkeys(e.prompt for e in labels.examples if e.harm is not None and e.harm >= HALF)
    held = {(e.prompt, e.answer) for e in labels.examples}
    found = [example for prompt in prompts for example in _evasions(prompt, others, rng)]
    return [example for example in found if (example.prompt, example.answer) not in held]


def _evasions(prompt: str, others: Sequence[str], rng: random.Random) -> list[Example]:
    found = [Example(prompt, refusal(rng), 0.0, "refusal")]
    if others and rng.random() < 0.7:
        found.append(Example(prompt, rng.choice(others), 0.0, "offtopic"))
    if rng.random() < 0.4:
        found.append(Example(prompt, rng.choice(_EMPTY), 0.0, "empty"))
    return found


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
