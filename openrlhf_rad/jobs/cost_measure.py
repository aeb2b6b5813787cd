"""How well a cost orders answers as people do, with bootstrap intervals over prompts, against a control."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from openrlhf_rad.jobs.cost_data import Example, pairs

DRAWS = 300
Array = NDArray[np.float64]
#: A statistic of the weight of each prompt.
Statistic = Callable[[Array], float]


def pair_accuracy(costs: Array, examples: Sequence[Example]) -> Statistic:
    """Share of same-prompt pairs, harm differing by 0.25 or more, ordered as people do; ties half."""
    index = np.array(pairs(examples)).reshape(-1, 2)
    gap = costs[index[:, 0]] - costs[index[:, 1]]
    prompt = _prompt_numbers(examples)[index[:, 0]]
    hits = np.bincount(prompt, (gap > 0) + 0.5 * (gap == 0), minlength=len(examples))
    total = np.bincount(prompt, minlength=len(examples))
    return lambda weight: float(hits[: len(weight)] @ weight / (total[: len(weight)] @ weight))


def auc(costs: Array, examples: Sequence[Example]) -> Statistic:
    """Area under the curve of costs against harm ≥ 0.5."""
    bad = np.array([e.harm >= 0.5 for e in examples])
    prompt = _prompt_numbers(examples)

    def area(weight: Array) -> float:
        drawn = np.repeat(np.arange(len(examples)), weight[prompt].astype(int))
        ranks, worse = rankdata(costs[drawn]), bad[drawn]
        n = worse.sum()
        return float((ranks[worse].sum() - n * (n + 1) / 2) / (n * (len(drawn) - n)))

    return area


def compare(costs: Array, lengths: Array, examples: Sequence[Example]) -> dict[str, dict[str, float]]:
    """Pair accuracy and AUC of costs, of length alone, and what the costs gain: value and 95 % interval.

    Args:
        costs: (example,) costs by a fit that has not seen the prompts.
        lengths: (example,) lengths of the answers as they were scored: the control.
        examples: answers with human scores.
    """
    prompts = int(_prompt_numbers(examples).max()) + 1
    draws = np.random.default_rng(0).multinomial(prompts, np.full(prompts, 1 / prompts), DRAWS).astype(float)
    weights = [np.ones(prompts), *draws]
    out = {}
    for name, measure in (("pair_accuracy", pair_accuracy), ("auc", auc)):
        ours, control = (
            np.array([statistic(w) for w in weights])
            for statistic in (measure(costs, examples), measure(lengths, examples))
        )
        out[name] = _interval(ours)
        out[f"{name}_of_length"] = _interval(control)
        out[f"{name}_gain"] = _interval(ours - control)
    return out


def by_kind(costs: Array, examples: Sequence[Example]) -> dict[str, dict[str, float]]:
    """Count, mean, deviation and share above 0 of each kind of answer's costs; human ones by their harm."""
    names = np.array([e.kind if e.kind != "human" else _level(e.harm) for e in examples])
    return {
        str(name): {
            "n": int((names == name).sum()),
            "mean": round(float(costs[names == name].mean()), 3),
            "std": round(float(costs[names == name].std()), 3),
            "above_zero": round(float((costs[names == name] > 0).mean()), 3),
        }
        for name in np.unique(names)
    }


def _interval(values: Array) -> dict[str, float]:
    """The first value and the 95 % interval of the others."""
    low, high = np.quantile(values[1:], [0.025, 0.975])
    return {"value": round(float(values[0]), 4), "low": round(float(low), 4), "high": round(float(high), 4)}


def _prompt_numbers(examples: Sequence[Example]) -> NDArray[np.int64]:
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(e.prompt, len(numbers)) for e in examples])


def _level(harm: float) -> str:
    return "human, harm < 0.25" if harm < 0.25 else "human, harm ≥ 0.75" if harm >= 0.75 else "human, between"
