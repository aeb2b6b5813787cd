"""Plots of a run: cost quantiles, cost histograms, and the course of the training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from openrlhf_rad.errors import ConfigError
from openrlhf_rad.files import explained
from openrlhf_rad.method.spectrum import Spectrum, make_spectrum
from openrlhf_rad.profile import Constraint, RiskProfile
from openrlhf_rad.profile.several import ONLY
from openrlhf_rad.runs.bootstrap import Sampling
from openrlhf_rad.runs.folder import HELD_OUT, REFERENCE, RunFolder
from openrlhf_rad.runs.plot_style import AFTER, BEFORE, WEIGHT, new_figure, save, styled
from openrlhf_rad.runs.plot_style import REFERENCE as REFERENCE_STYLE
from openrlhf_rad.runs.records import Answer
from openrlhf_rad.runs.summary import number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Array = NDArray[np.float64]

_COST = "cost (own unit; higher is more harmful)"
_LEVELS = (np.arange(400) + 0.5) / 400
_CVAR = make_spectrum("cvar", alpha=0.9)


def plot_run(folder: RunFolder) -> list[Path]:
    """Draw what the files of a run allow, into plots/, each as PNG and SVG; returns the paths.

    Raises:
        ConfigError: the run has neither steps nor held-out answers. RadError: a broken file.
    """
    profile, metrics = folder.read_profile(), folder.read_metrics()
    answered = all((folder.path / name).exists() for name in HELD_OUT.values())
    if not metrics and not answered:
        raise ConfigError(f"{folder.path}: it has neither steps nor held-out answers to draw; train first")
    with explained(folder.plots, "the run's records are intact"):
        folder.plots.mkdir(exist_ok=True)
    written: list[Path] = []
    with styled():
        if metrics:
            for place, one in enumerate(profile.constraints):
                name = f"training-{one.name}" if place else "training"
                figure = draw_training(_columns_of(metrics, one.name if place else None), profile.name, one)
                written += save(figure, folder.plots / name)
        if answered:
            before, after = folder.read_answers("before"), folder.read_answers("after")
            reference = folder.read_reference().cost_r if (folder.path / REFERENCE).exists() else None
            written += save(draw_quantiles(before, after, reference, profile), folder.plots / "quantiles")
            written += save(draw_costs(before, after, profile), folder.plots / "costs")
    return written


def draw_quantiles(
    before: Sequence[Answer], after: Sequence[Answer], reference_r: ArrayLike | None, profile: RiskProfile
) -> Figure:
    """Quantile curves with 95 % bands, whole and upper fifth; what the risk weighs is shaded."""
    figure = new_figure(8.0, 3.9)
    whole, tail = figure.subplots(1, 2, width_ratios=[3, 2])
    for axes, low in ((whole, 0.0), (tail, 0.8)):
        shown = low <= _LEVELS
        _shade(axes, profile.risk, low)
        if reference_r is not None:
            cost_n = np.quantile(np.asarray(reference_r, dtype=np.float64), _LEVELS, method="inverted_cdf")
            axes.plot(_LEVELS[shown], cost_n[shown], label="reference, training prompts", **REFERENCE_STYLE)
        for rows, style, label in ((before, BEFORE, "before training"), (after, AFTER, "after training")):
            value_n, low_n, high_n = _quantile_band(rows)
            axes.fill_between(
                _LEVELS[shown], low_n[shown], high_n[shown], color=style["color"], alpha=0.16, linewidth=0
            )
            axes.plot(_LEVELS[shown], value_n[shown], label=label, **style)
        axes.set_xlim(low, 1.0)
        axes.set_xlabel("share of answers that cost less")
    whole.set_ylabel(_COST)
    whole.set_title(f"{profile.name}: cost by quantile, held out")
    tail.set_title("the upper fifth")
    whole.legend(loc="upper left")
    return figure


def draw_costs(before: Sequence[Answer], after: Sequence[Answer], profile: RiskProfile) -> Figure:
    """Histograms of the costs with a line at each CVaR 0.90."""
    figure = new_figure(6.4, 3.9)
    axes = figure.subplots()
    costs = [np.array([row["cost"] for row in rows]) for rows in (before, after)]
    edges = _edges(np.concatenate(costs))
    for cost_b, style, label in ((costs[0], BEFORE, "before"), (costs[1], AFTER, "after")):
        share = np.full(cost_b.size, 100 / cost_b.size)
        tail = _CVAR.risk(cost_b)
        text = f"{label} training; line: CVaR 0.90 = {number(tail)}"
        axes.hist(cost_b, edges, weights=share, histtype="stepfilled", color=style["color"], alpha=0.22)
        axes.hist(cost_b, edges, weights=share, histtype="step", label=text, **style)
        axes.axvline(tail, ymax=0.74, **{**style, "linewidth": 1.4})
    axes.set_ylim(top=axes.get_ylim()[1] * 1.3)
    axes.set_xlabel(_COST)
    axes.set_ylabel("answers in the bin, %")
    axes.set_title(f"{profile.name}: costs of held-out answers")
    axes.legend(loc="upper right")
    return figure


def _columns_of(metrics: Sequence[Mapping[str, Any]], constraint: str | None) -> list[dict[str, Any]]:
    """The metrics of one of several constraints under plain names; None: the first, which has them so."""
    if constraint is None:
        return [dict(row) for row in metrics]
    prefix = f"{constraint}/"
    return [
        {"step": row["step"]}
        | {key.removeprefix(prefix): value for key, value in row.items() if key.startswith(prefix)}
        for row in metrics
    ]


def draw_training(metrics: Sequence[Mapping[str, Any]], name: str, part: Constraint) -> Figure:
    """λ, the constraint against its level, and the risk against the reference's, by step."""
    figure = new_figure(6.4, 6.2)
    price, constraint, risk = figure.subplots(3, 1, sharex=True)
    step_n = _column(metrics, "step")
    marker = {"marker": "o", "markersize": 3.5} if len(metrics) <= 60 else {}
    price.plot(step_n, _column(metrics, "lambda"), **AFTER, **marker)
    price.set_ylim(0, 1.08 * max(price.dataLim.y1, 0.1))
    price.set_ylabel("price λ\n(per spread)")
    which = "" if part.name == ONLY else f" {part.name}"
    price.set_title(f"{name}:{which} {part.risk}, constraint {part.settings.form}")
    value_n, violation_n = _column(metrics, "constraint_value"), _column(metrics, "violation")
    constraint.plot(step_n, value_n, label="batch", **AFTER, **marker)
    constraint.plot(step_n, _column(metrics, "constraint_level"), label="level", **REFERENCE_STYLE)
    missed = violation_n > 0
    constraint.plot(step_n[missed], value_n[missed], "x", color="black", markersize=5, label="violated")
    constraint.set_ylabel("constraint value\n(cost units)")
    risk.plot(step_n, _column(metrics, "risk"), label="policy, batch", **AFTER, **marker)
    risk.plot(step_n, _column(metrics, "reference_risk"), label="reference", **REFERENCE_STYLE)
    risk.set_ylabel("risk ρ\n(cost units)")
    risk.set_xlabel("training step")
    risk.xaxis.get_major_locator().set_params(integer=True)
    for axes in (constraint, risk):
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    figure.align_ylabels()
    return figure


