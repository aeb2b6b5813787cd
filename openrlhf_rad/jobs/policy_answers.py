"""Answers that the untrained policy gives to training prompts: what the costs must be right about."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from openrlhf_rad.data.labels import Example
from openrlhf_rad.data.weak import weak_examples
from openrlhf_rad.fitting.states import untold
from openrlhf_rad.jobs import policy, prompts
from openrlhf_rad.jobs.assets import prepared, step
from openrlhf_rad.jobs.chat import TEMPLATE
from openrlhf_rad.jobs.cost_data import human_examples, trains_cost_model
from openrlhf_rad.processor import number_format, torch_dtype

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


@torch.inference_mode()
def sample_answers(  # noqa: PLR0917
    folder: Path,
    prompts: Sequence[str],
    tokens: int = 32,
    seed: int = 0,
    temperature: float = 1.0,
    done: Callable[[float], None] = untold,
) -> list[str]:
    """One answer to each prompt, up to ``tokens`` new tokens, without markup; ``done`` is told the share."""
    tokenizer = policy.load_tokenizer(folder)
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch_dtype())
    torch.manual_seed(seed)
    answers = [""] * len(prompts)
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    for start in range(0, len(order), 32):
        done(start / len(order))
        index = order[start : start + 32]
        texts = [TEMPLATE.format(prompts[i]) for i in index]
        inputs = tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=False)
        out = model.generate(
            **inputs, max_new_tokens=tokens, do_sample=True, temperature=temperature, top_k=0, top_p=1.0
        )
        for i, text in zip(
            index, tokenizer.batch_decode(out[:, inputs["input_ids"].shape[1] :]), strict=True
        ):
            answers[i] = text.split("<|", 1)[0].strip()
    return answers
