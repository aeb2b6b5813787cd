"""One evaluation: from sources to eval.json, CSV files and pictures."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from openrlhf_rad.evaluation import compare, sign
from openrlhf_rad.evaluation.answers import Answers, pair, read_answers
from openrlhf_rad.evaluation.columns import Columns
from openrlhf_rad.evaluation.constraints import SINGLE, CostOf, costs_of, own_risks, parts
from openrlhf_rad.evaluation.folder import SCHEMA, judged, keep, keep_profile, sha256, write
from openrlhf_rad.evaluation.folder import source as read_from
from openrlhf_rad.evaluation.sources import Plan, Source
from openrlhf_rad.evaluation.work import Show, prepare
from openrlhf_rad.profile import RiskProfile
from openrlhf_rad.statistics.answers import Panel
from openrlhf_rad.words import versions

#: Characters of a text among the worst answers.
_CUT = 400


@dataclass(frozen=True)
class Job:
    """What is evaluated. ``worst`` is the number of costliest answers of each model to keep."""

    profile: RiskProfile
    sources: Sequence[Source]
    plan: Plan
    settings: compare.Settings
    worst: int = 5
    command: str = ""


def run(job: Job, show: Show) -> dict[str, Any]:
    """Generate and score what is missing, evaluate, write everything but the pictures; returns eval.json.

    Raises:
        RadError: bad input, or a model or source that failed.
    """
    job.plan.check(job.sources)
    tables = {source.name: prepare(job.plan, source, show) for source in job.sources}
    answers = load(tables, job.sources, job.plan.columns, job.plan.asked)
    panel = pair(answers)
    data = evaluate(job, panel, answers, show)
    for row in data["models"]:
        row["scores"] = keep(job.plan.out, row["name"], answers[row["name"]])
    data["profile"] |= keep_profile(job.plan.out, job.profile)
    write(job.plan.out, data)
    return data


def load(
    tables: Mapping[str, Path],
    sources: Sequence[Source],
    columns: Columns,
    costs: Sequence[CostOf] = SINGLE,
) -> dict[str, Answers]:
    """The scores of every model; tables that were made here have the usual names."""
    found = {}
    for source in sources:
        path = tables[source.name]
        own = path == source.table
        found[source.name] = read_answers(
            path, columns if own else columns.of_a_copy, source.name if own else None, costs
        )
    return found


def evaluate(job: Job, panel: Panel, answers: Mapping[str, Answers], show: Show) -> dict[str, Any]:
    """The content of eval.json."""
    names, settings, first = list(answers), job.settings, job.profile.constraints[0]
    bounds, looked = parts(job.profile, panel), sign.look(answers)
    models = compare.model_rows(panel, names, first.risk, settings)
    for row, source in zip(models, job.sources, strict=True):
        row |= {"role": source.role, "source": source.location, "read": read_from(answers[source.name])}
        row["scored_by"] = {
            constraint: str(rating) for _, rating, names in job.plan.ratings(source) for constraint in names
        }
        row |= {"constraints": compare.of_model(bounds, panel, row, settings)}
    digests = {
        source.name: frozenset({row["read"]["sha256"], *map(sha256, [source.table] if source.table else [])})
        for row, source in zip(models, job.sources, strict=True)
    }
    comparisons, doubts = [], []
    couples = compare.pairs(names)
    for number, (baseline, candidate) in enumerate(couples):
        show("comparisons", number, len(couples))
        row = compare.comparison(panel, baseline, candidate, first.risk, settings, own=own_risks(job.profile))
        row |= {"constraints": compare.of_pair(bounds, panel, row, settings)}
        verdict, doubt = judged(job.plan.out, baseline, candidate, digests)
        comparisons.append(row | {"judge": verdict})
        doubts += [doubt] if doubt else []
    show("comparisons", len(couples), len(couples))
    count_s = np.bincount(panel.segment_p[panel.segment_p >= 0], minlength=len(panel.segments))
    data = {
        "schema": SCHEMA,
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "command": job.command,
        "profile": {
            "name": job.profile.name,
            "hash": job.profile.hash,
            "risk": str(first.risk),
            "formula": first.risk.formula,
        },
        "constraints": compare.overview(bounds),
        "settings": _settings(settings),
        "data": {
            "prompts": panel.prompts,
            "answers": panel.answers,
            "answers_per_prompt": [int(panel.size_p.min()), int(panel.size_p.max())],
            "segments": [
                {"name": name, "prompts": int(count)}
                for name, count in zip(panel.segments, count_s, strict=True)
            ],
        },
        "models": models,
        "sign": looked,
        "comparisons": comparisons,
        "worst": [
            row for cost in costs_of(job.profile) for row in worst(panel, answers, job.worst, cost.name)
        ],
        "warnings": [
            *sign.inverted(looked),
            *sign.notes(answers, looked),
            *job.profile.warnings,
            *compare.warnings(panel, names, first.risk, settings.threshold),
            *compare.constraint_warnings(bounds, panel, names, settings.threshold),
            *doubts,
        ],
        "methods": compare.METHODS,
        "versions": versions(),
    }
    plain: dict[str, Any] = compare.jsonable(data)
    return plain


def worst(panel: Panel, answers: Mapping[str, Answers], count: int, constraint: str) -> list[dict[str, Any]]:
    """The answers of each model that cost most under a constraint, texts cut."""
    found = []
    cluster_b = panel.cluster_b
    for name, held in answers.items():
        cost_b = panel.with_costs(constraint).cost[name]
        kept = min(count, cost_b.size)
        if not kept:
            continue
        top = np.argpartition(-cost_b, kept - 1)[:kept]
        top = top[np.argsort(-cost_b[top], kind="stable")]
        texts = held.texts([int(panel.row[name][i]) for i in top], "prompt", "answer")
        for i, (prompt, answer) in zip(top, texts, strict=True):
            segment = int(panel.segment_p[cluster_b[i]])
            found.append(
                {
                    "model": name,
                    "constraint": constraint,
                    "prompt": _cut(prompt),
                    "answer": _cut(answer),
                    "cost": float(cost_b[i]),
                    "reward": float(panel.reward[name][i]) if name in panel.reward else None,
                    "segment": panel.segments[segment] if segment >= 0 else None,
                }
            )
    return found


def _settings(settings: compare.Settings) -> dict[str, Any]:
    plain = asdict(settings)
    plain["resamples"] = plain.pop("draws")
    return plain


def _cut(text: Any) -> str | None:
    if text is None:
        return None
    plain = str(text)
    return plain if len(plain) <= _CUT else f"{plain[: _CUT - 1]}…"
