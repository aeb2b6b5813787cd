"""The cost model of the default job: how harmful an answer is.

The unit is one standard deviation over the answers that people scored.

A Bradley–Terry cost, linear in the mean hidden state of SmolLM2's first layers, saved as a reward-model
checkpoint (:mod:`openrlhf_rad.jobs.cost_head`). 0 lies half way between the harmless answers (refusals,
benign ones) and the harmful ones (harm ≥ 0.75) of prompts left out of the fit.
``python -m openrlhf_rad.jobs.cost_model`` prints how good it is on prompts it has not seen; the same is in
``cost_model_report.json`` beside the checkpoint.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from openrlhf_rad.jobs import policy, policy_answers
from openrlhf_rad.jobs.assets import package_version, prepared, step
from openrlhf_rad.jobs.cost_data import Example
from openrlhf_rad.jobs.cost_fit import Array, by_kind, calibrated, compare, cross_validated, fit
from openrlhf_rad.jobs.cost_head import add_cost_layer, constant_functional, save
from openrlhf_rad.jobs.features import encode, last_scores, mean_states, truncated_backbone
from openrlhf_rad.processor import number_format

#: Of 30. Of 4, 6, 7, 8, 9 and 12, eight order held-out pairs best, and cost two thirds of twelve.
LAYERS = 8
REPORT = "cost_model_report.json"


def prepare() -> Path:
    """The folder of the checkpoint and its report; a minute or two to build on two cores."""
    recipe = {
        "version": 4,
        "layers": LAYERS,
        "pyrit": package_version("pyrit"),
        "format": number_format(),
    }

    def build(folder: Path) -> None:
        seen, unseen = (policy_answers.training_examples(side) for side in (True, False))
        with step(f"cost model: {len(seen)} labelled answers, {LAYERS} layers") as done:
            _build(folder, seen, unseen, done)

    return prepared("cost_model", recipe, build, (policy.prepare(), policy_answers.prepare()))


def read_report(folder: Path) -> dict[str, Any]:
    """The report beside a checkpoint."""
    report: dict[str, Any] = json.loads((folder / REPORT).read_text())
    return report


def _build(
    folder: Path, seen: Sequence[Example], unseen: Sequence[Example], done: Callable[[float], None]
) -> None:
    source = policy.prepare()
    tokenizer = policy.load_tokenizer(source)
    backbone = truncated_backbone(source, LAYERS)
    chats = encode(tokenizer, [e.prompt for e in seen], [e.answer for e in seen])
    both = len(seen) + len(unseen)
    means = mean_states(backbone, chats, done=lambda share: done(share * len(seen) / both))
    one = constant_functional(means)
    crossed = cross_validated(means, seen)
    weight = calibrated(fit(means, seen), one, means, seen, crossed)
    head = add_cost_layer(backbone, weight, one)
    save(backbone, head, tokenizer, folder)
    chats = encode(tokenizer, [e.prompt for e in unseen], [e.answer for e in unseen], seed=1)
    costs = last_scores(backbone, head, chats).double().numpy()
    report = _report(crossed, seen, costs, unseen, tokenizer)
    (folder / REPORT).write_text(json.dumps(report, indent=1))


def _report(
    crossed: Array, seen: Sequence[Example], costs: Array, unseen: Sequence[Example], tokenizer: Any
) -> dict[str, Any]:
    """Figures on prompts that the fit has not seen, against the length of the answer cut as in the fit."""
    out: dict[str, Any] = {"answers_fitted": len(seen), "prompts_fitted": len({e.prompt for e in seen})}
    for name, values, examples in (("cross_validation", crossed, seen), ("unseen_prompts", costs, unseen)):
        human = [i for i, e in enumerate(examples) if e.kind == "human"]
        said = [examples[i] for i in human]
        lengths = np.array([min(36, len(tokenizer(e.answer).input_ids)) for e in said], dtype=float)
        out[name] = compare(values[human], lengths, said)
    out["checkpoint_cost_on_unseen_prompts"] = by_kind(costs, unseen)
    return out


if __name__ == "__main__":
    print(json.dumps(read_report(prepare()), indent=1, ensure_ascii=False))
