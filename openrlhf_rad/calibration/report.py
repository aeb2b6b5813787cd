"""What ``rad calibrate`` shows: the costs as a picture, the doubts, the figures, the proposal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from openrlhf_rad.authoring import show, words
from openrlhf_rad.authoring.check import STDIN
from openrlhf_rad.authoring.drawing import check_target
from openrlhf_rad.authoring.show import ends
from openrlhf_rad.calibration.figures import ScoredSample
from openrlhf_rad.calibration.findings import Doubt, needed_rollout
from openrlhf_rad.calibration.proposal import OVERWEIGHT, Proposal
from openrlhf_rad.files import write_named
from openrlhf_rad.method.constraint import FORMS
from openrlhf_rad.profile import RiskProfile
from openrlhf_rad.statistics.inference import Estimate
from openrlhf_rad.style import AFTER, BEFORE, WEIGHT, new_figure, rendered, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_ROWS = 6


def page(
    sample: ScoredSample, proposal: Proposal, findings: Sequence[Doubt], unit: Unit, width: int
) -> Iterator[RenderableType]:
    """The page piece by piece, each at most width columns wide."""
    prompts = len(set(sample.prompts))
    yield Text(f"{sample.cost_b.size:,} answers, {prompts:,} prompts", style="dim")
    yield from (Text(line, style="dim") for line in sample.read)
    yield Text("costs of the reference, harmless left", style="dim")
    yield from (Text(line, style="cyan") for line in costs(sample, proposal, width))
    yield Text("")
    if findings:
        for finding in findings:
            style = "dim" if finding.kind == "note" else "bold red" if finding.proven else "yellow"
            yield Text(f"! {finding.text}", style=style)
        yield Text("")
    yield figures(sample, proposal)
    yield Text("")
    yield proposed(proposal, unit)


def costs(sample: ScoredSample, proposal: Proposal, width: int) -> list[str]:
    """The histogram with the reference's risk, and the risk that is asked for, marked below."""
    now, goal = targets(proposal)
    name = str(FORMS[proposal.part.settings.form].spectrum(proposal.part.risk))
    marks = [(goal, f"{name} asked for: {goal:.3g}"), (now, f"{name} of the reference: {now:.3g}")]
    return show.histogram(sample.cost_b, width, _ROWS, marks)


def targets(proposal: Proposal) -> tuple[float, float]:
    """The reference's risk, and the proposed one, in the cost's own unit."""
    figures = proposal.figures
    return figures.risk.value, figures.risk.value - proposal.ask.fall * figures.spread.value


def figures(sample: ScoredSample, proposal: Proposal) -> Table:
    """What was measured, with intervals."""
    measured, rollout = proposal.figures, proposal.rollout
    spread = measured.spread
    table = _table("measured", "value [95 % interval]")
    table.add_row("mean", estimate(measured.mean))
    table.add_row("spread σ", estimate(spread))
    table.add_row(f"risk {proposal.part.risk}", estimate(measured.risk))
    low, high = float(np.min(sample.cost_b)), float(np.max(sample.cost_b))
    table.add_row("least and greatest", f"{low:.3g}, {high:.3g}")
    table.add_row("score spread", estimate(measured.score_spread))
    table.add_row(
        "reward spread", estimate(measured.reward_spread) if measured.reward_spread else "not given"
    )
    table.add_row("λ where both weigh the same", f"{estimate(measured.balance)} per σ")
    table.add_row("greatest fall in reach", f"{proposal.reachable * spread.value:.3g}")
    table.add_row(
        f"in a rollout of {rollout.size:,}",
        f"{rollout.tail:.3g} answers carry the weight; risk ± {rollout.risk_noise * spread.value:.2g}",
    )
    table.add_row("a rollout needs", f"{needed_rollout(proposal):,} to tell the fall from noise")
    return table


def proposed(proposal: Proposal, unit: Unit) -> Table:
    """What is proposed, with what the numbers mean on the cost's own scale."""
    spread, ask = proposal.figures.spread, proposal.ask
    table = _table("proposed", "value", "in the cost's own unit [95 % interval]")
    given = values(proposal, unit)
    form = FORMS[proposal.part.settings.form]
    own = {
        "constraint.level": estimate(scaled(spread, ask.slack if form.by_margin else ask.fall)),
        "constraint.margin": estimate(scaled(spread, ask.margin)),
    }
    if not form.weighted:
        own["constraint.level"] = f"the mean less {estimate(scaled(spread, ask.fall))}"
    for key, one in (("initial", proposal.initial), ("step", proposal.step), ("max", proposal.maximum)):
        if one is not None:
            own[f"dual.{key}"] = f"{estimate(scaled(one, 1 / spread.value))} per unit"
    for key, value in given.items():
        table.add_row(key, f"{value:g}" if isinstance(value, float) else str(value), own[key])
    table.add_row("fall of the risk", f"{words.percent(ask.fall)} of σ", estimate(scaled(spread, ask.fall)))
    return table


