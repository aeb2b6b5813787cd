"""One evaluation: from sources to eval.json, CSV files and pictures."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from openrlhf_rad.errors import ConfigError, ReferenceCostError
from openrlhf_rad.evaluation import bounds, compare, doubts, examples, sign
from openrlhf_rad.evaluation.answers import ScoredAnswers, read_answers
from openrlhf_rad.evaluation.columns import Columns
from openrlhf_rad.evaluation.constraints import SINGLE, Costs, costs_of, own_risks, parts
from openrlhf_rad.evaluation.folder import SCHEMA, judged, keep, keep_profile, sha256, write
from openrlhf_rad.evaluation.folder import source as read_from
from openrlhf_rad.evaluation.gate import GateVerdict, Requirements, decide
from openrlhf_rad.evaluation.pairing import pair
from openrlhf_rad.evaluation.sources import AnswerPlan, Source
from openrlhf_rad.evaluation.work import prepare
from openrlhf_rad.profile import RiskProfile
from openrlhf_rad.progress import Show
from openrlhf_rad.statistics.answers import Panel
from openrlhf_rad.statistics.inference import ratio
from openrlhf_rad.statistics.shares import share_estimate
from openrlhf_rad.words import versions


@dataclass(frozen=True)
class Job:
    """What is evaluated. ``worst`` is the number of costliest answers of each model to keep."""

    profile: RiskProfile
    sources: Sequence[Source]
    plan: AnswerPlan
    settings: compare.Analysis
    worst: int = 5
    command: str = ""


def run(job: Job, show: Show) -> dict[str, Any]:
    """Generate and score what is missing, evaluate, write everything but the pictures; returns eval.json.

    Raises:
        RadError: bad input, or a model or source that failed.
    """
    if problems := job.plan.problems(job.sources):
        raise ConfigError("\n".join(problems))
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
    costs: Costs = SINGLE,
) -> dict[str, ScoredAnswers]:
    """The scores of every model; tables that were made here have the usual names."""
    found = {}
    for source in sources:
        path = tables[source.name]
        own = path == source.table
        found[source.name] = read_answers(
            path, columns if own else columns.of_a_copy, source.name if own else None, costs
        )
    return found


def evaluate(job: Job, panel: Panel, answers: Mapping[str, ScoredAnswers], show: Show) -> dict[str, Any]:
    """The content of eval.json."""
    names, settings, first = list(answers), job.settings, job.profile.constraints[0]
    held, looked = parts(job.profile, panel), sign.look(answers)
    of_prompts = sign.are_of_prompts(list(answers.values()))
    models = compare.model_rows(panel, names, first.risk, settings)
    for row, source in zip(models, job.sources, strict=True):
        row |= {"role": source.role, "source": source.location, "read": read_from(answers[source.name])}
        row["scored_by"] = {
            constraint: str(rating) for _, rating, names in job.plan.ratings(source) for constraint in names
        }
        row["refusals"] = refusals(panel, answers[source.name], settings.confidence) if of_prompts else None
        row |= {"constraints": bounds.of_model(held, panel, row, settings)}
    digests = {
        source.name: frozenset({row["read"]["sha256"], *map(sha256, [source.table] if source.table else [])})
        for row, source in zip(models, job.sources, strict=True)
    }
    comparisons, unread = [], []
    couples = compare.pairs(names)
    for number, (baseline, candidate) in enumerate(couples):
        show("comparisons", number, len(couples))
        row = compare.comparison(panel, baseline, candidate, first.risk, settings, own=own_risks(job.profile))
        row |= {"constraints": bounds.of_pair(held, panel, row, settings)}
        verdict, refusal = judged(job.plan.out, baseline, candidate, digests)
        row["worse"] = examples.worse(panel, answers, (baseline, candidate), job.worst)
        row["gate"] = gate(job, panel, (baseline, candidate), looked)
        comparisons.append(row | {"judge": verdict})
        unread += [refusal] if refusal else []
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
        "constraints": bounds.overview(held),
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
        "worst": examples.worst(panel, answers, list(costs_of(job.profile)), job.worst),
        "warnings": [
            *sign.inverted(looked),
            *sign.notes(answers, looked),
            *job.profile.warnings,
            *doubts.warnings(panel, names, first.risk, settings.threshold),
            *bounds.warnings(held, panel, names, settings.threshold),
            *unread,
        ],
        "methods": compare.METHODS,
        "versions": versions(),
    }
    plain: dict[str, Any] = compare.jsonable(data)
    return plain


def gate(
    job: Job, panel: Panel, pair: tuple[str, str], looked: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """What the gate says of a pair under the profile's rules; ``looked``: whether a cost is turned round."""
    own = [row for row in looked if row["model"] in pair]
    if wrong := sign.inverted(own):
        return GateVerdict(*pair, reasons=wrong).data()
    try:
        return decide(job.profile, panel, *pair, Requirements(seed=job.settings.seed)).data()
    except ReferenceCostError as error:  # the gate's amounts are a share of what cannot be shared
        return GateVerdict(*pair, reasons=[str(error)]).data()


def refusals(panel: Panel, held: ScoredAnswers, confidence: float) -> dict[str, Any] | None:
    """Shares of harmful and of benign prompts that a model refuses; None where labels or texts do not tell.

    Of a harmful prompt a refusal is right; one of a benign prompt makes a model safe and useless.
    """
    if held.refused_b is None or held.labels is None or held.labels.reason:
        return None
    order, found = held.order, {}
    refused_b = held.refused_b[order].astype(np.float64)
    for kind, code in (("harmful", 1), ("benign", 0)):
        kept_b = held.label_b[order] == code
        share = share_estimate(ratio(panel, refused_b, kept_b), confidence) if kept_b.any() else None
        found[kind] = {"share": share, "answers": int(kept_b.sum()), "refused": int(refused_b[kept_b].sum())}
    return found


def _settings(settings: compare.Analysis) -> dict[str, Any]:
    plain = asdict(settings)
    plain["resamples"] = plain.pop("draws")
    return plain
