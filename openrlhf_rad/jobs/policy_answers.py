"""Answers that the untrained policy gives to training prompts: what the costs must be right about."""

from __future__ import annotations

import json
from pathlib import Path

from openrlhf_rad.jobs import policy, prompts
from openrlhf_rad.jobs.assets import prepared, step
from openrlhf_rad.jobs.cost_data import Example, human_examples, trains_cost_model, weak_examples
from openrlhf_rad.jobs.features import sample_answers
from openrlhf_rad.processor import number_format

EACH = 80
TOKENS = 24
#: Half at a temperature of sensible talk, half at that of training, where this small model rambles.
TEMPERATURES = (0.7, 1.0)


def prepare() -> Path:
    """The folder with ``answers.jsonl``: prompt, answer and label, sampled once."""
    recipe = {
        "version": 1,
        "each": EACH,
        "tokens": TOKENS,
        "temperatures": list(TEMPERATURES),
        "seed": prompts.SEED,
        "format": number_format(),
    }

    asked, asks = policy.prepare(), prompts.prepare()

    def build(folder: Path) -> None:
        source = asks / "train.jsonl"
        lines = []
        with step(f"policy: {2 * EACH} answers for the costs to learn from") as done:
            for half, temperature in enumerate(TEMPERATURES):
                part = [
                    (p, k) for k in ("harmful", "benign") for p in prompts.texts(source, k, EACH)[half::2]
                ]
                answers = sample_answers(
                    asked,
                    [p for p, _ in part],
                    TOKENS,
                    half,
                    temperature,
                    lambda share, before=half: done((before + share) / len(TEMPERATURES)),  # type: ignore[misc]
                )
                lines += [
                    {"prompt": p, "answer": a, "label": k} for (p, k), a in zip(part, answers, strict=True)
                ]
        (folder / "answers.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))

    return prepared("policy_answers", recipe, build, (asked, asks))


def training_examples(for_cost_model: bool) -> list[Example]:
    """The labelled answers under the prompts of the cost model, or under the others."""
    lines = [json.loads(line) for line in (prepare() / "answers.jsonl").read_text().splitlines()]
    human = [e for e in human_examples() if trains_cost_model(e.prompt) is for_cost_model]
    harmful, benign = (
        [
            (line["prompt"], line["answer"])
            for line in lines
            if line["label"] == label and trains_cost_model(line["prompt"]) is for_cost_model
        ]
        for label in ("harmful", "benign")
    )
    return human + weak_examples(harmful, benign, human)
