"""Every model's answers to the same prompts, with cost, reward, independent cost and likelihood.

Each model answers in a process of its own, resumable as ``rad eval`` is; all answers are then rated at once.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from openrlhf_rad.data import load_prompts
from openrlhf_rad.errors import ConfigError
from openrlhf_rad.evaluation.sources import Rating, Sampling, parse_rating
from openrlhf_rad.evaluation.work import generate_request, likelihood_request, perform, score_request
from openrlhf_rad.jobs.presets import place
from openrlhf_rad.progress import Show
from openrlhf_rad.study import answers as table
from openrlhf_rad.study.estimates import passes_safety_test
from openrlhf_rad.study.exact import HELD_OUT
from openrlhf_rad.study.folder import StudyFolder
from openrlhf_rad.study.spec import START, Study
from openrlhf_rad.study.training import told

Row = dict[str, Any]
WORK = "evaluation"


@dataclass(frozen=True)
class EvaluatedJob:
    """What the evaluation takes from the job that was trained.

    Attributes:
        start: the model before training. template: of prompts, None for the chat format.
        sampling: but for the answers to each prompt. trained: the prompts of the training, by file.
    """

    start: str
    template: str | None
    sampling: Sampling
    cost: Rating
    reward: Rating
    trained: Mapping[str, Sequence[str]]


def prompts_of(study: Study) -> dict[str, list[str]]:
    """The prompts of every set. Raises DataError for a file that cannot serve."""
    limit = study.evaluation.limit
    return {
        name: [prompt.text for prompt in load_prompts(place(source, Path()))[:limit]]
        for name, source in study.evaluation.prompts.items()
    }


def refuse_overlap(study: Study, job: EvaluatedJob) -> None:
    """Raise ConfigError for prompts of the evaluation that were trained on."""
    problems = []
    for name, texts in prompts_of(study).items():
        for file, trained in job.trained.items():
            known = set(trained)
            both = [text for text in texts if text in known]
            if both:
                problems.append(
                    f"evaluation.{name} is {study.evaluation.prompts[name]}; {len(both)} of its {len(texts)}"
                    f" prompts are trained on, in {file}, first {both[0][:60]!r}; a model is judged on"
                    " prompts that it has not seen; name others"
                )
    if problems:
        raise ConfigError("\n".join(problems))


def perform_all(study: Study, folder: StudyFolder, job: EvaluatedJob, show: Show) -> None:
    """Answer and rate what is missing, then write the tables. Raises RadError of a model or source."""
    sets = prompts_of(study)
    asked = [(name, number, text) for name, texts in sets.items() for number, text in enumerate(texts)]
    rows: list[Row] = []
    for model in study.models:
        for seed in study.seeds if model.trained else study.seeds[:1]:
            source = str(folder.run(model, seed) / "model") if model.trained else job.start
            sampling = Sampling(**{**vars(job.sampling), "samples": study.evaluation.samples})
            request = generate_request(source, job.template, sampling)
            where = folder.path / WORK / model.name / str(seed)
            what = f"answers of {model.name}, seed {seed}" if model.trained else f"answers of {model.name}"
            for row in perform(what, request, [{"prompt": text} for _, _, text in asked], where, show):
                name, number, text = asked[row["index"]]
                rows.append(
                    {"model": model.name, "seed": seed, "set": name, "number": number, "prompt": text} | row
                )
    _rate(study, folder, job, rows, show)
    _gather(study, folder, rows)


def _rate(study: Study, folder: StudyFolder, job: EvaluatedJob, rows: list[Row], show: Show) -> None:
    """All ratings of all answers, each by one process; the likelihood of those that are told of."""
    ratings = {"cost": job.cost, "reward": job.reward}
    if study.evaluation.independent is not None:
        ratings["independent"] = parse_rating("cost", study.evaluation.independent)
    requests = {name: score_request(rating, job.template) for name, rating in ratings.items()}
    marks = {name: rating.fingerprint for name, rating in ratings.items()}
    requests["loss"] = likelihood_request(job.start, job.template)
    digest = hashlib.sha256(json.dumps([[row["prompt"], row["answer"]] for row in rows]).encode()).hexdigest()
    held = [row for row in rows if row["set"] == HELD_OUT]
    for name, request in requests.items():
        mine = rows if name in ratings else held
        asked = [
            {key: row.get(key) for key in ("prompt", "answer", "label", "sent", "finished")} for row in mine
        ]
        where = folder.path / WORK / f"{name}-{marks.get(name, 'start')}-{digest[:12]}"
        for found in perform(f"{name} of {len(mine)} answers", request, asked, where, show):
            mine[found["index"]][name] = found["value"]
            if "tokens" in found:
                mine[found["index"]]["tokens"] = found["tokens"]


def _gather(study: Study, folder: StudyFolder, rows: Sequence[Row]) -> None:
    """Write the tables: scores by prompt number, and what is told of each run and its texts."""
    kept = ("model", "seed", "set", "sample", "cost", "reward")
    columns: dict[str, list[Any]] = {key: [row[key] for row in rows] for key in kept}
    columns["prompt"] = [row["number"] for row in rows]
    if study.evaluation.independent is not None:
        columns["independent"] = [row["independent"] for row in rows]
    table.write_table(folder.data, table.ANSWERS, columns)
    scores = table.read_scores(folder.data)
    found: list[Row] = []
    for model in study.models:
        for seed in study.seeds if model.trained else study.seeds[:1]:
            mine = [
                row for row in rows if (row["model"], row["seed"], row["set"]) == (model.name, seed, HELD_OUT)
            ]
            run = told(folder.run(model, seed)) if model.trained else {"slack": None, "lambda": None}
            costs = (scores[name, seed, HELD_OUT].cost_pk for name in (START, model.name))
            passed = {"released": passes_safety_test(study.ask, *costs)}
            found.append({"model": model.name, "seed": seed} | run | passed | texts(mine))
    table.write_table(folder.data, table.RUNS, {key: [row[key] for row in found] for key in found[0]})


def texts(rows: Sequence[Row]) -> dict[str, float]:
    """How varied answers are, and how likely to the start: a degenerate policy shows there.

    ``perplexity`` is exp of −log π₀ a token, ``distinct1`` and ``distinct2`` the share of words and of pairs
    of words that differ (Li et al. 2016), ``words`` those of an answer, ``empty`` the share of empty answers.
    """
    split = [row["answer"].split() for row in rows]
    tokens = sum(row["tokens"] for row in rows)

    def distinct(size: int) -> float:
        grams = Counter(
            tuple(words[place : place + size]) for words in split for place in range(len(words) - size + 1)
        )
        return len(grams) / grams.total() if grams else 0.0

    return {
        "perplexity": float(np.exp(sum(row["loss"] for row in rows) / tokens)) if tokens else float("nan"),
        "distinct1": distinct(1),
        "distinct2": distinct(2),
        "words": float(np.mean([len(words) for words in split])),
        "empty": float(np.mean([not words for words in split])),
    }
