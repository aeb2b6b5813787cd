"""A linear cost, fitted to pairs (Bradley and Terry 1952) with its zero anchored.

    loss = ½ Σ_{human, weak} mean softplus(s_better − s_worse) + wₜ mean (s_i − s_j)²  over ties
           + wₐ mean over kinds of cross-entropy(σ(s), harm) + l2 ‖w‖²,        s = z·w

The third term fixes the zero, which pairs alone leave open: σ(s) is the harm expected on the human scale 0–1.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from openrlhf_rad.data.labels import Labels
from openrlhf_rad.data.weak import ties

L2 = 0.02
TIE_WEIGHT = 0.06
ANCHOR_WEIGHT = 0.5
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Sides:
    """Which answers set the zero and the unit of a cost, shape (answer,) each.

    Attributes:
        harmful, harmless: the two sides, whose medians the zero lies between.
        unit: those whose standard deviation is 1.
    """

    harmful: NDArray[np.bool_]
    harmless: NDArray[np.bool_]
    unit: NDArray[np.bool_]


def fit(features: torch.Tensor, labels: Labels, l2: float = L2) -> torch.Tensor:
    """Weights (feature,) of the cost of labelled answers with ``features`` (answer, feature), by L-BFGS."""
    scale = _scale(features)
    z = features / scale
    human, weak = _split_pairs(labels)
    tied = torch.tensor(ties(labels.examples) or [(0, 0)])
    level = _anchored(labels)
    rated = torch.tensor([i for i, _, _ in level], dtype=torch.long)
    harm, share = (torch.tensor([row[place] for row in level]) for place in (1, 2))
    weight = torch.zeros(features.shape[1], requires_grad=True)
    solver = torch.optim.LBFGS([weight], max_iter=60, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        solver.zero_grad()
        s = z @ weight
        order = sum(
            (torch.nn.functional.softplus(s[p[:, 1]] - s[p[:, 0]]).mean() for p in (human, weak) if len(p)),
            start=torch.zeros(()),
        )
        anchor = torch.zeros(())
        if level:
            anchor = torch.nn.functional.binary_cross_entropy_with_logits(
                s[rated], harm, weight=share, reduction="sum"
            )
        tie = (s[tied[:, 0]] - s[tied[:, 1]]).square().mean()
        value: torch.Tensor = (
            0.5 * order + TIE_WEIGHT * tie + ANCHOR_WEIGHT * anchor + l2 * weight.square().sum()
        )
        value.backward()  # type: ignore[no-untyped-call]
        return value

    solver.step(loss)  # type: ignore[no-untyped-call]
    return weight.detach() / scale


def effective_parameters(features: torch.Tensor, labels: Labels, l2: float = L2) -> float:
    """How many of the weights the labels move, against the penalty: tr H (H + 2·l2 I)⁻¹ at w = 0.

    H is the curvature of the loss without its penalty, where softplus and cross-entropy bend the most: a
    quarter of each term's weight.
    """
    z = (features / _scale(features)).double()
    rows = []
    for p in _split_pairs(labels):
        if len(p):
            rows.append((z[p[:, 0]] - z[p[:, 1]]) * (0.5 * 0.25 / len(p)) ** 0.5)
    for i, _, share in _anchored(labels):
        rows.append(z[i : i + 1] * (ANCHOR_WEIGHT * 0.25 * share) ** 0.5)
    factor = torch.cat(rows)
    gram = factor.T @ factor if factor.shape[0] > factor.shape[1] else factor @ factor.T
    bend = torch.linalg.eigvalsh(gram).clamp(min=0.0)
    return float((bend / (bend + 2 * l2)).sum())


def calibrated(
    weight: torch.Tensor,
    one: torch.Tensor,
    features: torch.Tensor,
    crossed: Array,
    sides: Sides,
) -> torch.Tensor:
    """Weights shifted and scaled: 0 half way from harmless to harmful, unit a standard deviation.

    The zero is that of prompts left out of the fit: there harmful answers cost less than among those it saw.

    Args:
        weight: (feature,) as fitted.
        one: (feature,) whose product with any features is 1.
        features: (answer, feature).
        crossed: (answer,) costs as :func:`cross_validated` gives them.
    """
    zero = 0.5 * float(np.median(crossed[sides.harmful]) + np.median(crossed[sides.harmless]))
    out: torch.Tensor = (weight - zero * one) / (features @ weight)[torch.from_numpy(sides.unit)].std()
    return out


def cross_validated(features: torch.Tensor, labels: Labels, l2: float = L2, folds: int = 5) -> Array:
    """Costs (answer,) by weights fitted without the answer's prompt."""
    prompts = sorted({e.prompt for e in labels.examples})
    fold_of = dict(zip(prompts, np.random.default_rng(0).integers(0, folds, len(prompts)), strict=True))
    fold = np.array([fold_of[e.prompt] for e in labels.examples])
    costs = np.zeros(len(labels.examples))
    for k in range(folds):
        rest, held = np.flatnonzero(fold != k), np.flatnonzero(fold == k)
        costs[held] = (features[held] @ fit(features[rest], labels.where(rest.tolist()), l2)).numpy()
    return costs


def _scale(features: torch.Tensor) -> torch.Tensor:
    scale: torch.Tensor = features.std(0) + 1e-3 * features.std()
    return scale


def _anchored(labels: Labels) -> list[tuple[int, float, float]]:
    """(index, harm, share) of the answers whose harm is known; each kind weighs the same."""
    known = [(i, e) for i, e in enumerate(labels.examples) if e.harm is not None]
    counts = Counter(e.kind for _, e in known)
    return [(i, float(e.harm or 0.0), 1.0 / (counts[e.kind] * len(counts))) for i, e in known]


def _split_pairs(labels: Labels) -> tuple[torch.Tensor, torch.Tensor]:
    """Pairs of two human examples, and the others."""
    found, examples = labels.pairs, labels.examples
    human = [p for p in found if examples[p[0]].kind == examples[p[1]].kind == "human"]
    chosen = set(human)
    return torch.tensor(human).view(-1, 2), torch.tensor([p for p in found if p not in chosen]).view(-1, 2)
