"""The pictures of runs and evaluations, as PNG and SVG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from openrlhf_rad.errors import ConfigError
from openrlhf_rad.evaluation.folder import PLOTS
from openrlhf_rad.files import explained
from openrlhf_rad.method.spectrum import Spectrum, make_spectrum
from openrlhf_rad.naming import metric_scopes
from openrlhf_rad.profile import Constraint, RiskProfile
from openrlhf_rad.profile.check import ONLY
from openrlhf_rad.report import charts, evaluations
from openrlhf_rad.report.quantiles import bare, curves
from openrlhf_rad.report.steps import column
from openrlhf_rad.runs.folder import REFERENCE, RunFolder
from openrlhf_rad.runs.records import Answer
from openrlhf_rad.statistics.curves import Curve
from openrlhf_rad.style import (
    AFTER,
    BEFORE,
    WEIGHT,
    draw_curve,
    histogram_edges,
    new_figure,
    save,
    shade,
    styled,
)
from openrlhf_rad.style import REFERENCE as REFERENCE_STYLE
from openrlhf_rad.words import percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Array = NDArray[np.float64]
#: A curve, its style and what it is.
Drawn = tuple[Curve, dict[str, Any], str]
_COST = "cost (own unit; higher is more harmful)"
_CVAR = make_spectrum("cvar", alpha=0.9)


def plot_run(folder: RunFolder) -> list[Path]:
    """Draw what the files of a run allow, into plots/, each as PNG and SVG; returns the paths.

    Raises:
        ConfigError: the run has neither steps nor held-out answers. RadError: a broken file.
    """
    profile, metrics = folder.read_profile(), folder.read_metrics()
    if not metrics and not folder.answered:
        raise ConfigError(f"{folder.path}: it has neither steps nor held-out answers to draw; train first")
    with explained(folder.plots, "the run's records are intact"):
        folder.plots.mkdir(exist_ok=True)
    written: list[Path] = []
    with styled():
        if metrics:
            scopes = metric_scopes([one.name for one in profile.constraints])
            for place, one in enumerate(profile.constraints):
                name = f"training-{one.name}" if place else "training"
                figure = draw_training(_within(metrics, scopes[one.name]), profile.name, one)
                written += save(figure, folder.plots / name)
        if folder.answered:
            before, after = folder.read_answers("before"), folder.read_answers("after")
            reference = folder.read_reference().cost_r if (folder.path / REFERENCE).exists() else None
            written += save(draw_run_quantiles(before, after, reference, profile), folder.plots / "quantiles")
            with charts.styled():
                written += _costs(before, after, profile).save(folder.plots / "costs")
    return written


def draw_run_quantiles(
    before: Sequence[Answer], after: Sequence[Answer], reference_r: ArrayLike | None, profile: RiskProfile
) -> Figure:
    """Quantile curves before and after, and of the reference's answers to the training prompts."""
    found = curves(before, after)
    drawn: list[Drawn] = [
        (found.before, BEFORE, "before training"),
        (found.after, AFTER, "after training"),
    ]
    if reference_r is not None:
        drawn.insert(0, (bare(reference_r), REFERENCE_STYLE, "reference, training prompts"))
    return _quantile_figure(drawn, f"{profile.name}: cost by quantile, held out", 0.95, profile.risk)


def _quantile_figure(
    drawn: Sequence[Drawn],
    title: str,
    confidence: float,
    risk: Spectrum,
) -> Figure:
    """Quantile curves with simultaneous bands, whole and upper fifth; what the risk weighs is shaded."""
    figure = new_figure(8.4, 4.1)
    whole, tail = figure.subplots(1, 2, width_ratios=[3, 2])
    for axes, low in ((whole, 0.0), (tail, 0.8)):
        shade(axes, risk, (low, 1.0))
        axes.axvspan(low, low, color=WEIGHT, alpha=0.4, linewidth=0, label="what the risk weighs")
        for curve, style, label in drawn:
            draw_curve(axes, curve, style, low=low, label=label)
        axes.set_xlim(low, 1.0)
        axes.set_xlabel("share of answers that cost less")
    whole.set_ylabel(_COST)
    whole.set_title(title)
    _band_key(whole, confidence)
    tail.set_title("the upper fifth")
    whole.legend(loc="upper left")
    return figure


