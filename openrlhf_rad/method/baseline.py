"""What is taken off a score: its batch without the answer, and a part of the other answers to its prompt.

A score that leaves one out has the batch for its baseline. Where prompts differ, the other answers to the
same prompt tell more; where they do not, they only add their noise: with two answers RLOO has the variance
2(1 − ρ), ρ the correlation within prompts, the batch has 1. Taking off the share of the partners' mean that
best predicts an answer, ρ(K − 1)/(1 + (K − 2)ρ) of it for K answers, gives 1 − ρ² at K = 2, never more than
either.

The expectation stays exact: the partners are scored in the batch without the answer, and ρ is from rollouts
before, so that neither has seen it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from openrlhf_rad.method.scores import gap_terms
from openrlhf_rad.method.spectrum import Spectrum

Array = NDArray[np.float64]
Places = NDArray[np.int64]

# A rollout fades by half in about seven; ρ = 0 counts as so many pairs of answers, until more have been seen.
_DECAY, _PRIOR_PAIRS = 0.9, 32.0


class PartnerBaseline:
    """The share of the partners' mean, with the correlation within prompts of the rollouts so far.

    Attributes:
        products, squares, pairs: fading sums over pairs of answers to one prompt: of their scores' products,
            of the mean of their squares, and of ones.
    """

    def __init__(self) -> None:
        self.products = self.squares = self.pairs = 0.0

    @property
    def correlation(self) -> float:
        """ρ in [0, 1), drawn towards 0 while few pairs have been seen."""
        if not (self.products > 0 and self.squares > 0):
            return 0.0
        return min(self.products / self.squares, 1.0) * self.pairs / (self.pairs + _PRIOR_PAIRS)

    def __call__(self, score_b: Array, place_b: Places, cluster_b: Places, partner: PartnerScores) -> Array:
        """score_b less its share of the partners; then the correlation learns from this rollout.

        Args:
            score_b: of :func:`~openrlhf_rad.method.scores.leave_one_out`.
            cluster_b: the prompt of each answer.
            place_b: of each answer among the particles. partner: the scores of these particles in pairs.
        """
        total_b, count_b = np.zeros(score_b.size), np.zeros(score_b.size)
        products = squares = pairs = 0.0
        centred_b = score_b - score_b.mean()
        for one, other in _pairs(cluster_b):
            for mine, theirs in ((one, other), (other, one)):  # each answer stands at most once in either
                total_b[mine] += partner(place_b[theirs], place_b[mine])
                count_b[mine] += 1
            products += float(centred_b[one] @ centred_b[other])
            squares += float(centred_b[one] @ centred_b[one] + centred_b[other] @ centred_b[other]) / 2
            pairs += one.size
        rho = self.correlation
        share_b = rho / (1 + (count_b - 1) * rho)  # of the sum, for count + 1 answers to a prompt
        self.products = _DECAY * self.products + products
        self.squares = _DECAY * self.squares + squares
        self.pairs = _DECAY * self.pairs + pairs
        return np.asarray(score_b - share_b * total_b)

    def state_dict(self) -> dict[str, float]:
        """The three sums."""
        return {"products": self.products, "squares": self.squares, "pairs": self.pairs}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from them."""
        self.products, self.squares, self.pairs = (
            float(state[name]) for name in ("products", "squares", "pairs")
        )


class PartnerScores:
    """The score of one sample in the batch without another: −(n − 1)(V_{n−1}^{(−j)} − V_{n−2}^{(−j, −l)}).

    Without sample j the gap above sample i lies at i/(n − 1) if i < j, else at (i − 1)/(n − 1), so that sums
    over gaps with either weight answer all pairs.
    """

    def __init__(self, change_g: Array, spectrum: Spectrum) -> None:
        below = gap_terms(change_g[:-1], spectrum)  # level i/(n − 1), none above the last
        above = gap_terms(change_g[1:], spectrum)  # level (i − 1)/(n − 1), none above the first
        self._gain = _sums(np.append(below[0], 0.0)), _sums(np.append(0.0, above[0]))
        self._loss = _sums(np.append(below[1], 0.0)), _sums(np.append(0.0, above[1]))

    def __call__(self, place: Places, without: Places) -> Array:
        """Scores at places, each without the sample at another place; of equal costs the first place."""
        (gain_0, gain_1), (loss_0, loss_1) = self._gain, self._loss
        middle = np.maximum(place, without)
        gain = gain_0[middle] - gain_0[place] + gain_1[-1] - gain_1[middle]
        lowest = np.minimum(place, without)
        loss = loss_0[lowest] + loss_1[place] - loss_1[np.minimum(without, place)]
        return np.asarray(gain - loss)


def _sums(term_g: Array) -> Array:
    """Of the terms before each place."""
    return np.append(0.0, np.cumsum(term_g))


def _pairs(cluster_b: Places) -> Iterator[tuple[Places, Places]]:
    """All pairs of answers of one cluster, a block a distance within it."""
    order = np.argsort(cluster_b, kind="stable")
    label = cluster_b[order]
    for distance in range(1, label.size):
        alike = np.flatnonzero(label[distance:] == label[:-distance])
        if not alike.size:
            return
        yield order[alike], order[alike + distance]
