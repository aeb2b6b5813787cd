"""What the hypotheses of docs/evidence.md come to: confirmed, refuted, or cannot say, variant by variant.

The rules are those of the page, fixed before any run. A hypothesis that compares models is not confirmed by
models whose slacks differ by more than is allowed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from openrlhf_rad.statistics.inference import Estimate
from openrlhf_rad.study.comparison import TAIL, StudyEvidence
from openrlhf_rad.study.exact import OTHER
from openrlhf_rad.study.spec import SAFE, START, Model

Array = NDArray[np.float64]
Verdict = Literal["confirmed", "refuted", "cannot say"]
#: Margins: of a reward, in spreads of the start's; of a risk, in σ₀; of slacks, in σ₀, exact and of batches.
REWARD_MARGIN, RISK_MARGIN, SLACK, BATCH_SLACK = 0.1, 0.05, 0.1, 0.15
CLAIMS = {
    "H1": "lowers its own risk against sft",
    "H1, paper": "the same of the paper's own form and gradient",
    "H2": "lower CVaR 0.9 than safe-rlhf at equal ε and no lower reward",
    "H2, paper": "the same of the paper's own form and gradient",
    "H2′": "lower CVaR 0.9 than safe-rlhf at equal reward",
    "H3": "best or tied in its own measure",
    "H4": "no worse than safe-rlhf in CVaR 0.9 out of distribution",
    "H5": "leave-one-out feasible in fewer steps than tilted",
}


@dataclass(frozen=True)
class HypothesisFinding:
    """One hypothesis for one variant.

    Attributes:
        figures: what was measured, by name. note: what the verdict hung on.
    """

    hypothesis: str
    variant: str
    verdict: Verdict
    figures: Mapping[str, Estimate]
    note: str = ""


def findings(evidence: StudyEvidence) -> list[HypothesisFinding]:
    """All of them, by hypothesis and variant."""
    variants, papers = judged(evidence), by_the_paper(evidence)
    tails = [model for model in variants if tail_weighted(model)]
    found = [_own_risk(evidence, model) for model in [*variants, *papers]]
    if any(model.name == SAFE for model in evidence.study.models):
        found += [_equal_ask(evidence, model) for model in [*tails, *filter(tail_weighted, papers)]]
        if frontier(evidence, SAFE):
            found += [_equal_reward(evidence, model) for model in tails]
        if OTHER in evidence.sets:
            found += [_elsewhere(evidence, model) for model in tails]
    if len(variants) > 1:
        found += [_own_best(evidence, model, variants) for model in variants]
    found += _feasible(evidence)
    return sorted(found, key=lambda one: list(CLAIMS).index(one.hypothesis))


def judged(evidence: StudyEvidence) -> list[Model]:
    """The variants that take part: those with a coherent risk, less the paper's, which are judged apart."""
    return [
        model for model in evidence.study.of("variant") if model.profile.risk.coherent and not _paper(model)
    ]


def by_the_paper(evidence: StudyEvidence) -> list[Model]:
    """The variants with the paper's own form."""
    return [model for model in evidence.study.of("variant") if _paper(model)]


def _paper(model: Model) -> bool:
    return model.profile.constraint.form == "improvement"


def tail_weighted(model: Model) -> bool:
    """Whether its spectrum weighs the upper half of costs more than the lower."""
    return float(model.profile.risk.cumulative(0.5)) < 0.5 - 1e-9


def overall(found: Sequence[HypothesisFinding]) -> tuple[Verdict, str]:
    """A hypothesis on several variants: confirmed by all, refuted by one; and how many stand where."""
    words = "confirmed", "refuted", "cannot say"
    count = {word: sum(one.verdict == word for one in found) for word in words}
    told = ", ".join(f"{word} for {number}" for word, number in count.items() if number)
    if count["refuted"]:
        return "refuted", told
    return ("confirmed" if count["confirmed"] == len(found) else "cannot say"), told


def frontier(evidence: StudyEvidence, name: str) -> list[Model]:
    """A model at every multiple of the ask, the least first; none where it has no frontier."""
    points = [model for model in evidence.study.of("frontier") if model.name.partition("×")[0] == name]
    return sorted([*points, evidence.study.model(name)], key=lambda one: one.multiple) if points else []


def _own_risk(evidence: StudyEvidence, model: Model) -> HypothesisFinding:
    risk = model.profile.risk
    fallen = evidence.estimate(evidence.risk(START, risk) - evidence.risk(model.name, risk))
    return HypothesisFinding(
        "H1, paper" if _paper(model) else "H1", model.name, _beyond(fallen, 0.0, wanted=1), {"fall": fallen}
    )


def _equal_ask(evidence: StudyEvidence, model: Model) -> HypothesisFinding:
    tail = evidence.estimate(evidence.risk(model.name, TAIL) - evidence.risk(SAFE, TAIL))
    reward = evidence.estimate(evidence.reward(model.name) - evidence.reward(SAFE))
    margin = REWARD_MARGIN * evidence.reward_unit
    lower = _beyond(tail, 0.0, wanted=-1)
    helpful = _beyond(reward, -margin, wanted=1)
    verdict: Verdict = "confirmed" if lower == helpful == "confirmed" else "cannot say"
    verdict = "refuted" if "refuted" in (lower, helpful) else verdict
    figures = {"CVaR 0.9": tail, "reward": reward}
    name = "H2, paper" if _paper(model) else "H2"
    return _with_slack(evidence, HypothesisFinding(name, model.name, verdict, figures))


