"""One self-contained HTML page of runs or evaluations: no script, no network, every text escaped."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from openrlhf_rad.authoring import words
from openrlhf_rad.discrete import few_values, meaning
from openrlhf_rad.errors import ConfigError
from openrlhf_rad.evaluation.folder import EVAL
from openrlhf_rad.files import explained, write_atomically
from openrlhf_rad.method.constraint import FORMS
from openrlhf_rad.profile import Constraint, RiskProfile, cost_name
from openrlhf_rad.report import samples, sections, standing, tables
from openrlhf_rad.report.charts import Chart, draw_spectrum, styled
from openrlhf_rad.report.evaluations import Evaluation, content, read_evaluation
from openrlhf_rad.report.sources import RunRecord, labels, read_runs
from openrlhf_rad.runs.folder import PAGE
from openrlhf_rad.secrets import redact, redact_command
from openrlhf_rad.words import apart, number, versions

_TEMPLATES = Path(__file__).with_name("templates")
_BADGES = {
    "lower": "risk lower",
    "doubtful": "risk lower, with doubts",
    "higher": "risk higher",
    "unclear": "no change shown",
    "unfinished": "not finished",
    "failed": "stopped by an error",
    "trained": "not compared",
}


def write_report(
    paths: Sequence[Path], out: Path | None = None, *, title: str | None = None, show_samples: bool = True
) -> Path:
    """Write the page of runs, or of evaluations, and return its path.

    Without out it goes into the folder of a single run or evaluation, else into the present one.

    Raises:
        ConfigError: a folder that holds neither, runs beside evaluations, or an out that is a folder.
        RadError: a file that is broken. EnvironmentProblem: the disk is full.
    """
    folders = [Path(path) for path in paths]
    target = out or (folders[0] / PAGE if len(folders) == 1 else Path(PAGE))
    if target.is_dir():
        raise ConfigError(f"{target}: it is a folder; a report is one file; write --out {target / PAGE}")
    evaluated = [folder for folder in folders if (folder / EVAL).is_file()]
    if evaluated and len(evaluated) < len(folders):
        raise ConfigError(
            f"{evaluated[0]}: it is an evaluation, and others are not; a page shows runs or evaluations; make"
            " one page of each kind"
        )
    if evaluated:
        page = render_evaluations(
            [read_evaluation(*item) for item in zip(folders, labels(folders), strict=True)],
            title,
            show_samples,
        )
    else:
        page = render_runs(read_runs(folders), title, show_samples)
    with explained(target, "nothing was changed"):
        target.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(target, page)
    return target


def render_runs(records: Sequence[RunRecord], title: str | None = None, show_samples: bool = True) -> str:
    """The page of runs as text. Raises RadError when held-out answers of a run do not match."""
    return _fill("runs.html", title or _title(records), show_samples, **_content(records, show_samples))


def render_evaluations(
    evaluations: Sequence[Evaluation], title: str | None = None, show_samples: bool = True
) -> str:
    """The page of evaluations as text. Raises RadError when one lacks what its shape promises."""
    with styled():
        found = [content(item, place) for place, item in enumerate(evaluations)]
    names = ", ".join(sorted({str(item["profile"]["name"]) for item in found}))
    return _fill("evaluation.html", title or f"{names}: evaluation", show_samples, evaluations=found)


def render_study(
    title: str, lead: str, charts: Sequence[tuple[str, str, Chart]], found: Sequence[tables.TextTable]
) -> str:
    """The page of a study as text: its charts (name, how to read it, drawing) and tables."""
    return _fill("study.html", title, False, lead=lead, charts=charts, tables=found)


def _fill(template: str, title: str, show_samples: bool, **values: Any) -> str:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined  # noqa: PLC0415 - not for --help
    from markupsafe import Markup  # noqa: PLC0415

    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    # What this package draws and writes itself is markup; nothing that comes from a run ever is.
    environment.filters["drawing"] = lambda chart: Markup(chart.svg)
    environment.filters |= {"clean": samples.clean, "number": number, "apart": apart}
    style = (_TEMPLATES / "style.css").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return environment.get_template(template).render(
        title=title,
        style=Markup(style),
        policy=f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'",
        made=datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
        versions=versions(),
        show_samples=show_samples,
        **values,
    )


def _title(records: Sequence[RunRecord]) -> str:
    names = sorted({record.profile.name for record in records})
    kind = "a training run" if len(records) == 1 else f"{len(records)} training runs"
    return f"{', '.join(names)}: {kind} under a risk profile"


def _content(records: Sequence[RunRecord], show_samples: bool) -> dict[str, Any]:
    costs = [sections.costs_of(record) for record in records]
    found = [one for one in costs if one]
    with styled():
        profiles = [
            _profile(place, profile, held, _values(records, profile))
            for place, (profile, held) in enumerate(_by_profile(records))
        ]
        return {
            "overview": standing.overview(records) if len(records) > 1 else None,
            "runs": [_run(record, held, show_samples) for record, held in zip(records, costs, strict=True)],
            "profiles": profiles,
            "costs": sections.cost_rows(found),
            "sides": {side for one in found for side in one.cost}
            | {"reference" for one in found if one.reference_n is not None},
            "changes": sections.change_rows(records),
            "steps": sections.step_rows(records),
            "numbers": tables.side_by_side(records, "rows"),
            "controls": tables.side_by_side(records, "controls"),
            "alike": len(profiles) == 1,
        }


def _by_profile(records: Sequence[RunRecord]) -> list[tuple[RiskProfile, list[str]]]:
    """Each profile once, with the labels of its runs."""
    found: dict[str, tuple[RiskProfile, list[str]]] = {}
    for record in records:
        found.setdefault(record.profile.hash, (record.profile, []))[1].append(record.label)
    return list(found.values())


def _values(records: Sequence[RunRecord], profile: RiskProfile) -> dict[str, tuple[float, ...]]:
    """The values of the costs that have few of them, by the cost's name."""
    held = [record.reference.costs for record in records if record.profile == profile and record.reference]
    names = dict.fromkeys(name for costs in held for name in costs)
    return {name: few_values(*(costs[name] for costs in held if name in costs)) for name in names}


