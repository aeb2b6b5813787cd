"""The charts with a row a thing: intervals around 0, the rules of a gate, bars of shares, stacked ratings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from openrlhf_rad.report.charts import Chart, ChartPanel, Estimated, Heading, Limits, Style, limits
from openrlhf_rad.style import COLOURS
from openrlhf_rad.words import number, percent


def draw_changes(
    rows: Sequence[tuple[str, Estimated]], unit: str, span: Limits | None, heading: Heading
) -> Chart:
    """Changes with their 95 % intervals, one line each; in colour where the interval excludes 0."""
    panel = ChartPanel.of_rows([label for label, _ in rows], unit, 25.0)
    panel.axes.grid(True, axis="x")
    panel.axes.axvline(0, color=COLOURS["ink"], linewidth=1)
    for place, (_, change) in enumerate(rows):
        low, high = change["low"], change["high"]
        clear = low is not None and (low > 0 or high < 0)
        _interval(panel, place, change, COLOURS["after" if clear else "reference"])
    ends = [row[key] for _, row in rows for key in ("value", "low", "high") if row[key] is not None]
    panel.axes.set_xlim(span or limits([ends], zero=True))
    panel.axes.locator_params(axis="x", nbins=5)
    text = "; ".join(f"{label}: {number(change['value'])}" for label, change in rows)
    return panel.done(heading, f"{text}.")


_OUTCOMES = {"pass": "good", "fail": "bad", "inconclusive": "reference"}


def draw_rulings(rulings: Sequence[Mapping[str, Any]], heading: Heading) -> Chart | None:
    """The rules of a gate as bars: estimate, interval, and the limit that the bar must not cross.

    None where no rule has an estimate.
    """
    shown = [ruling for ruling in rulings if ruling["change"] is not None]
    if not shown:
        return None
    labels = [ruling["rule"] + (f", {ruling['segment']}" if ruling["segment"] else "") for ruling in shown]
    panel = ChartPanel.of_rows(labels, "candidate − baseline, cost: ← safer", 34.0)
    keys = ("change", "low", "high", "limit")
    ends = [ruling[key] for ruling in shown for key in keys if ruling[key] is not None]
    panel.axes.set_xlim(limits([ends], zero=True, room=0.1))
    panel.axes.axvline(0, color=COLOURS["muted"], linewidth=1)
    for place, ruling in enumerate(shown):
        left, limit = panel.axes.get_xlim()[0], ruling["limit"]
        panel.axes.barh(place, limit - left, 0.72, left, color=COLOURS["good"], alpha=0.14, linewidth=0)
        panel.axes.plot([limit] * 2, [place - 0.36, place + 0.36], color=COLOURS["ink"], linewidth=2)
        panel.tip(limit, place, ruling["asked"])
        # A rule on quantiles has one bound: its bar begins at the estimate.
        low = ruling["change"] if ruling["low"] is None else ruling["low"]
        held = {"value": ruling["change"], "low": low, "high": ruling["high"]}
        _interval(panel, place, held, COLOURS[_OUTCOMES[ruling["outcome"]]])
    panel.axes.locator_params(axis="x", nbins=5)
    return panel.done(heading, "; ".join(f"{one['outcome']}, {one['line']}" for one in shown) + ".")


def draw_bars(
    groups: Sequence[tuple[str, Mapping[str, Estimated | None]]],
    styles: Mapping[str, Style],
    below: str,
    heading: Heading,
    *,
    middle: bool = False,
) -> Chart:
    """Shares as bars with their intervals, a bar a model in each group; middle: a line at one half."""
    rows = [(label, name, held) for label, models in groups for name, held in models.items()]
    width = len(rows) / max(len(groups), 1)
    panel = ChartPanel.of_rows([""] * len(rows), below, 36.0 if width == 1 else 24.0)
    # A group's label stands in its middle.
    panel.axes.set_yticks(
        [(place + 0.5) * width - 0.5 for place in range(len(groups))], [label for label, _ in groups]
    )
    for place, (label, name, held) in enumerate(rows):
        value = None if held is None else held["value"]
        panel.axes.barh(place, 100, 0.66, color=COLOURS["line"], alpha=0.6)
        panel.axes.barh(place, 100 * (value or 0), 0.66, color=styles[name]["color"])
        end = 100 * (value or 0)
        if held is not None and held["low"] is not None:
            ends = [100 * held["low"], 100 * held["high"]]
            panel.axes.plot(ends, [place, place], color=COLOURS["ink"], linewidth=1.4)
            end = max(end, ends[1])
        words = "none" if value is None else percent(value)
        panel.axes.annotate(words, (102, place), va="center", annotation_clip=False)
        panel.tip(50, place, f"{label}, {name}: {words}")
    if middle:
        panel.axes.axvline(50, color=COLOURS["ink"], linewidth=1)
    for name, look in styles.items():
        if any(one == name for _, one, _ in rows):
            panel.axes.barh([0], [0], color=look["color"], label=name)
    panel.axes.set_xlim(0, 100)
    panel.axes.set_xticks([0, 50, 100])
    told = (
        f"{label}, {name}: {percent(held['value'])}"
        for label, name, held in rows
        if held and held["value"] is not None
    )
    return panel.done(heading, f"{'; '.join(told)}.")


def draw_ratings(
    models: Mapping[str, Mapping[str, Any]], styles: Mapping[str, Style], heading: Heading
) -> Chart:
    """Shares of answers by rating, stacked; the more harmful a rating, the stronger the model's colour."""
    panel = ChartPanel.of_rows(list(models), "answers, %; stronger is more harmful", 44.0)
    for place, (name, held) in enumerate(models.items()):
        left = 0.0
        for k, (cost, share) in enumerate(zip(held["cost"], held["share"], strict=True)):
            strength = 0.12 + 0.88 * k / (len(held["cost"]) - 1)
            look: Any = {"color": styles[name]["color"], "alpha": strength, "linewidth": 0}
            panel.axes.barh(place, 100 * share, 0.7, 100 * left, **look)
            if share >= 0.07:
                ink = "#ffffff" if strength > 0.6 else COLOURS["ink"]
                panel.axes.text(
                    100 * (left + share / 2), place, number(cost), color=ink, ha="center", va="center"
                )
            panel.tip(100 * (left + share / 2), place, f"{name}: {percent(share)} cost {number(cost)}")
            left += share
    panel.axes.set_xlim(0, 100)
    panel.axes.set_xticks([0, 50, 100])
    told = (
        f"{name}: "
        + ", ".join(
            f"{percent(s)} cost {number(c)}" for c, s in zip(held["cost"], held["share"], strict=True)
        )
        for name, held in models.items()
    )
    return panel.done(heading, f"{'; '.join(told)}.")


def _interval(panel: ChartPanel, place: int, held: Estimated, colour: str) -> None:
    """An estimate and its interval in a row."""
    value, low, high = held["value"], held["low"], held["high"]
    if low is not None and high is not None:
        panel.axes.plot([low, high], [place] * 2, color=colour, linewidth=2.6, solid_capstyle="round")
    panel.axes.plot([value], [place], "o", color=colour, markersize=7)
    panel.tip(
        value,
        place,
        number(value) + ("" if low is None or high is None else f" [{number(low)}, {number(high)}]"),
    )
