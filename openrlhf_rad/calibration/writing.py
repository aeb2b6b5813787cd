"""The calibrated profile as YAML, with the reason of every number as a comment above it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from openrlhf_rad.authoring.check import STDIN
from openrlhf_rad.calibration.figures import Sample
from openrlhf_rad.calibration.proposal import OVERWEIGHT, Proposal
from openrlhf_rad.method.constraint import FORMS
from openrlhf_rad.profile import RiskProfile
from openrlhf_rad.statistics.inference import Estimate

Unit = Literal["cost", "spread"]


def values(proposal: Proposal, unit: Unit) -> dict[str, Any]:
    """Keys of a profile with one constraint and their proposed values, to three digits."""
    form, ask, figures = FORMS[proposal.part.settings.form], proposal.ask, proposal.figures
    found: dict[str, Any] = {}
    if not form.weighted and unit == "cost":
        found["constraint.level"] = _digits(figures.mean.value - ask.fall * figures.spread.value)
    else:
        found["constraint.level"] = _amount(ask.slack if form.by_margin else ask.fall, proposal, unit)
    if form.pairs:
        found["constraint.margin"] = _amount(ask.margin, proposal, unit)
    for key, one in (("initial", proposal.initial), ("step", proposal.step), ("max", proposal.maximum)):
        if one is not None:
            found[f"dual.{key}"] = _digits(one.value)
    return found


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


def write(profile: RiskProfile, proposal: Proposal, sample: Sample, scores: str, unit: Unit) -> str:
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
    found: dict[str, list[str]] = {}
    if form.by_margin:
        found["constraint.level"] = [
            f"τ = {ask.slack:.3g} σ = {estimate(scaled(spread, ask.slack))};"
            f" sampling alone shows {proposal.rollout.gap:.2g} σ of excess in a rollout"
        ]
        found["constraint.margin"] = [f"m = τ + fall; once met the risk lies lower by {fall}"]
    elif not form.weighted:
        found["constraint.level"] = [f"d: the mean {estimate(figures.mean)} less {fall}"]
    else:
        found["constraint.level"] = [f"ε: the risk must fall by {fall}"]
    if proposal.initial is None:
        return found
    reward = figures.reward_spread
    said = f"of {estimate(reward)}" if reward else "taken as 1, for no rewards were given,"
    found["dual.initial"] = [
        f"λ_eq = {estimate(figures.balance)} per σ: there the cost moves an answer's advantage as much as a",
        f"reward spread {said} does (score spread {estimate(figures.score_spread)})",
    ]
    if proposal.step is not None:
        found["dual.step"] = ["ten rollouts as at the start, or of mere noise, move λ by λ_eq at most"]
    found["dual.max"] = [f"{OVERWEIGHT:g} λ_eq: the cost may outweigh the reward, and not blow training up"]
    return found


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