def _discrete(constraint: Constraint, seen: Sequence[float]) -> list[str]:
    values = constraint.values or seen
    if not values:
        return []
    return [words.sentence(meaning(FORMS[constraint.settings.form].spectrum(constraint.risk), values))]


def _profile(
    place: int, profile: RiskProfile, held_by: list[str], values: Mapping[str, Sequence[float]]
) -> dict[str, Any]:
    several = len(profile.constraints) > 1
    return {
        "name": profile.name,
        "description": profile.description,
        "labels": held_by,
        "risk": str(profile.risk),
        "constraints": [
            {
                "name": constraint.name if several else None,
                "risk": str(constraint.risk),
                "formula": constraint.risk.formula,
                "words": [
                    f"The risk is {words.bounded(constraint.risk)}.",
                    *words.strictness(constraint),
                    *_discrete(constraint, values.get(cost_name(profile, constraint), ())),
                ],
                "spectrum": draw_spectrum(constraint.risk, f"spectrum-{place}-{index}"),
            }
            for index, constraint in enumerate(profile.constraints)
        ],
        "warnings": profile.warnings,
        "yaml": redact(profile.to_yaml()),
    }


def _run(record: RunRecord, costs: sections.Costs | None, show_samples: bool) -> dict[str, Any]:
    """One run for the template; every text of it is escaped there."""
    summary = record.summary or {}
    kind = standing.standing(record)
    return {
        "label": record.label,
        "profile": record.profile.name,
        "standing": kind,
        "badge": _BADGES[kind],
        "headline": standing.headline(record),
        "verdict": summary.get("verdict", []),
        "warnings": summary.get("warnings", []),
        "notes": record.notes,
        "error": redact(record.error) if record.error else None,
        "rows": tables.lines(summary.get("rows", [])),
        "controls": tables.lines(summary.get("controls", [])),
        "interval": summary.get("interval"),
        "values": [
            *([tables.quantile_values(costs.paired)] if costs and costs.paired else []),
            *tables.step_values(record),
        ],
        "samples": samples.groups(record) if show_samples else [],
        "facts": _facts(record),
        "command": redact_command(record.command).replace(" --", " \\\n  --") if record.command else None,
        "versions": summary.get("versions", {}),
    }


def _facts(record: RunRecord) -> dict[str, str]:
    """How the run was made, less the command."""
    seconds = sum(row.get("seconds_step") or 0.0 for row in record.metrics)
    facts = {
        "Folder": str(record.path.resolve()),
        "Profile": f"{record.profile.name}, hash {record.profile.hash}",
        "Seed": record.seed,
        "Steps": str(len(record.metrics)),
        "Time in steps": f"{seconds / 60:.1f} min",
    }
    if record.began:
        facts["Began"] = record.began.strftime("%Y-%m-%d %H:%M:%S %Z")
    if record.written:
        facts["Last record"] = record.written.strftime("%Y-%m-%d %H:%M:%S %Z")
    if record.summary:
        facts["Held out"] = f"{record.summary['answers']} answers to {record.summary['prompts']} prompts"
    return facts
