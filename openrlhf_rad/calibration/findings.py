"""What is doubtful about a cost and a constraint on it: sign, slack, reach, and too few answers."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from openrlhf_rad.calibration.figures import ScoredSample, quantile_skewness
from openrlhf_rad.calibration.proposal import LEAST_FALL, STEPLESS, Proposal, effective
from openrlhf_rad.discrete import few_values, meaning
from openrlhf_rad.harm import harm_order
from openrlhf_rad.method.constraint import FORMS
from openrlhf_rad.method.particles import saturation
from openrlhf_rad.method.reference import MOST_SHARE
from openrlhf_rad.statistics.inference import Estimate

Kind = Literal[
    "inverted", "unrelated", "saturated", "inert", "infeasible", "tail", "rollout", "price", "flat", "note"
]

# The default 256 reference answers hold 26 beyond the 90 % quantile.
_TAIL = 25
# Below this a step of training rests on chance.
_ROLLOUT_TAIL = 3
_LEFT_TAIL = -0.2
# λ_max below λ_eq never outweighs the reward; a hundred times λ_eq can blow training up.
_PRICES = (1.0, 100.0)


@dataclass(frozen=True)
class Doubt:
    """One doubt; a proven one stops the profile from being written."""

    kind: Kind
    text: str
    proven: bool = False


def examine(sample: ScoredSample, proposal: Proposal, seed: int = 0) -> list[Doubt]:
    """All that is doubtful, the sign first."""
    findings = list(_sign(sample, seed))
    findings += [*_saturated(sample, proposal), *_ask(proposal), *_tail(sample, proposal), *_price(proposal)]
    part = proposal.part
    if part.segment:
        text = f"{part.name} holds for prompts labelled {part.segment}: score answers to such prompts alone"
        findings.append(Doubt("note", text))
    elif part.excluded:
        text = f"{part.name} holds for prompts not labelled {', '.join(part.excluded)}: score those alone"
        findings.append(Doubt("note", text))
    values = part.values or few_values(sample.cost_b)
    if values:
        findings.append(Doubt("note", meaning(part.risk, values)))
    if sample.ignored:
        findings.append(Doubt("note", sample.ignored))
    return findings


def _sign(sample: ScoredSample, seed: int) -> Iterator[Doubt]:
    """By labels where there are some; by the side of the long tail otherwise."""
    if sample.harmful_b is not None:
        order = harm_order(sample.cost_b, sample.harmful_b, sample.prompts)
        told = f"by the labels, {order.words}"
        if order.inverted():
            yield Doubt(
                "inverted",
                f"the sign of the cost is inverted: {told}; a cost must be higher for more harm; turn it"
                " round, as in --column cost=-NAME, if the labels above were taken for what they are",
                proven=True,
            )
        elif not order.low > 0.5:
            text = f"the cost does not tell harm: {told}; chance is 50 %; look at the cost"
            yield Doubt("unrelated", text)
        return
    skew = quantile_skewness(sample, seed)
    if _below(skew, _LEFT_TAIL):
        yield Doubt(
            "inverted",
            "the sign of the cost may be inverted: its long tail is on the left (quantile skewness"
            f" {_interval(skew)}), and rare harm makes a long tail on the right; turn it round if higher"
            " means safer, as in --column cost=-NAME, or settle it with labels: --column label=NAME",
        )


def _saturated(sample: ScoredSample, proposal: Proposal) -> Iterator[Doubt]:
    spectrum = proposal.part.risk
    if same := saturation(spectrum, sample.cost_b):
        yield Doubt(
            "saturated",
            f"{spectrum} is saturated: all that it weighs sits at the largest cost that occurs,"
            f" {same.cost:.3g}, which {same.share:.1%} of the answers have; it falls only once fewer"
            f" have it than it weighs; {same.advice}",
        )


def _ask(proposal: Proposal) -> Iterator[Doubt]:
    asked, spread = proposal.asked, proposal.figures.spread.value
    form = FORMS[proposal.part.settings.form]
    if asked is None:
        yield Doubt("infeasible", f"the profile does not fit this cost: {proposal.unresolved}")
        return
    if asked.fall <= 0:
        yield Doubt(
            "inert",
            f"the constraint is inert: the reference itself meets it, with {-asked.fall * spread:.3g} to"
            " spare, so that λ only falls; see the level proposed",
        )
    elif form.pairs and not form.by_margin and asked.fall <= proposal.rollout.value:
        yield Doubt(
            "inert",
            f"the reference itself meets the constraint, by noise: {proposal.rollout.size} of its own"
            f" answers show a gap of {proposal.rollout.value * spread:.3g} on average, and"
            f" {asked.fall * spread:.3g} is asked; take a margin, larger rollouts or a higher level",
        )
    elif asked.fall < LEAST_FALL:
        yield Doubt(
            "inert",
            f"the constraint is nearly inert: it asks for a fall of {asked.fall * spread:.3g}, which is"
            f" {100 * asked.fall:.2g} % of σ; see the level proposed",
        )
    elif asked.fall > proposal.reachable:
        yield Doubt(
            "infeasible",
            f"the constraint is infeasible: it asks for a fall of {asked.fall * spread:.3g}, and even a"
            f" policy that always gave the least costly answer seen reaches"
            f" {proposal.reachable * spread:.3g}; λ would rise to its maximum and stay; see the level"
            " proposed",
        )
    elif asked.fall > MOST_SHARE * proposal.reachable:
        yield Doubt(
            "infeasible",
            f"the constraint asks for nearly all there is: a fall of {asked.fall * spread:.3g}, of at most"
            f" {proposal.reachable * spread:.3g} if every answer cost as little as the least",
        )


def _tail(sample: ScoredSample, proposal: Proposal) -> Iterator[Doubt]:
    spectrum, rollout = proposal.part.risk, proposal.rollout
    count = sample.cost_b.size
    seen = effective(spectrum, count)
    if seen < _TAIL:
        yield Doubt(
            "tail",
            f"the weights of {spectrum} rest on {seen:.3g} of the {count} answers; at least {_TAIL} are"
            f" needed to see a tail; score {math.ceil(count * _TAIL / seen)} answers",
        )
    if rollout.tail < _ROLLOUT_TAIL:
        yield Doubt(
            "rollout",
            f"of a rollout of {rollout.size} answers {rollout.tail:.2g} carry the weight; at least"
            f" {_ROLLOUT_TAIL} are needed; take"
            f" {math.ceil(rollout.size * _ROLLOUT_TAIL / rollout.tail)} a rollout",
        )


def _price(proposal: Proposal) -> Iterator[Doubt]:
    if proposal.maximum is None:
        yield Doubt(
            "flat",
            "the score is flat: no answer would feel the constraint, for all the weight lies where costs do"
            " not differ; score more answers, or weigh more of the distribution",
        )
        return
    if (method := proposal.part.dual.method) in STEPLESS:
        text = (
            f"dual.step is left as it is: with dual.method {method} it is a rate, which costs do not settle"
        )
        yield Doubt("note", text)
    if proposal.figures.reward_spread is None:
        return
    share = proposal.part.dual.max / proposal.figures.balance.value
    low, high = _PRICES
    if share < low:
        yield Doubt(
            "price",
            f"dual.max is {proposal.part.dual.max:g}, {share:.2g} times the λ at which cost and reward weigh"
            " the same: the reward can always outweigh the cost; see the λ proposed",
        )
    elif share > high:
        yield Doubt(
            "price",
            f"dual.max is {proposal.part.dual.max:g}, {share:.3g} times the λ at which cost and reward weigh"
            " the same: λ that high can blow training up; see the λ proposed",
        )


def needed_rollout(proposal: Proposal) -> int:
    """Answers of a rollout whose risk is off by half the proposed fall at most, 19 times of 20.

    The noise of a risk falls as 1/√n: n_needed = n (4 s_n / δ)².
    """
    rollout, fall = proposal.rollout, proposal.ask.fall
    return math.ceil(rollout.size * (4 * rollout.risk_noise / fall) ** 2) if fall > 0 else rollout.size


def _below(estimate: Estimate, bound: float) -> bool:
    return estimate.high is not None and estimate.high < bound


def _interval(estimate: Estimate) -> str:
    if estimate.low is None or estimate.high is None:
        return f"{estimate.value:.2g}"
    return f"{estimate.value:.2g} [{estimate.low:.2g}, {estimate.high:.2g}]"
