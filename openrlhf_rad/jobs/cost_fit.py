"""The costs of the default job: a linear fit to labelled pairs (Bradley–Terry), and how well it orders them.

    loss = ½ Σ_{human, weak} mean softplus(s_better − s_worse) + wₜ mean (s_i − s_j)²  over ties
           + wₐ mean over kinds of cross-entropy(σ(s), harm) + l2 ‖w‖²,        s = z·w

The third term fixes the zero, which pairs alone leave open: σ(s) is the harm expected on the human scale 0–1.
What a cost is worth is measured against people's order, with intervals over prompts, beside a control.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import rankdata

from openrlhf_rad.jobs.cost_data import Example, pairs, ties

L2 = 0.02
TIE_WEIGHT = 0.06
ANCHOR_WEIGHT = 0.5
#: Harm, on the human scale 0–1, from which an answer counts as harmful where the zero is placed.
HARMFUL = 0.75
Array = NDArray[np.float64]


def fit(features: torch.Tensor, examples: Sequence[Example], l2: float = L2) -> torch.Tensor:
    """Weights (feature,) of the cost of examples with ``features`` (example, feature), by L-BFGS."""
    scale = features.std(0) + 1e-3 * features.std()
    z = features / scale
    human, weak = _split_pairs(examples)
    tied = torch.tensor(ties(examples) or [(0, 0)])
    harm = torch.tensor([e.harm for e in examples])
    counts = Counter(e.kind for e in examples)
    share = torch.tensor([1.0 / (counts[e.kind] * len(counts)) for e in examples])
    weight = torch.zeros(features.shape[1], requires_grad=True)
    solver = torch.optim.LBFGS([weight], max_iter=60, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        solver.zero_grad()
        s = z @ weight
        order = sum(
            (torch.nn.functional.softplus(s[p[:, 1]] - s[p[:, 0]]).mean() for p in (human, weak) if len(p)),
            start=torch.zeros(()),
        )
        anchor = torch.nn.functional.binary_cross_entropy_with_logits(s, harm, weight=share, reduction="sum")
        tie = (s[tied[:, 0]] - s[tied[:, 1]]).square().mean()
        value: torch.Tensor = (
            0.5 * order + TIE_WEIGHT * tie + ANCHOR_WEIGHT * anchor + l2 * weight.square().sum()
        )
        value.backward()  # type: ignore[no-untyped-call]
        return value

    solver.step(loss)  # type: ignore[no-untyped-call]
    return weight.detach() / scale


def calibrated(
    weight: torch.Tensor,
    one: torch.Tensor,
    features: torch.Tensor,
    examples: Sequence[Example],
    crossed: Array,
) -> torch.Tensor:
    """Weights shifted and scaled: 0 half way from harmless to harmful, unit the human deviation.

    The zero is that of prompts left out of the fit: there harmful answers cost less than among those it saw.

    Args:
        weight: (feature,) as fitted.
        one: (feature,) whose product with any features is 1.
        features: (example, feature).
        examples: harmless are refusals and benign answers; harmful are those of harm 0.75 or more.
        crossed: (example,) costs as :func:`cross_validated` gives them.
    """
    bad = np.array([e.harm >= HARMFUL for e in examples])
    safe = np.array([e.kind in ("refusal", "benign") for e in examples])
    human = torch.tensor([e.kind == "human" for e in examples])
    zero = 0.5 * float(np.median(crossed[bad]) + np.median(crossed[safe]))
    out: torch.Tensor = (weight - zero * one) / (features @ weight)[human].std()
    return out


def cross_validated(
    features: torch.Tensor, examples: Sequence[Example], l2: float = L2, folds: int = 5
) -> Array:
    """Costs (example,) by weights fitted without the example's prompt."""
    prompts = sorted({e.prompt for e in examples})
    fold_of = dict(zip(prompts, np.random.default_rng(0).integers(0, folds, len(prompts)), strict=True))
    fold = np.array([fold_of[e.prompt] for e in examples])
    costs = np.zeros(len(examples))
    for k in range(folds):
        rest = np.flatnonzero(fold != k)
        weight = fit(features[rest], [examples[i] for i in rest], l2)
        costs[fold == k] = (features[np.flatnonzero(fold == k)] @ weight).numpy()
    return costs


def _split_pairs(examples: Sequence[Example]) -> tuple[torch.Tensor, torch.Tensor]:
    """Pairs of two human examples, and the others."""
    found = pairs(examples)
    human = [p for p in found if examples[p[0]].kind == examples[p[1]].kind == "human"]
    chosen = set(human)
    return torch.tensor(human).view(-1, 2), torch.tensor([p for p in found if p not in chosen]).view(-1, 2)


DRAWS = 300
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
