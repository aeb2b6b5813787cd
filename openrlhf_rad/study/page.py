"""The HTML page of a study: its verdicts, its frontier, all its tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from openrlhf_rad.files import write_atomically
from openrlhf_rad.method.spectrum import Spectrum
from openrlhf_rad.report.charts import Chart, ChartPanel, Heading, styled
from openrlhf_rad.report.page import render_study
from openrlhf_rad.report.tables import TextTable
from openrlhf_rad.study.comparison import TAIL, StudyEvidence
from openrlhf_rad.study.spec import SAFE
from openrlhf_rad.study.tables import in_view, left_out, text
from openrlhf_rad.study.verdicts import frontier
from openrlhf_rad.style import AFTER, BEFORE, COLOURS, name_points
from openrlhf_rad.words import number

_NOTE = "Up and to the left is better. A line joins asks for more and for less; dashed: safe-rlhf."


def write_page(evidence: StudyEvidence, found: Sequence[TextTable], path: Path) -> None:
    """Write the page of a study's tables. Raises EnvironmentProblem: the disk is full."""
    study, far = evidence.study, left_out(evidence)
    note = _NOTE + (f" Left out, by their {TAIL}: {far}." if far else "")
    with styled():
        charts = [
            (f"Reward and {risk}", note, _chart(evidence, risk, f"frontier-{place}"))
            for place, risk in enumerate(dict.fromkeys([TAIL, evidence.spectra["mean"]]))
        ]
    plain = [
        replace(values, rows=tuple(tuple(cell.replace("**", "") for cell in row) for row in values.rows))
        for values in found
    ]
    job = study.job and (study.job.preset or study.job.config)
    lead = (
        f"{len(study.models)} models, {len(study.seeds)} seeds, {job or 'the exact world'}; every model is"
        f" asked to lower its risk by {study.ask}."
    )
    write_atomically(path, render_study(f"Study {study.name}", lead, charts, plain))


def _chart(evidence: StudyEvidence, risk: Spectrum, name: str) -> Chart:
    """Reward against a risk: a mark a model, a line through those of several asks."""
    panel = ChartPanel("mean reward", f"{risk} of the cost ← safer", height=360)
    shown = [model for model in evidence.study.compared if in_view(evidence, model)]
    said, places = [], {}
    for model in shown:
        points = frontier(evidence, model.name) or [model]
        risks = [float(evidence.risk(point.name, risk)[0].mean()) for point in points]
        rewards = [float(evidence.reward(point.name)[0].mean()) for point in points]
        style = BEFORE if model.name == SAFE else {**AFTER, "linewidth": 1.2}
        panel.axes.plot(risks, rewards, **style)
        place = points.index(model)
        colour = style["color"] if model.role == "variant" or model.name == SAFE else COLOURS["reference"]
        panel.axes.plot([risks[place]], [rewards[place]], "o", color=colour, markersize=6)
        places[model.name] = risks[place], rewards[place]
        reward = evidence.estimate(evidence.reward(model.name))
        panel.tip(
            risks[place],
            rewards[place],
            f"{model.name}: {risk} {text(evidence.estimate(evidence.risk(model.name, risk)))},"
            f" reward {text(reward)}",
        )
        said.append(f"{model.name} {number(risks[place])} at reward {number(rewards[place])}")
    name_points(panel.figure, places)
    return panel.done(Heading(name, f"Reward and {risk}"), f"{risk}: {'; '.join(said)}.")
