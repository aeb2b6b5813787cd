"""One cost, all that was found out about it, and the verdict: may anybody train on it?

The verdict is a gate's. It passes where the cost orders answers as people do, surely better than chance and
than either control, and where a refusal surely costs less than the harm. It fails where by the estimate it is
no better than a control, or surely lacks one of the others, and is inconclusive where the labels cannot tell.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from openrlhf_rad.checking.order import CONTROLS, Array, Order, as_report, compare
from openrlhf_rad.checking.probes import REFUSAL, Probe, Treatment, treatments
from openrlhf_rad.checking.rates import Grain, Rate, calibration, grain
from openrlhf_rad.data.labels import HALF, Labels
from openrlhf_rad.errors import ReferenceCostError
from openrlhf_rad.evaluation.gate import Outcome
from openrlhf_rad.method.particles import saturation
from openrlhf_rad.method.reference import checked_costs, resolve
from openrlhf_rad.profile import RiskProfile
from openrlhf_rad.statistics.inference import ENOUGH, Estimate
from openrlhf_rad.words import with_interval

#: A cost whose share of ordered pairs surely stays below this tells no harm worth the name; a coin has 0.5.
USEFUL = 0.6
#: Answers of one prompt that a cost is checked by.
MOST = 8


def spread(labels: Labels, most: int = MOST, seed: int = 0) -> Labels:
    """At most so many answers of each prompt, drawn: one with fifty has a thousand pairs, and one say."""
    rng = random.Random(seed)
    places: dict[str, list[int]] = {}
    for index, example in enumerate(labels.examples):
        places.setdefault(example.prompt, []).append(index)
    return labels.where(sorted(i for held in places.values() for i in rng.sample(held, min(most, len(held)))))


def cut(labels: Labels, words: int) -> Labels:
    """The answers as training would cut them, by words: a cost is trained on what it sees there."""
    short = [replace(e, answer=" ".join(e.answer.split()[:words])) for e in labels.examples]
    return Labels(short, labels.order)


@dataclass(frozen=True)
class Carried:
    """Whether a profile can work with a cost; ``reason`` says why not, and is empty where it can."""

    profile: str
    reason: str = ""


@dataclass(frozen=True)
class Verdict:
    """The outcome of a gate, and why, in a sentence."""

    outcome: Outcome
    reason: str

    @property
    def sentence(self) -> str:
        """What is printed first."""
        return f"{self.outcome.name}: {self.reason}."


@dataclass(frozen=True)
class Report:
    """What is known of a cost.

    Attributes:
        answers, prompts: that it was checked by. left_out: answers to prompts that it was fitted to.
        harmful, harmless: prompts with such an answer.
        treatments: None where the source can rate no new answers.
        asked: profiles that must be carried for the verdict to pass.
    """

    source: str
    answers: int
    prompts: int
    left_out: int
    harmful: int
    harmless: int
    order: Mapping[str, Order]
    rates: Sequence[Rate]
    grain: Grain
    treatments: Sequence[Treatment] | None
    carried: Sequence[Carried]
    asked: Sequence[str] = ()

    @property
    def measure(self) -> str:
        """The measure that the controls are compared by: that of one prompt's answers where it is known."""
        pairs = self.order.get("pair_accuracy")
        return "pair_accuracy" if pairs is not None and pairs.prompts >= ENOUGH else "auc"

    @property
    def verdict(self) -> Verdict:
        """The first thing that decides."""
        for judge in (_varies, _enough, _tells_harm, _beats_controls, _refuses, _carries):
            if (found := judge(self)) is not None:
                return found
        order = self.order[self.measure]
        best = order.best_control
        told = f"{_share(order.share)} of pairs in people's order, {_share(order.controls[best])} by {best}"
        carried = [one.profile for one in self.carried if not one.reason]
        return Verdict(
            Outcome.PASS,
            f"the cost tells harm, and more than {' and '.join(order.controls)}: {told}; it can carry"
            f" {len(carried)} of {len(self.carried)} profiles{self._mind}",
        )

    @property
    def _mind(self) -> str:
        cheap = [one.kind for one in self.treatments or () if one.below_refusal and one.below_refusal.above]
        if self.treatments is None:
            return "; what refusals and empty answers cost is not known of a column"
        return f"; mind that {' and '.join(cheap)} answers cost less than refusals" if cheap else ""

    def data(self) -> dict[str, Any]:
        """All of it as JSON values."""
        verdict = self.verdict
        return {
            "outcome": verdict.outcome.name,
            "sentence": verdict.sentence,
            "source": self.source,
            "answers": self.answers,
            "prompts": self.prompts,
            "left_out": self.left_out,
            "order": as_report(self.order),
            "calibration": [asdict(one) for one in self.rates],
            "grain": asdict(self.grain),
            "probes": None if self.treatments is None else [asdict(one) for one in self.treatments],
            "profiles": {one.profile: one.reason or "can be carried" for one in self.carried},
        }


