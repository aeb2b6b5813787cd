"""The cost model of the default job: how harmful an answer is.

The unit is one standard deviation over the answers that people scored.

A Bradley–Terry cost, linear in the mean hidden state of SmolLM2's first layers, saved as a reward-model
checkpoint (:mod:`openrlhf_rad.fitting`). 0 lies half way between the harmless answers (refusals,
benign ones) and the harmful ones (harm ≥ 0.75) of prompts left out of the fit.
``python -m openrlhf_rad.jobs.cost_model`` prints how good it is on prompts it has not seen; the same is in
``cost.json`` beside the checkpoint.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from openrlhf_rad.checking.order import Array, as_report, by_kind, compare
from openrlhf_rad.data.labels import REPORT, Labels, digest
from openrlhf_rad.fitting.bradley_terry import Sides
from openrlhf_rad.fitting.cost import fit_cost
from openrlhf_rad.fitting.states import Reading
from openrlhf_rad.jobs import policy, policy_answers
from openrlhf_rad.jobs.assets import package_version, prepared, step
from openrlhf_rad.jobs.chat import TEMPLATE
from openrlhf_rad.processor import number_format

#: Of 30. Of 4, 6, 7, 8, 9 and 12, eight order held-out pairs best, and cost two thirds of twelve.
LAYERS = 8
#: As rollouts of the default job are: short prompts, answers cut after some tokens.
READING = Reading(TEMPLATE, 48, (24, 48))
#: Harm, on the human scale 0–1, from which an answer counts as harmful where the zero is placed.
HARMFUL = 0.75


def prepare() -> Path:
    """The folder of the checkpoint and its report; a minute or two to build on two cores."""
    recipe = {
        "version": 6,
        "layers": LAYERS,
        "pyrit": package_version("pyrit"),
        "format": number_format(),
    }

    def build(folder: Path) -> None:
        seen, unseen = (Labels(policy_answers.training_examples(side)) for side in (True, False))
        with step(f"cost model: {len(seen.examples)} labelled answers, {LAYERS} layers") as done:
            _build(folder, seen, unseen, done)

    return prepared("cost_model", recipe, build, (policy.prepare(), policy_answers.prepare()))


def read_report(folder: Path) -> dict[str, Any]:
    """The report beside a checkpoint."""
    report: dict[str, Any] = json.loads((folder / REPORT).read_text())
    return report


def _build(folder: Path, seen: Labels, unseen: Labels, done: Callable[[float], None]) -> None:
    both = len(seen.examples) + len(unseen.examples)
    fitted = fit_cost(
        policy.prepare(),
        seen,
        READING,
        LAYERS,
        sides(seen),
        done=lambda share: done(share * len(seen.examples) / both),
    )
    fitted.save(folder)
    report = _report(fitted.crossed, seen, fitted.scores(unseen, seed=1), unseen, fitted.tokenizer)
    (folder / REPORT).write_text(json.dumps(report, indent=1))


def sides(labels: Labels) -> Sides:
    """What the zero lies between: refusals and benign answers, and answers of harm 0.75 or more."""
    return Sides(
        np.array([e.harm is not None and e.harm >= HARMFUL for e in labels.examples]),
        np.array([e.kind in ("refusal", "benign") for e in labels.examples]),
        np.array([e.kind == "human" for e in labels.examples]),
    )


def _report(crossed: Array, seen: Labels, costs: Array, unseen: Labels, tokenizer: Any) -> dict[str, Any]:
    """Figures on prompts that the fit has not seen, against the length of the answer cut as in the fit."""
    out: dict[str, Any] = {
        "answers_fitted": len(seen.examples),
        "prompts_fitted": len({e.prompt for e in seen.examples}),
    }
    for name, values, labels in (("cross_validation", crossed, seen), ("unseen_prompts", costs, unseen)):
        human = [i for i, e in enumerate(labels.examples) if e.kind == "human"]
        said = labels.where(human)
        length = [float(min(36, len(tokenizer(e.answer).input_ids))) for e in said.examples]
        out[name] = as_report(compare(values[human], {"length": np.array(length)}, said))
    out["checkpoint_cost_on_unseen_prompts"] = by_kind(costs, unseen)
    out["fitted_prompts"] = sorted({digest(e.prompt) for e in seen.examples})
    return out


if __name__ == "__main__":
    print(
        json.dumps(
            {name: held for name, held in read_report(prepare()).items() if name != "fitted_prompts"},
            indent=1,
            ensure_ascii=False,
        )
    )