def _costs(before: Sequence[Answer], after: Sequence[Answer], profile: RiskProfile) -> charts.Chart:
    """Histograms of the costs with a line at each CVaR 0.90."""
    sides = {
        side: np.array([row["cost"] for row in rows]) for side, rows in (("before", before), ("after", after))
    }
    edges = histogram_edges(np.concatenate(list(sides.values())))
    tallest = max(float(charts.shares(cost_b, edges).max()) for cost_b in sides.values())
    marks = {side: _CVAR.risk(cost_b) for side, cost_b in sides.items()}
    title = f"{profile.name}: held-out answers; lines: CVaR 0.90"
    return charts.draw_histogram(sides, edges, tallest, marks, charts.Heading("costs", title))


def _within(metrics: Sequence[Mapping[str, Any]], scope: str) -> list[dict[str, Any]]:
    """The steps with the metrics of a constraint under plain names, and no others."""
    return [
        {"step": row["step"]}
        | {key.removeprefix(scope): value for key, value in row.items() if key.startswith(scope)}
        for row in metrics
    ]


def draw_training(metrics: Sequence[Mapping[str, Any]], name: str, part: Constraint) -> Figure:
    """λ, the constraint against its level, and the risk against the reference's, by step."""
    figure = new_figure(6.4, 6.2)
    price, constraint, risk = figure.subplots(3, 1, sharex=True)
    step_n = column(metrics, "step")
    marker = {"marker": "o", "markersize": 3.5} if len(metrics) <= 60 else {}
    price.plot(step_n, column(metrics, "lambda"), **AFTER, **marker)
    price.set_ylim(0, 1.08 * max(price.dataLim.y1, 0.1))
    price.set_ylabel("price λ\n(per spread)")
    which = "" if part.name == ONLY else f" {part.name}"
    price.set_title(f"{name}:{which} {part.risk}, constraint {part.settings.form}")
    value_n, violation_n = column(metrics, "constraint_value"), column(metrics, "violation")
    constraint.plot(step_n, value_n, label="batch", **AFTER, **marker)
    constraint.plot(step_n, column(metrics, "constraint_level"), label="level", **REFERENCE_STYLE)
    missed = violation_n > 0
    constraint.plot(step_n[missed], value_n[missed], "x", color="black", markersize=5, label="violated")
    constraint.set_ylabel("constraint value\n(cost units)")
    risk.plot(step_n, column(metrics, "risk"), label="policy, batch", **AFTER, **marker)
    risk.plot(step_n, column(metrics, "reference_risk"), label="reference", **REFERENCE_STYLE)
    risk.set_ylabel("risk ρ\n(cost units)")
    risk.set_xlabel("training step")
    risk.xaxis.get_major_locator().set_params(integer=True)
    for axes in (constraint, risk):
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    figure.align_ylabels()
    return figure


def draw(folder: Path) -> list[Path]:
    """Draw an evaluation into plots/, the charts of its page each as PNG and SVG; returns the paths."""
    out = folder / PLOTS
    with explained(out, "the numbers are in eval.json"):
        out.mkdir(parents=True, exist_ok=True)
    with charts.styled():
        evaluation = evaluations.read_evaluation(folder, folder.name)
        return [path for stem, chart in evaluations.saved(evaluation) for path in chart.save(out / stem)]


def _band_key(axes: Axes, confidence: float) -> None:
    """What bands mean, for the legend."""
    label = f"{percent(confidence)} band, all levels at once"
    axes.fill_between([], [], color="#777777", alpha=0.25, linewidth=0, label=label)
