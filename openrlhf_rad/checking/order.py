"""Does a cost order answers as people do, and better than a control that knows nothing of harm?

Two measures, both shares of pairs in which the more harmful answer costs more, ties half: of answers to one
prompt (``pair_accuracy``), and of a harmful and a harmless answer to any prompts (``auc``, Mann and Whitney's
U). Costs are compared across prompts in training, so that the second counts there; the first
is free of what a prompt gives away. A control that does as well shows that the labels reward what the
control measures: people's labels of harm are often longer answers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from openrlhf_rad.data.labels import HALF, Labels
from openrlhf_rad.harm import placements, refused
from openrlhf_rad.method.spectrum import MEAN
from openrlhf_rad.statistics.answers import arranged
from openrlhf_rad.statistics.inference import Estimate, Inference, average, of_influence
from openrlhf_rad.statistics.shares import share_estimate

Array = NDArray[np.float64]
MEASURES = ("pair_accuracy", "auc")

#: What a cost must beat: a name, and the cost that it gives an answer.
CONTROLS: Mapping[str, Callable[[str], float]] = {
    "length": lambda answer: float(len(answer.split())),
    "refusal words": lambda answer: float(not refused(answer)),
}


@dataclass(frozen=True)
class Order:
    """How well a cost orders answers by one measure.

    Attributes:
        share: of pairs in the right order. controls: the same of each control.
        gains: how much better the cost is than each control.
        pairs: the number of pairs. prompts: of those they come from.
    """

    share: Estimate
    controls: Mapping[str, Estimate]
    gains: Mapping[str, Estimate]
    pairs: int
    prompts: int

    def surely_beats(self, control: str) -> bool:
        """Whether what is gained over a control is above 0; where it never varies, by their intervals."""
        low, apart = self.gains[control].low, self.controls[control].high
        if low is not None:
            return low > 0
        return self.share.low is not None and apart is not None and self.share.low > apart

    @property
    def best_control(self) -> str:
        """The control that does best."""
        return max(self.controls, key=lambda name: self.controls[name].value)


def compare(cost_b: Array, controls: Mapping[str, Array], labels: Labels) -> dict[str, Order]:
    """Each measure for which there are pairs.

    Args:
        cost_b: the cost of each answer, by a fit that has not seen its prompt. controls: those of controls.
        labels: of the same answers.
    """
    found = {}
    for name, measure in (("pair_accuracy", _pair_accuracy), ("auc", _auc)):
        if (order := measure(cost_b, controls, labels)) is not None:
            found[name] = order
    return found


def _pair_accuracy(cost_b: Array, controls: Mapping[str, Array], labels: Labels) -> Order | None:
    index = np.array(labels.pairs, dtype=np.intp).reshape(-1, 2)
    if not len(index):
        return None
    panel, order = arranged([labels.examples[i].prompt for i in index[:, 0]])

    def hits(values_b: Array) -> Array:
        gap = (values_b[index[:, 0]] - values_b[index[:, 1]])[order]
        found: Array = (gap > 0) + 0.5 * (gap == 0)
        return found

    ours, others = hits(cost_b), {name: hits(values_b) for name, values_b in controls.items()}
    return Order(
        share_estimate(average(panel, ours)),
        {name: share_estimate(average(panel, theirs)) for name, theirs in others.items()},
        {name: average(panel, ours - theirs).estimate() for name, theirs in others.items()},
        len(index),
        panel.prompts,
    )


def _auc(cost_b: Array, controls: Mapping[str, Array], labels: Labels) -> Order | None:
    known = np.array([i for i, e in enumerate(labels.examples) if e.harm is not None], dtype=np.intp)
    bad = np.array([(labels.examples[i].harm or 0.0) >= HALF for i in known], dtype=np.bool_)
    if not bad.any() or bad.all():
        return None
    panel, order = arranged([labels.examples[i].prompt for i in known])
    ours, others = (
        placements(cost_b[known], bad),
        {name: placements(values_b[known], bad) for name, values_b in controls.items()},
    )

    def inferred(value: float, influence_b: Array) -> Inference:
        return of_influence(panel, MEAN, value, influence_b[order] * panel.answers)

    return Order(
        share_estimate(inferred(*ours)),
        {name: share_estimate(inferred(*theirs)) for name, theirs in others.items()},
        {
            name: inferred(ours[0] - value, ours[1] - theirs).estimate()
            for name, (value, theirs) in others.items()
        },
        int(bad.sum()) * int((~bad).sum()),
        panel.prompts,
    )


def as_report(found: Mapping[str, Order]) -> dict[str, dict[str, float | None]]:
    """The figures as JSON values: each measure, that of each control, and what is gained over it."""
    out = {}
    for name, order in found.items():
        out[name] = rounded(order.share)
        for control, estimate in order.controls.items():
            out[f"{name}_of_{control.replace(' ', '_')}"] = rounded(estimate)
            out[f"{name}_gain_over_{control.replace(' ', '_')}"] = rounded(order.gains[control])
    return out


def rounded(found: Estimate) -> dict[str, float | None]:
    """Value and interval to four digits."""
    ends = {"low": found.low, "high": found.high}
    return {
        "value": round(found.value, 4),
        **{name: None if end is None else round(end, 4) for name, end in ends.items()},
    }


def by_kind(cost_b: Array, labels: Labels) -> dict[str, dict[str, float]]:
    """Count, mean, deviation and share above 0 of each kind of answer's costs; human ones by their harm."""
    names = np.array([e.kind if e.kind != "human" else _level(e.harm) for e in labels.examples])
    return {
        str(name): {
            "n": int((names == name).sum()),
            "mean": round(float(cost_b[names == name].mean()), 3),
            "std": round(float(cost_b[names == name].std()), 3),
            "above_zero": round(float((cost_b[names == name] > 0).mean()), 3),
        }
        for name in np.unique(names)
    }


def _level(harm: float | None) -> str:
    if harm is None:
        return "human, compared only"
    return "human, harm < 0.25" if harm < 0.25 else "human, harm ≥ 0.75" if harm >= 0.75 else "human, between"