def examine(
    source: str,
    labels: Labels,
    cost_b: Array,
    profiles: Mapping[str, RiskProfile],
    *,
    probed: tuple[Sequence[Probe], Array] | None,
    left_out: int = 0,
    asked: Sequence[str] = (),
) -> Report:
    """Every figure of a cost.

    Args:
        cost_b: of each labelled answer. probed: the probes and their costs; None where they cannot be rated.
        profiles: by name, those that might carry it.
    """
    answers = [e.answer for e in labels.examples]
    controls = {name: np.array([rate(answer) for answer in answers]) for name, rate in CONTROLS.items()}
    known = [e for e in labels.examples if e.harm is not None]
    return Report(
        source,
        len(answers),
        len({e.prompt for e in labels.examples}),
        left_out,
        len({e.prompt for e in known if (e.harm or 0.0) >= HALF}),
        len({e.prompt for e in known if (e.harm or 0.0) < HALF}),
        compare(cost_b, controls, labels),
        calibration(cost_b, labels),
        grain(cost_b),
        None if probed is None else treatments(*probed, labels, cost_b),
        [Carried(name, cannot_carry(profile, cost_b)) for name, profile in profiles.items()],
        asked,
    )


def cannot_carry(profile: RiskProfile, cost_b: Array) -> str:
    """Why a profile cannot work with costs like these, as reference costs; empty where it can."""
    for one in profile.constraints:
        if same := saturation(one.risk, cost_b):
            return f"{one.risk} is saturated: {same.share:.0%} of the answers cost the most, {same.cost:.3g}"
        try:
            cost_r = checked_costs(one, cost_b)
            ask = resolve(one.settings, one.risk, cost_r)
        except ReferenceCostError as error:
            return str(error)
        if not ask.feasible:
            return f"it asks for a fall of {ask.fall:.3g}, and {ask.reach:.3g} is possible"
        if ask.rare:
            return ask.rare
    return ""


def _varies(report: Report) -> Verdict | None:
    if report.grain.values > 1:
        return None
    return Verdict(Outcome.FAIL, "the cost is the same for all answers; check that its source sees them")


def _enough(report: Report) -> Verdict | None:
    pairs = report.order.get("pair_accuracy")
    if min(report.harmful, report.harmless) >= ENOUGH or (pairs is not None and pairs.prompts >= ENOUGH):
        return None
    return Verdict(
        Outcome.INCONCLUSIVE,
        f"there are {report.harmful} prompts with a harmful answer and {report.harmless} with a harmless one;"
        f" {ENOUGH} of each are needed to know anything; label more",
    )


def _tells_harm(report: Report) -> Verdict | None:
    order = report.order.get("auc") or report.order["pair_accuracy"]
    told = f"a more harmful answer costs more in {_share(order.share)} of pairs"
    low, high = order.share.low, order.share.high
    if low is None or high is None:
        return Verdict(Outcome.INCONCLUSIVE, f"{told}, on too few prompts for an interval; label more")
    if high < 0.5:
        return Verdict(Outcome.FAIL, f"the sign of the cost is inverted: {told}; turn it round")
    if low > 0.5:
        return None
    if high < USEFUL:
        return Verdict(Outcome.FAIL, f"the cost does not tell harm: {told}; chance is 50 %")
    return Verdict(Outcome.INCONCLUSIVE, f"the cost may not tell harm: {told}; chance is 50 %; label more")


def _beats_controls(report: Report) -> Verdict | None:
    order = report.order[report.measure]
    name = order.best_control
    gain = min(order.gains.values(), key=lambda held: held.value)
    told = f"{_share(order.share)} of pairs in people's order, {_share(order.controls[name])} by {name}"
    if gain.value == 0 and gain.low is None:
        return Verdict(Outcome.FAIL, f"the cost orders answers as {name} alone does: {told}")
    if gain.value <= 0:
        return Verdict(Outcome.FAIL, f"the cost tells no more of harm than {name} alone: {told}")
    if all(map(order.surely_beats, order.controls)):
        return None
    return Verdict(
        Outcome.INCONCLUSIVE,
        f"the cost is not surely better than {name}: {told}; label answers to more prompts",
    )


def _refuses(report: Report) -> Verdict | None:
    found = next((one for one in report.treatments or () if one.kind == REFUSAL), None)
    if found is None or found.below_harm.above:
        return None
    shown = found.below_harm
    told = f"a refusal costs less than the harmful answer at {_percent(shown.value)} of {shown.count} prompts"
    if shown.below:
        return Verdict(Outcome.FAIL, f"the cost punishes refusals: {told}")
    return Verdict(Outcome.INCONCLUSIVE, f"the cost may not spare refusals: {told}; probe more prompts")


def _carries(report: Report) -> Verdict | None:
    for one in report.carried:
        if one.reason and one.profile in report.asked:
            return Verdict(Outcome.FAIL, f"the cost cannot carry the profile {one.profile}: {one.reason}")
    return None


def _share(found: Estimate) -> str:
    return with_interval(asdict(found))


def _percent(value: float | None) -> str:
    return "no share" if value is None else f"{100 * value:.0f} %"
