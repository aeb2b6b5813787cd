"""Labels in, a cost model out: the checkpoint that ``cost.model`` names, and what it is worth.

A Bradley–Terry cost, linear in the mean hidden state of a language model's first layers, saved as a reward
model (:mod:`openrlhf_rad.fitting.pooling`). The unit is one standard deviation over the answers that people
labelled; 0 lies half way between harmless and harmful answers of prompts left out of the fit.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoTokenizer

from openrlhf_rad.checking.order import CONTROLS, Array, as_report, by_kind, compare
from openrlhf_rad.data.labels import HALF, REPORT, Labels, digest
from openrlhf_rad.data.weak import evasions
from openrlhf_rad.errors import ConfigError, DataError, EnvironmentProblem
from openrlhf_rad.files import write_atomically
from openrlhf_rad.fitting.bradley_terry import Sides, calibrated, cross_validated, effective_parameters, fit
from openrlhf_rad.fitting.pooling import add_cost_layer, constant_functional, save
from openrlhf_rad.fitting.states import Reading, last_scores, mean_states, truncated_backbone, untold
from openrlhf_rad.statistics.inference import ENOUGH

HELD_OUT = "held_out.jsonl"
#: The most effective weights a label: beyond it a fit repeats its labels.
BEARABLE = 0.75
#: The least correlation of what the checkpoint rates with what was fitted; rounding to bfloat16 costs less.
FAITHFUL = 0.98


@dataclass(frozen=True)
class Fitted:
    """A cost in memory.

    Attributes:
        crossed: the cost of each labelled answer by a fit that has not seen its prompt, not yet calibrated.
        parameters: effective ones, see :func:`~openrlhf_rad.fitting.bradley_terry.effective_parameters`.
    """

    backbone: Any
    head: torch.nn.Linear
    tokenizer: Any
    reading: Reading
    crossed: Array
    parameters: float

    def scores(self, labels: Labels, seed: int = 0) -> Array:
        """The costs of answers as OpenRLHF would read them from the checkpoint."""
        prompts, answers = _texts(labels)
        chats = self.reading.encode(self.tokenizer, prompts, answers, seed)
        return last_scores(self.backbone, self.head, chats).double().numpy()

    def save(self, folder: Path) -> None:
        """Write the checkpoint."""
        save(self.backbone, self.head, self.tokenizer, folder)


def fit_cost(
    model: Path | str,
    labels: Labels,
    reading: Reading,
    layers: int,
    sides: Sides,
    *,
    done: Callable[[float], None] = untold,
) -> Fitted:
    """Read the states, fit, place the zero, and add the layer; ``done`` is told the share of the work.

    Raises:
        DataError: fewer answers than the weights that they move can bear.
        EnvironmentProblem: the layer that was added does not give the cost that was fitted.
    """
    tokenizer = AutoTokenizer.from_pretrained(model)
    tokenizer.padding_side = "left"
    backbone = truncated_backbone(model, layers)
    _check_tokenizer(model, tokenizer, backbone)
    chats = reading.encode(tokenizer, *_texts(labels))
    means = mean_states(backbone, chats, done=done)
    parameters = effective_parameters(means, labels)
    if parameters > BEARABLE * len(labels.examples):
        raise DataError(
            f"{len(labels.examples)} labelled answers are to settle {parameters:.0f} effective weights (of"
            f" {means.shape[1]}), at most {BEARABLE:.0%} of their number; label more, or take a smaller model"
        )
    one = constant_functional(means)
    crossed = cross_validated(means, labels)
    weight = calibrated(fit(means, labels), one, means, crossed, sides)
    head = add_cost_layer(backbone, weight, one)
    some = list(range(0, len(chats), max(1, len(chats) // 64)))
    read = last_scores(backbone, head, [chats[i] for i in some])
    if not float(torch.corrcoef(torch.stack([read, means[some] @ weight]))[0, 1]) > FAITHFUL:
        raise EnvironmentProblem(
            f"the checkpoint made of {model} does not rate as the cost that was fitted; its architecture,"
            f" {backbone.config.model_type}, differs from what was tested; take another model"
        )
    return Fitted(backbone, head, tokenizer, reading, crossed, parameters)


@dataclass(frozen=True)
class FitSettings:
    """How a cost is fitted.

    Attributes:
        template: the prompt as it is sent; None: the tokenizer's chat template.
        answer_tokens: where answers are cut, as training cuts them.
        weak: whether refusals, empty and off-topic answers are added as harmless.
    """

    model: str
    layers: int
    template: str | None = None
    prompt_tokens: int = 512
    answer_tokens: int = 512
    weak: bool = True


def check(labels: Labels, source: str | Path) -> None:
    """Raise DataError where there are too few labels for anything to be known of a cost fitted to them."""
    sides = {
        "a harmful answer": {e.prompt for e in labels.examples if e.harm is not None and e.harm >= HALF},
        "a harmless answer": {e.prompt for e in labels.examples if e.harm is not None and e.harm < HALF},
    }
    compared = {labels.examples[i].prompt for i, _ in labels.order}
    if all(len(prompts) >= ENOUGH for prompts in sides.values()) or len(compared) >= ENOUGH:
        return
    held = ", ".join(f"{len(prompts)} with {side}" for side, prompts in sides.items())
    raise DataError(
        f"{source}: prompts: {held}, {len(compared)} with answers compared in pairs; a cost needs"
        f" {ENOUGH} of both kinds, or {ENOUGH} in pairs, or nothing is known of what it learned; label more"
    )


def template_of(tokenizer: Any, model: str) -> str:
    """The chat format of a tokenizer with ``{}`` for the words of the prompt.

    Raises:
        ConfigError: it has none.
    """
    if not getattr(tokenizer, "chat_template", None):
        raise ConfigError(
            f"--model {model}: its tokenizer has no chat template to say how prompts are sent; give the"
            " training's own by --template, with {} for the prompt"
        )
    turns = [{"role": "user", "content": "{}"}]
    return str(tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True))


def build(
    labels: Labels, options: FitSettings, folder: Path, done: Callable[[float], None] = untold
) -> dict[str, Any]:
    """Fit, and write the checkpoint, its report and the held-out costs; returns the report.

    Raises:
        RadError: as :func:`fit_cost`; ConfigError where no template is known.
    """
    extra = evasions(labels) if options.weak else []
    whole = Labels([*labels.examples, *extra], labels.order)
    template = options.template or template_of(AutoTokenizer.from_pretrained(options.model), options.model)
    reading = Reading(template, options.prompt_tokens, (options.answer_tokens, options.answer_tokens))
    fitted = fit_cost(options.model, whole, reading, options.layers, sides_of(whole), done=done)
    human = [i for i, e in enumerate(whole.examples) if e.kind == "human"]
    answers = [whole.examples[i].answer for i in human]
    controls = {name: np.array([rate(a) for a in answers]) for name, rate in CONTROLS.items()}
    costs = fitted.scores(whole)
    report = {
        "model": options.model,
        "layers": options.layers,
        "template": template,
        "prompt_tokens": options.prompt_tokens,
        "answer_tokens": options.answer_tokens,
        "answers": len(labels.examples),
        "prompts": len({e.prompt for e in labels.examples}),
        "pairs": len(labels.pairs),
        "weak": len(extra),
        "weights": fitted.backbone.config.hidden_size,
        "effective_weights": round(fitted.parameters, 1),
        "held_out": as_report(compare(fitted.crossed[human], controls, whole.where(human))),
        "cost": by_kind(costs, whole),
        "fitted_prompts": sorted({digest(e.prompt) for e in labels.examples}),
    }
    fitted.save(folder)
    rows = (
        {"prompt": e.prompt, "answer": e.answer, "score": e.harm, "cost": float(fitted.crossed[i])}
        for i, e in enumerate(whole.examples)
        if e.kind == "human"
    )
    write_atomically(folder / HELD_OUT, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    write_atomically(folder / REPORT, json.dumps(report, indent=1, ensure_ascii=False) + "\n")
    return report


def sides_of(labels: Labels) -> Sides:
    """Human answers and refusals by their harm, where that is known; else by their side of the pairs."""
    examples = labels.examples
    honest = np.array([e.kind in ("human", "refusal") for e in examples])
    human = np.array([e.kind == "human" for e in examples])
    known = np.array([e.harm is not None for e in examples])
    bad = np.array([(e.harm or 0.0) >= HALF for e in examples])
    if not (known & bad & honest).any():
        worse, better = ({pair[side] for pair in labels.order} for side in (0, 1))
        return Sides(_chosen(worse, len(examples)), _chosen(better, len(examples)), human)
    return Sides(known & bad & honest, known & ~bad & honest, human)


def _chosen(indices: set[int], size: int) -> NDArray[np.bool_]:
    chosen = np.zeros(size, dtype=np.bool_)
    chosen[list(indices)] = True
    return chosen


def _texts(labels: Labels) -> tuple[Sequence[str], Sequence[str]]:
    return [e.prompt for e in labels.examples], [e.answer for e in labels.examples]


def _check_tokenizer(model: Path | str, tokenizer: Any, backbone: Any) -> None:
    """Raise ConfigError for a tokenizer that is not the model's, or has no end token."""
    known, made = backbone.get_input_embeddings().num_embeddings, len(tokenizer)
    if made > known:
        raise ConfigError(
            f"--model {model}: its tokenizer makes {made:,} tokens and the model knows {known:,}; they do not"
            " belong together; save the model's own tokenizer beside its weights"
        )
    if tokenizer.eos_token_id is None:
        raise ConfigError(
            f"--model {model}: its tokenizer has no end token, by which an answer is known to be whole; set"
            " eos_token in its tokenizer_config.json"
        )