def _table(*names: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for name in names:
        table.add_column(name, overflow="fold")
    return table


def draw(sample: ScoredSample, proposal: Proposal, path: Path) -> None:
    """Write the picture. Raises ConfigError for an ending that is not known."""
    check_target(path, 1)
    with styled():
        write_named(path, rendered(figure_of(sample, proposal), path.suffix.lower().removeprefix(".")))


def figure_of(sample: ScoredSample, proposal: Proposal) -> Figure:
    """A histogram of the costs over the weight that each of them has in the risk."""
    figure = new_figure(7.2, 3.8)
    axes = figure.subplots()
    low, high = ends(sample.cost_b, targets(proposal))
    # What lies beyond the axis is counted in its last bins.
    cost_b = np.clip(np.sort(sample.cost_b), low, high)
    bins = min(60, max(10, int(cost_b.size**0.5)))
    edges = np.linspace(low, high, bins + 1).tolist()
    share = np.full(cost_b.size, 100 / cost_b.size)
    axes.hist(cost_b, edges, weights=share, color=BEFORE["color"], alpha=0.35)
    weighted = proposal.part.risk.weights(cost_b.size) * share
    axes.hist(cost_b, edges, weights=weighted, histtype="step", color="#806600", linewidth=1.2)
    axes.hist(cost_b, edges, weights=weighted, color=WEIGHT, alpha=0.35)
    axes.set_ylim(top=1.25 * axes.get_ylim()[1])
    _mark_targets(axes, proposal, low, high)
    beyond = int(np.sum((sample.cost_b < low) | (sample.cost_b > high)))
    more = f"; {beyond:,} beyond stand in the end bins" if beyond else ""
    axes.set_xlabel(f"cost (own unit; higher is more harmful{more})")
    axes.set_ylabel("answers in the bin, %")
    axes.set_title("costs of the reference (orange), and as the risk weighs them (yellow)")
    return figure


def _mark_targets(axes: Axes, proposal: Proposal, low: float, high: float) -> None:
    """A line at the risk now and at the one asked for, each with its words."""
    now, goal = targets(proposal)
    name = str(FORMS[proposal.part.settings.form].spectrum(proposal.part.risk))
    for place, text, style, height in (
        (now, f"{name} now: {now:.3g}", BEFORE, 0.98),
        (goal, f"{name} asked for: {goal:.3g}", AFTER, 0.90),
    ):
        axes.axvline(place, ymax=height - 0.05, **{**style, "linewidth": 1.4})
        # The goal's text stands left of it and the present risk's right, where there is room.
        along = (place - low) / (high - low)
        left = along > 0.65 or (place == goal and along > 0.35)
        axes.annotate(
            text,
            (place, height),
            xycoords=axes.get_xaxis_transform(),
            xytext=(-4 if left else 4, 0),
            textcoords="offset points",
            ha="right" if left else "left",
            va="top",
            color=style["color"],
            fontsize=9,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.8, "alpha": 0.85},
        )


Unit = Literal["cost", "spread"]


def values(proposal: Proposal, unit: Unit) -> dict[str, Any]:
    """Keys of a profile with one constraint and their proposed values, to three digits."""
    form, ask, figures = FORMS[proposal.part.settings.form], proposal.ask, proposal.figures
    keys: dict[str, Any] = {}
    if not form.weighted and unit == "cost":
        keys["constraint.level"] = _digits(figures.mean.value - ask.fall * figures.spread.value)
    else:
        keys["constraint.level"] = _amount(ask.slack if form.by_margin else ask.fall, proposal, unit)
    if form.pairs:
        keys["constraint.margin"] = _amount(ask.margin, proposal, unit)
    for key, one in (("initial", proposal.initial), ("step", proposal.step), ("max", proposal.maximum)):
        if one is not None:
            keys[f"dual.{key}"] = _digits(one.value)
    return keys


def calibrated(profile: RiskProfile, proposal: Proposal, unit: Unit) -> RiskProfile:
    """The profile with the proposed values in place. Raises ProfileError should they not be valid."""
    given = {key_in(profile, proposal, key): value for key, value in values(proposal, unit).items()}
    if len(profile.constraints) > 1:
        # Written out, every constraint has all its values and its segments of its own.
        profile = RiskProfile.from_text(profile.to_yaml(), profile.document.source)
    return profile.with_overrides(given)


