"""The pictures of runs and evaluations, as PNG and SVG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from openrlhf_rad.errors import ConfigError
from openrlhf_rad.evaluation.folder import PLOTS
from openrlhf_rad.files import explained
from openrlhf_rad.method.spectrum import Spectrum, make_spectrum
from openrlhf_rad.profile import Constraint, RiskProfile
from openrlhf_rad.profile.check import ONLY
from openrlhf_rad.report.charts import column
from openrlhf_rad.report.quantiles import bare, curves, of_evaluation
from openrlhf_rad.runs.folder import REFERENCE, RunFolder
from openrlhf_rad.runs.records import Answer
from openrlhf_rad.statistics.curves import Curve
from openrlhf_rad.style import (
    AFTER,
    BEFORE,
    OTHERS,
    WEIGHT,
    draw_curve,
    histogram_edges,
    new_figure,
    save,
    shade,
    styled,
)
from openrlhf_rad.style import REFERENCE as REFERENCE_STYLE
from openrlhf_rad.words import number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Array = NDArray[np.float64]
#: A curve, its style and what it is.
Drawn = tuple[Curve, dict[str, Any], str]
_COST = "cost (own unit; higher is more harmful)"
_LEVELS = (np.arange(400) + 0.5) / 400
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
            for place, one in enumerate(profile.constraints):
                name = f"training-{one.name}" if place else "training"
                figure = draw_training(_columns_of(metrics, one.name if place else None), profile.name, one)
                written += save(figure, folder.plots / name)
        if folder.answered:
            before, after = folder.read_answers("before"), folder.read_answers("after")
            reference = folder.read_reference().cost_r if (folder.path / REFERENCE).exists() else None
            written += save(draw_run_quantiles(before, after, reference, profile), folder.plots / "quantiles")
            written += save(draw_costs(before, after, profile), folder.plots / "costs")
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
    return _quantile_figure(drawn, f"{profile.name}: cost by quantile, held out", 0.95, risk=profile.risk)


def _quantile_figure(
    drawn: Sequence[Drawn],
    title: str,
    confidence: float,
    *,
    risk: Spectrum | None = None,
    threshold: float | None = None,
) -> Figure:
    """Quantile curves with simultaneous bands, whole and upper fifth; what a risk weighs is shaded."""
    figure = new_figure(8.4, 4.1)
    whole, tail = figure.subplots(1, 2, width_ratios=[3, 2])
    for axes, low in ((whole, 0.0), (tail, 0.8)):
        if risk is not None:
            shade(axes, risk, (low, 1.0))
            axes.axvspan(low, low, color=WEIGHT, alpha=0.4, linewidth=0, label="what the risk weighs")
        for curve, style, label in drawn:
            draw_curve(axes, curve, style, low=low, label=label)
        if threshold is not None:
            axes.axhline(threshold, color="black", linewidth=0.9, label="safe up to here")
        axes.set_xlim(low, 1.0)
        axes.set_xlabel("share of answers that cost less")
    whole.set_ylabel(_COST)
    whole.set_title(title)
    _band_key(whole, confidence)
    tail.set_title("the upper fifth")
    whole.legend(loc="upper left")
    return figure


def draw_costs(before: Sequence[Answer], after: Sequence[Answer], profile: RiskProfile) -> Figure:
    """Histograms of the costs with a line at each CVaR 0.90."""
    figure = new_figure(6.4, 3.9)
    axes = figure.subplots()
    costs = [np.array([row["cost"] for row in rows]) for rows in (before, after)]
    edges = histogram_edges(np.concatenate(costs)).tolist()
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


_CELLS = ("both\nsafe", "only the baseline\nsafe", "only the candidate\nsafe", "neither\nsafe", "overall")


def draw(data: Mapping[str, Any], folder: Path) -> list[Path]:
    """Draw everything into plots/, each as PNG and SVG; returns the paths."""
    out = folder / PLOTS
    with explained(out, "the numbers are in eval.json"):
        out.mkdir(parents=True, exist_ok=True)
    with styled():
        written = save(draw_quantiles(data), out / "quantiles")
        for place, bound in enumerate(data["constraints"]):
            if len(data["constraints"]) > 1 and bound["prompts"]:
                written += save(draw_quantiles(data, place), out / f"quantiles-{bound['name']}")
        written += save(draw_table_3(data), out / "table3")
        if any(pair["reward_wins"] for pair in data["comparisons"]):
            written += save(draw_figure_1(data), out / "figure1")
        for pair in data["comparisons"]:
            if pair["quantile_difference"]["level"]:
                stem = f"difference-{pair['baseline']}-{pair['candidate']}"
                written += save(draw_difference(data, pair), out / stem)
    return written


def draw_quantiles(data: Mapping[str, Any], constraint: int | None = None) -> Figure:
    """Cost by quantile of every model.

    Args:
        constraint: the place of one, to draw on its own prompts; by default the cost of the first on all.
    """
    held = [model if constraint is None else model["constraints"][constraint] for model in data["models"]]
    drawn: list[Drawn] = [
        (of_evaluation(row["quantiles"]), style, model["name"])
        for row, model, style in zip(held, data["models"], _styles(data["models"]), strict=True)
    ]
    name = "" if constraint is None else f" of {data['constraints'][constraint]['name']}"
    settings = data["settings"]
    return _quantile_figure(
        drawn, f"Cost{name} by quantile", settings["confidence"], threshold=settings["threshold"]
    )


def draw_difference(data: Mapping[str, Any], pair: Mapping[str, Any]) -> Figure:
    """Quantiles of the candidate less those of the baseline: below 0 candidate is safer."""
    figure = new_figure(6.4, 3.8)
    axes = figure.subplots()
    curve = of_evaluation(pair["quantile_difference"], "value")
    draw_curve(axes, curve, {"color": "black", "linewidth": 1.8})
    level_k, value_k = curve.level_k, curve.value_k
    axes.fill_between(
        level_k,
        value_k,
        0,
        where=list(value_k <= 0),
        color=AFTER["color"],
        alpha=0.3,
        linewidth=0,
        interpolate=True,
        label=f"{pair['candidate']} safer",
    )
    axes.fill_between(
        level_k,
        value_k,
        0,
        where=list(value_k >= 0),
        color=BEFORE["color"],
        alpha=0.3,
        linewidth=0,
        interpolate=True,
        label=f"{pair['baseline']} safer",
    )
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set_xlim(0, 1)
    axes.set_xlabel("quantile of the cost")
    axes.set_ylabel(f"cost of {pair['candidate']}\nless that of {pair['baseline']}")
    axes.set_title(f"{pair['baseline']} vs {pair['candidate']}: difference by quantile")
    _band_key(axes, data["settings"]["confidence"])
    axes.legend(loc="best")
    return figure


def draw_table_3(data: Mapping[str, Any]) -> Figure:
    """Dominance differences of all pairs with their intervals."""
    pairs = list(data["comparisons"])
    figure = new_figure(7.2, 1.5 + 0.5 * len(pairs))
    axes = figure.subplots()
    row_p = np.arange(len(pairs))[::-1]
    kinds = (
        ("weighted", "weighted: fall of the risk", 0.14, "o", AFTER["color"]),
        ("unweighted", "unweighted: fall of the mean", -0.14, "s", "#555555"),
    )
    for kind, label, shift, marker, color in kinds:
        held = [pair["dominance"][kind] for pair in pairs]
        value_p = np.array([one["value"] for one in held])
        reach = np.array(
            [
                [one["value"] - (one["value"] if one["low"] is None else one["low"]) for one in held],
                [(one["value"] if one["high"] is None else one["high"]) - one["value"] for one in held],
            ]
        )
        axes.errorbar(value_p, row_p + shift, xerr=reach, fmt=marker, color=color, capsize=3, label=label)
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set_yticks(row_p, [f"{pair['baseline']} vs {pair['candidate']}" for pair in pairs])
    axes.set_ylim(-0.6, len(pairs) - 0.4)
    axes.set_xlabel("dominance difference (cost units); positive: the second model is safer")
    axes.set_title(f"Table 3, {data['profile']['risk']}, {_sure(data)} intervals")
    figure.legend(loc="outside lower center", ncols=2)
    return figure


def draw_figure_1(data: Mapping[str, Any]) -> Figure:
    """Reward win rates of the candidate by safety outcome; a cell says rate and count."""
    from matplotlib.colors import LinearSegmentedColormap  # noqa: PLC0415 - as late as all of matplotlib

    pairs = [pair for pair in data["comparisons"] if pair["reward_wins"]]
    figure = new_figure(7.6, 1.5 + 0.62 * len(pairs))
    axes = figure.subplots()
    rate_pc = np.array(
        [[np.nan if cell["rate"] is None else cell["rate"] for cell in pair["reward_wins"]] for pair in pairs]
    )
    colours = LinearSegmentedColormap.from_list("pair", [BEFORE["color"], "#f7f7f7", AFTER["color"]])
    shown = axes.imshow(rate_pc, cmap=colours, vmin=0, vmax=1, aspect="auto")
    for row, pair in enumerate(pairs):
        for place, cell in enumerate(pair["reward_wins"]):
            rate = cell["rate"]
            dark = rate is not None and abs(rate - 0.5) > 0.3
            text = "none" if rate is None else f"{rate:.0%}\nof {cell['count']:,}"
            axes.text(
                place, row, text, ha="center", va="center", fontsize=9, color="white" if dark else "black"
            )
    axes.set_xticks(range(5), _CELLS)
    axes.set_yticks(range(len(pairs)), [f"{pair['baseline']} vs {pair['candidate']}" for pair in pairs])
    axes.tick_params(length=0)
    axes.grid(False)
    axes.axvline(3.5, color="white", linewidth=4)
    axes.set_title("How often the reward of the candidate (second) is higher, by which answers are safe")
    bar = figure.colorbar(shown, ax=axes, shrink=0.9, ticks=[0, 0.5, 1])
    bar.ax.set_yticklabels(["0 %", "50 %", "100 %"])
    return figure


def _band_key(axes: Axes, confidence: float) -> None:
    """What bands mean, for the legend."""
    label = f"{100 * confidence:g} % band, all levels at once"
    axes.fill_between([], [], color="#777777", alpha=0.25, linewidth=0, label=label)


def _styles(models: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Orange for the baseline, blue for the candidate, the rest of the palette for the others."""
    others = cycle(OTHERS)
    own = {"baseline": BEFORE, "candidate": AFTER}
    return [own.get(model["role"]) or next(others) for model in models]


def _sure(data: Mapping[str, Any]) -> str:
    return f"{100 * data['settings']['confidence']:g} %"
