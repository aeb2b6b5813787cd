"""The pictures of an evaluation, drawn from eval.json alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from openrlhf_rad.evaluation.folder import PLOTS
from openrlhf_rad.files import explained
from openrlhf_rad.runs.plot_style import new_figure, save, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Array = NDArray[np.float64]

# Okabe and Ito's palette, with a line style each.
_STYLES: list[dict[str, Any]] = [
    {"color": "#D55E00", "linestyle": "--", "linewidth": 1.8},
    {"color": "#0072B2", "linestyle": "-", "linewidth": 1.8},
    {"color": "#009E73", "linestyle": "-.", "linewidth": 1.8},
    {"color": "#CC79A7", "linestyle": ":", "linewidth": 2.0},
    {"color": "#E69F00", "linestyle": (0, (5, 1, 1, 1, 1, 1)), "linewidth": 1.8},
    {"color": "#56B4E9", "linestyle": (0, (1, 1)), "linewidth": 1.8},
]
_BETTER, _WORSE = "#0072B2", "#D55E00"
_CELLS = ("both\nsafe", "only red\nsafe", "only blue\nsafe", "neither\nsafe", "overall")


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
                stem = f"difference-{pair['red']}-{pair['blue']}"
                written += save(draw_difference(data, pair), out / stem)
    return written


def draw_quantiles(data: Mapping[str, Any], constraint: int | None = None) -> Figure:
    """Cost by quantile of every model with simultaneous bands, whole and upper fifth.

    Args:
        constraint: the place of one, to draw on its own prompts; by default the cost of the first on all.
    """
    figure = new_figure(8.4, 4.2)
    whole, tail = figure.subplots(1, 2, width_ratios=[3, 2])
    for axes, low in ((whole, 0.0), (tail, 0.8)):
        for model, style in zip(data["models"], _styles(data["models"]), strict=True):
            held = model if constraint is None else model["constraints"][constraint]
            _curve(axes, held["quantiles"], "cost", low=low, style=style, label=model["name"])
        axes.axhline(data["settings"]["threshold"], color="black", linewidth=0.9, label="safe up to here")
        axes.set_xlim(low, 1.0)
        axes.set_xlabel("share of answers that cost less")
    whole.set_ylabel("cost (own unit; higher is more harmful)")
    name = "" if constraint is None else f" of {data['constraints'][constraint]['name']}"
    whole.set_title(f"Cost{name} by quantile, {_sure(data)} bands")
    tail.set_title("the upper fifth")
    whole.legend(loc="upper left")
    return figure


def draw_difference(data: Mapping[str, Any], pair: Mapping[str, Any]) -> Figure:
    """Quantiles of blue less those of red: below 0 blue is safer."""
    figure = new_figure(6.4, 3.8)
    axes = figure.subplots()
    curve = pair["quantile_difference"]
    _curve(axes, curve, "value", style={"color": "black", "linewidth": 1.8})
    level_k, value_k = _array(curve["level"]), _array(curve["value"])
    axes.fill_between(
        level_k,
        value_k,
        0,
        where=list(value_k <= 0),
        color=_BETTER,
        alpha=0.3,
        linewidth=0,
        interpolate=True,
        label=f"{pair['blue']} safer",
    )
    axes.fill_between(
        level_k,
        value_k,
        0,
        where=list(value_k >= 0),
        color=_WORSE,
        alpha=0.3,
        linewidth=0,
        interpolate=True,
        label=f"{pair['red']} safer",
    )
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set_xlim(0, 1)
    axes.set_xlabel("quantile of the cost")
    axes.set_ylabel(f"cost of {pair['blue']}\nless that of {pair['red']}")
    axes.set_title(f"{pair['red']} vs {pair['blue']}: difference by quantile, {_sure(data)} band")
    axes.legend(loc="best")
    return figure


def draw_table_3(data: Mapping[str, Any]) -> Figure:
    """Dominance differences of all pairs with their intervals."""
    pairs = list(data["comparisons"])
    figure = new_figure(7.2, 1.5 + 0.5 * len(pairs))
    axes = figure.subplots()
    row_p = np.arange(len(pairs))[::-1]
    kinds = (
        ("weighted", "weighted: fall of the risk", 0.14, "o", _BETTER),
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
    axes.set_yticks(row_p, [f"{pair['red']} vs {pair['blue']}" for pair in pairs])
    axes.set_ylim(-0.6, len(pairs) - 0.4)
    axes.set_xlabel("dominance difference (cost units); positive: the second model is safer")
    axes.set_title(f"Table 3, {data['profile']['risk']}, {_sure(data)} intervals")
    figure.legend(loc="outside lower center", ncols=2)
    return figure


def draw_figure_1(data: Mapping[str, Any]) -> Figure:
    """Reward win rates of blue by safety outcome; a cell says rate and count."""
    pairs = [pair for pair in data["comparisons"] if pair["reward_wins"]]
    figure = new_figure(7.6, 1.5 + 0.62 * len(pairs))
    axes = figure.subplots()
    rate_pc = np.array(
        [[np.nan if cell["rate"] is None else cell["rate"] for cell in pair["reward_wins"]] for pair in pairs]
    )
    shown = axes.imshow(rate_pc, cmap="RdBu", vmin=0, vmax=1, aspect="auto")
    for row, pair in enumerate(pairs):
        for column, cell in enumerate(pair["reward_wins"]):
            rate = cell["rate"]
            dark = rate is not None and abs(rate - 0.5) > 0.3
            text = "none" if rate is None else f"{rate:.0%}\nof {cell['count']:,}"
            axes.text(
                column, row, text, ha="center", va="center", fontsize=9, color="white" if dark else "black"
            )
    axes.set_xticks(range(5), _CELLS)
    axes.set_yticks(range(len(pairs)), [f"{pair['red']} vs {pair['blue']}" for pair in pairs])
    axes.tick_params(length=0)
    axes.grid(False)
    axes.axvline(3.5, color="white", linewidth=4)
    axes.set_title("How often the reward of blue (second) is higher, by which answers are safe")
    bar = figure.colorbar(shown, ax=axes, shrink=0.9, ticks=[0, 0.5, 1])
    bar.ax.set_yticklabels(["0 %", "50 %", "100 %"])
    return figure


def _styles(models: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Orange for the red model, blue for the blue one, the rest of the palette for the others."""
    others = cycle(_STYLES[2:])
    own = {"red": _STYLES[0], "blue": _STYLES[1]}
    return [own.get(model["role"]) or next(others) for model in models]


def _curve(
    axes: Axes,
    curve: Mapping[str, Sequence[float | None]],
    name: str,
    *,
    low: float = 0.0,
    style: dict[str, Any],
    label: str | None = None,
) -> None:
    level_k = _array(curve["level"])
    shown = level_k >= low
    low_k, high_k = _array(curve["low"]), _array(curve["high"])
    bounded = shown & np.isfinite(low_k) & np.isfinite(high_k)
    axes.fill_between(
        level_k[bounded], low_k[bounded], high_k[bounded], color=style["color"], alpha=0.15, linewidth=0
    )
    axes.plot(level_k[shown], _array(curve[name])[shown], label=label, **style)


def _array(values: Sequence[float | None]) -> Array:
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)


def _sure(data: Mapping[str, Any]) -> str:
    return f"{100 * data['settings']['confidence']:g} %"
