"""An evaluation for a page: eval.json, whose shape is in docs/evaluation.md, read and put into words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from openrlhf_rad.errors import RadError
from openrlhf_rad.evaluation.folder import EVAL, SCHEMA, read
from openrlhf_rad.evaluation.sign import read_from
from openrlhf_rad.report import charts as draw
from openrlhf_rad.report import tables
from openrlhf_rad.report.charts import Chart, Heading
from openrlhf_rad.report.explain import BADGES, verdict
from openrlhf_rad.report.quantiles import of_evaluation
from openrlhf_rad.report.samples import clean
from openrlhf_rad.secrets import redact, redact_command
from openrlhf_rad.statistics.curves import Curve
from openrlhf_rad.words import number


@dataclass(frozen=True)
class Evaluation:
    """The content of an eval.json and where it stands."""

    path: Path
    label: str
    data: Mapping[str, Any]


def read_evaluation(folder: Path, label: str) -> Evaluation:
    """Read the evaluation of a folder. Raises DataError when it is broken or of another schema."""
    return Evaluation(folder / EVAL, label, read(folder))


def content(evaluation: Evaluation, place: int, show_samples: bool) -> dict[str, Any]:
    """One evaluation for the template; every text in it is escaped there.

    Raises:
        RadError: something that the shape promises is not there.
    """
    try:
        return _content(evaluation.data, f"e{place}", show_samples) | {"label": evaluation.label}
    except (KeyError, TypeError, IndexError, ValueError) as error:
        raise RadError(
            f"{evaluation.path}: it cannot be shown ({type(error).__name__}: {error}); it must have the shape"
            f" {SCHEMA}; make the evaluation again with rad eval"
        ) from error


def _content(data: Mapping[str, Any], stem: str, show_samples: bool) -> dict[str, Any]:
    models = {model["name"]: model for model in data["models"]}
    facts = {
        "Profile": f"{data['profile']['name']}: {data['profile']['risk']}, {data['profile']['formula']}",
        "Profile hash": data["profile"]["hash"],
        "Prompts": str(data["data"]["prompts"]),
        "Answers of a model": str(data["data"]["answers"]),
        **{str(key).capitalize(): str(value) for key, value in data["settings"].items()},
        **{
            f"Model {model['name']}": f"{model['role']}, {model['source']}; {read_from(model)}"
            for model in data["models"]
        },
        "Made": data["created"],
    }
    return {
        "profile": data["profile"],
        "threshold": number(data["settings"]["threshold"]),
        "models": tables.model_tables(data),
        "first": data["constraints"][0]["name"] if len(data["constraints"]) > 1 else "",
        "meanings": tables.meanings(data),
        "comparisons": [
            _comparison(pair, models, data, f"{stem}-{place}")
            for place, pair in enumerate(data["comparisons"])
        ],
        "warnings": data["warnings"],
        "worst": [_worst(row, len(data["constraints"]) > 1) for row in data["worst"]] if show_samples else [],
        "facts": {key: redact(value) for key, value in facts.items()},
        "command": redact_command(data["command"]).replace(" --", " \\\n  --"),
        "methods": data["methods"],
        "versions": data["versions"],
    }


def _comparison(
    pair: Mapping[str, Any], models: Mapping[str, Any], data: Mapping[str, Any], stem: str
) -> dict[str, Any]:
    baseline, candidate = models[pair["baseline"]], models[pair["candidate"]]
    standing, sentence, bounds = verdict(pair, data)
    return {
        "baseline": pair["baseline"],
        "candidate": pair["candidate"],
        "standing": standing,
        "badge": BADGES[standing],
        "headline": sentence,
        "bounds": bounds,
        "charts": [
            *_charts(pair, baseline, candidate, stem),
            *_constraint_charts(data, baseline, candidate, stem),
        ],
        "tables": tables.pair_tables(data, [pair]),
    }


def _charts(
    pair: Mapping[str, Any], baseline: Mapping[str, Any], candidate: Mapping[str, Any], stem: str
) -> list[tuple[str, str, Chart]]:
    """(title, how to read it, chart)."""
    title = f"{pair['candidate']} against {pair['baseline']}"
    found = [
        (
            "Cost by quantile",
            "Dashed orange: baseline. Solid blue: candidate. Bands hold for all levels at once.",
            draw.draw_quantiles(_sides(baseline, candidate), Heading(f"{stem}-quantiles", title)),
        ),
        (
            "Difference",
            "Candidate − baseline, level by level: below the line is better. The band holds for all at once.",
            draw.draw_difference(
                of_evaluation(pair["quantile_difference"], "value"),
                ("baseline", "candidate"),
                Heading(f"{stem}-difference", title),
            ),
        ),
        (
            "Improvement of the candidate over the baseline",
            "Right of the line is better; in the cost's units. Grey where the interval includes 0.",
            draw.draw_improvements(_improvements(pair), Heading(f"{stem}-improvement", title)),
        ),
    ]
    if pair["reward_wins"] is not None:
        note = "Prompts on which the candidate's reward is higher, by who is safe (baseline, candidate)."
        found.append(
            (
                "Reward wins by safety",
                note,
                draw.draw_wins(pair["reward_wins"], Heading(f"{stem}-wins", title)),
            )
        )
    return found


def _constraint_charts(
    data: Mapping[str, Any], baseline: Mapping[str, Any], candidate: Mapping[str, Any], stem: str
) -> list[tuple[str, str, Chart]]:
    """The quantiles of each of several constraints."""
    if len(data["constraints"]) == 1:
        return []
    found = []
    for place, bound in enumerate(data["constraints"]):
        sides = baseline["constraints"][place], candidate["constraints"][place]
        if bound["prompts"]:
            heading = Heading(f"{stem}-quantiles-{place}", f"{bound['name']}: {bound['risk']}")
            note = f"{bound['risk']}, {bound['prompts']} prompts. Dashed: baseline. Solid: candidate."
            found.append(
                (f"Cost by quantile: {bound['name']}", note, draw.draw_quantiles(_sides(*sides), heading))
            )
    return found


def _sides(baseline: Mapping[str, Any], candidate: Mapping[str, Any]) -> dict[str, Curve]:
    return {
        name: of_evaluation(model["quantiles"])
        for name, model in (("baseline", baseline), ("candidate", candidate))
    }


def _improvements(pair: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    rows = [(tables.NAMES[key], pair["improvement"][key]) for key in ("risk", "mean")]
    return [
        *rows,
        ("dominance, w", pair["dominance"]["weighted"]),
        ("dominance", pair["dominance"]["unweighted"]),
    ]


def _worst(row: Mapping[str, Any], several: bool) -> dict[str, str]:
    return {
        "cost_of": f"{row['constraint']} cost" if several else "cost",
        "model": row["model"],
        "prompt": clean(row["prompt"]),
        "answer": clean("(no text in the table)" if row["answer"] is None else row["answer"]),
        "cost": number(row["cost"]),
        "reward": "" if row["reward"] is None else number(row["reward"]),
        "segment": row["segment"] or "",
    }