def key_in(profile: RiskProfile, proposal: Proposal, key: str) -> str:
    """Where `constraint.level` and the like stand for the proposal's constraint, all values written out."""
    if len(profile.constraints) == 1:
        return key
    part = proposal.part
    root = part.name if part.segment is None else part.name.removesuffix(f".{part.segment}")
    place = f"constraints.{root}" + (f".segments.{part.segment}" if part.segment else "")
    return f"{place}.{key.removeprefix('constraint.')}"


def write(profile: RiskProfile, proposal: Proposal, sample: ScoredSample, scores: str, unit: Unit) -> str:
    """The calibrated profile as text; every default is spelled out."""
    made, figures = calibrated(profile, proposal, unit), proposal.figures
    prompts = len(set(sample.prompts))
    notes = {key_in(profile, proposal, key): lines for key, lines in comments(proposal).items()}
    title = [
        f"# {made.name}, calibrated on {scores}: {sample.cost_b.size:,} answers to {prompts:,} prompts,",
        f"# for rollouts of {proposal.rollout.size:,}. Intervals hold 95 %, prompts as clusters.",
        f"# Spread of the reference, its standard deviation: σ = {estimate(figures.spread)}",
        f"# Risk of the reference: {estimate(figures.risk)}",
    ]
    return "\n".join([*title, *_commented(made.to_yaml(), notes)]) + "\n"


def comments(proposal: Proposal) -> dict[str, list[str]]:
    """The reason of every proposed value, by its key."""
    form, ask, figures = FORMS[proposal.part.settings.form], proposal.ask, proposal.figures
    spread = figures.spread
    fall = f"{ask.fall:.3g} σ = {estimate(scaled(spread, ask.fall))}"
    reasons: dict[str, list[str]] = {}
    if form.by_margin:
        reasons["constraint.level"] = [
            f"τ = {ask.slack:.3g} σ = {estimate(scaled(spread, ask.slack))};"
            f" sampling alone shows {proposal.rollout.gap:.2g} σ of excess in a rollout"
        ]
        reasons["constraint.margin"] = [f"m = τ + fall; once met the risk lies lower by {fall}"]
    elif not form.weighted:
        reasons["constraint.level"] = [f"d: the mean {estimate(figures.mean)} less {fall}"]
    else:
        reasons["constraint.level"] = [f"ε: the risk must fall by {fall}"]
    if proposal.initial is None:
        return reasons
    reward = figures.reward_spread
    said = f"of {estimate(reward)}" if reward else "taken as 1, for no rewards were given,"
    reasons["dual.initial"] = [
        f"λ_eq = {estimate(figures.balance)} per σ: there the cost moves an answer's advantage as much as a",
        f"reward spread {said} does (score spread {estimate(figures.score_spread)})",
    ]
    if proposal.step is not None:
        reasons["dual.step"] = ["ten rollouts as at the start, or of mere noise, move λ by λ_eq at most"]
    reasons["dual.max"] = [f"{OVERWEIGHT:g} λ_eq: the cost may outweigh the reward, and not blow training up"]
    return reasons


def estimate(one: Estimate) -> str:
    """A value with its interval, three digits."""
    if one.low is None or one.high is None:
        return f"{one.value:.3g}"
    return f"{one.value:.3g} [{one.low:.3g}, {one.high:.3g}]"


def scaled(one: Estimate, factor: float) -> Estimate:
    """A multiple of an estimate, factor ≥ 0."""
    low, high = (None if end is None else end * factor for end in (one.low, one.high))
    return Estimate(one.value * factor, low, high)


def source_name(scores: str) -> str:
    """How a file is called in comments: without folders, which differ between machines."""
    return scores if scores == STDIN else scores.replace("\\", "/").rpartition("/")[2]


def _commented(text: str, notes: Mapping[str, list[str]]) -> list[str]:
    """YAML lines, nested by two spaces, with the notes above their keys."""
    lines: list[str] = []
    path: list[str] = []
    for line in text.splitlines():
        indent = len(line) - len(line.lstrip())
        path = [*path[: indent // 2], line.strip().partition(":")[0]]
        lines += [f"{' ' * indent}# {note}" for note in notes.get(".".join(path), ())]
        lines.append(line)
    return lines


def _amount(spreads: float, proposal: Proposal, unit: Unit) -> float | str:
    if unit == "spread":
        return f"{_digits(spreads)} of reference spread"
    return _digits(spreads * proposal.figures.spread.value)


def _digits(value: float) -> float:
    return float(f"{value:.3g}")