def _equal_reward(evidence: StudyEvidence, model: Model) -> HypothesisFinding:
    points = frontier(evidence, SAFE)
    reward_mrs = np.stack([evidence.reward(point.name) for point in points])
    tail_mrs = np.stack([evidence.risk(point.name, TAIL) for point in points])
    reward_rs, tail_rs = evidence.reward(model.name), evidence.risk(model.name, TAIL)
    inside_s = (reward_rs[0] >= reward_mrs[:, 0].min(axis=0)) & (reward_rs[0] <= reward_mrs[:, 0].max(axis=0))
    middle_rs = np.empty_like(reward_rs)
    for place in np.ndindex(*reward_rs.shape):
        order = np.argsort(reward_mrs[:, *place])
        middle_rs[place] = np.interp(reward_rs[place], reward_mrs[order, *place], tail_mrs[order, *place])
    note = f"{int(inside_s.sum())} of {inside_s.size} seeds within safe-rlhf's rewards"
    if not inside_s.all():
        # Beyond the ends there is nothing to interpolate: those seeds are left out, and too few say nothing.
        if 2 * inside_s.sum() < inside_s.size or inside_s.sum() < 2:
            return HypothesisFinding("H2′", model.name, "cannot say", {}, note)
        left = (tail_rs - middle_rs)[:1, inside_s]
        difference = evidence.estimate(left)
    else:
        difference = evidence.estimate(tail_rs - middle_rs)
    verdict = _beyond(difference, 0.0, wanted=-1)
    return HypothesisFinding("H2′", model.name, verdict, {"CVaR 0.9": difference}, note)


def _own_best(evidence: StudyEvidence, model: Model, variants: Sequence[Model]) -> HypothesisFinding:
    risk, margin = model.profile.risk, RISK_MARGIN * evidence.unit
    verdicts: dict[str, Verdict] = {}
    figures = {}
    for other in variants:
        if other.name == model.name:
            continue
        difference = evidence.estimate(evidence.risk(model.name, risk) - evidence.risk(other.name, risk))
        figures[other.name] = difference
        verdicts[other.name] = _beyond(difference, margin, wanted=-1)
    worst = max(figures, key=lambda name: figures[name].value)
    verdict: Verdict = "confirmed"
    if "refuted" in verdicts.values():
        verdict = "refuted"
    elif set(verdicts.values()) != {"confirmed"}:
        verdict = "cannot say"
    found = HypothesisFinding("H3", model.name, verdict, {f"less {worst}'s": figures[worst]})
    return _with_slack(evidence, found, [other.name for other in variants])


def _elsewhere(evidence: StudyEvidence, model: Model) -> HypothesisFinding:
    difference = evidence.estimate(
        evidence.risk(model.name, TAIL, OTHER) - evidence.risk(SAFE, TAIL, OTHER), OTHER
    )
    verdict = _beyond(difference, RISK_MARGIN * evidence.unit, wanted=-1)
    return _with_slack(evidence, HypothesisFinding("H4", model.name, verdict, {"CVaR 0.9": difference}))


def _feasible(evidence: StudyEvidence) -> Iterator[HypothesisFinding]:
    """The steps of either gradient at the setting of λ that did best on the tuning seeds."""
    if evidence.steps is None:
        return
    held, study = evidence.steps, evidence.study

    def steps(profile: str, gradient: str) -> tuple[Array, float]:
        mine = (held["profile"] == profile) & (held["gradient"] == gradient)
        tuned = mine & np.isin(held["seed"], study.feasibility.seeds)
        scales = np.unique(held["scale"][mine])
        best = min(scales, key=lambda scale: float(held["steps"][tuned & (held["scale"] == scale)].mean()))
        kept = mine & (held["scale"] == best)
        value = [float(held["steps"][kept & (held["seed"] == seed)][0]) for seed in study.seeds]
        return np.array([value]), float(best)

    for profile in study.feasibility.profiles:
        (unbiased, first), (tilted, second) = (steps(profile, name) for name in ("leave_one_out", "tilted"))
        difference = evidence.estimate(unbiased - tilted)
        figures = {
            "steps": difference,
            "leave-one-out": evidence.estimate(unbiased),
            "tilted": evidence.estimate(tilted),
        }
        note = f"λ × {first:g} and × {second:g}"
        yield HypothesisFinding("H5", profile, _beyond(difference, 0.0, wanted=-1), figures, note)


def _with_slack(
    evidence: StudyEvidence, found: HypothesisFinding, others: Sequence[str] = (SAFE,)
) -> HypothesisFinding:
    """What is confirmed by models of unlike slack is not."""
    allowed = SLACK if evidence.study.world else BATCH_SLACK
    mine = float(np.nanmean(evidence.slack(found.variant)))
    apart = {name: abs(mine - float(np.nanmean(evidence.slack(name)))) for name in others}
    worst = max(apart, key=lambda name: apart[name])
    if found.verdict != "confirmed" or apart[worst] <= allowed:
        return found
    note = f"slack {apart[worst]:.2f} σ₀ from {worst}'s"
    return HypothesisFinding(found.hypothesis, found.variant, "cannot say", found.figures, note)


def _beyond(found: Estimate, margin: float, *, wanted: int) -> Verdict:
    """Whether an interval lies on the wanted side of the margin (1 above, −1 below), or on the other."""
    low, high = _ends(found)
    if (low > margin) if wanted > 0 else (high < margin):
        return "confirmed"
    if (high < margin) if wanted > 0 else (low > margin):
        return "refuted"
    return "cannot say"


def _ends(found: Estimate) -> tuple[float, float]:
    """The interval; everything where there is none."""
    if found.low is None or found.high is None:
        return -np.inf, np.inf
    return found.low, found.high