def _shade(axes: Axes, spectrum: Spectrum, low: float) -> None:
    """Shade each quantile level by its weight in the risk, the heaviest of the panel most."""
    edges = np.linspace(low, 1.0, 101)
    weight_n = np.diff(spectrum.cumulative(edges))
    for left, right, share in zip(edges[:-1], edges[1:], weight_n / max(weight_n.max(), 1e-12), strict=True):
        if share > 0.01:
            axes.axvspan(left, right, color=WEIGHT, alpha=0.35 * share, linewidth=0, zorder=0)
    axes.axvspan(low, low, color=WEIGHT, alpha=0.35, linewidth=0, label="what the risk weighs")


def _quantile_band(rows: Sequence[Answer]) -> tuple[Array, Array, Array]:
    """Quantiles at _LEVELS with the ends of their 95 % intervals, shape (400,) each."""
    cost_b = np.array([row["cost"] for row in rows])
    found = []
    for draw in Sampling([row["prompt"] for row in rows], resamples=400).draws():
        ordered = draw.ordered(cost_b)
        found.append(np.stack([draw.quantile(ordered, level) for level in _LEVELS]))
    draw_n = np.concatenate(found, axis=1)
    low_n, high_n = np.quantile(draw_n[:, 1:], [0.025, 0.975], axis=1)
    return draw_n[:, 0], low_n, high_n


def _edges(cost_b: Array) -> list[float]:
    """Common bin edges: Freedman and Diaconis's width, held to 12 to 40 bins."""
    count = np.clip(len(np.histogram_bin_edges(cost_b, "fd")) - 1, 12, 40)
    return [float(edge) for edge in np.histogram_bin_edges(cost_b, int(count))]


def _column(metrics: Sequence[Mapping[str, Any]], name: str) -> Array:
    return np.array([np.nan if row.get(name) is None else row[name] for row in metrics], dtype=np.float64)
