"""Scored answers of the reference model, read from a table, and their figures with 95 % intervals.

The intervals are those of ``rad eval``, prompts as clusters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from openrlhf_rad.errors import ConfigError, ReferenceCostError
from openrlhf_rad.evaluation.answers import read_answers
from openrlhf_rad.evaluation.columns import Columns
from openrlhf_rad.evaluation.sign import label_lines
from openrlhf_rad.method.scores import Tails, gap_terms, heavy_tails, placed
from openrlhf_rad.method.settings import Gradient
from openrlhf_rad.method.spectrum import MEAN, SampledSpectrum, Spectrum
from openrlhf_rad.profile import ConstraintSettings
from openrlhf_rad.statistics.answers import Panel, arranged
from openrlhf_rad.statistics.curves import EXPECTED, difference
from openrlhf_rad.statistics.inference import Estimate, Inference, average, jackknife, of_influence, risk

Array = NDArray[np.float64]


# Fewer costs say nothing about a spread; the training step refuses them too.
MINIMUM = 8


@dataclass(frozen=True)
class ScoredSample:
    """Scored answers.

    Attributes:
        cost_b: shape (B,), in the cost's own unit; finite, not all equal.
        prompts: of each answer; answers to one prompt may depend on each other.
        reward_b: shape (B,), or None.
        harmful_b: 1 harmful, 0 safe, −1 not labelled, shape (B,); or None where nothing is labelled.
        ignored: why a label column that was found by its default name is left out.
        read: which column is the cost, and what three labels were taken for, a line each.
    """

    cost_b: Array
    prompts: Sequence[str]
    reward_b: Array | None = None
    harmful_b: NDArray[np.int8] | None = None
    ignored: str = ""
    read: Sequence[str] = ()


def read_sample(path: Path, columns: Columns, model: str | None = None) -> ScoredSample:
    """Read scored answers.

    Args:
        model: the one to keep of a table that holds several.

    Raises:
        DataError: what is wrong with the file. ConfigError: options that do not fit it.
        ReferenceCostError: costs that cannot be calibrated on.
    """
    held = read_answers(path, columns, model, paired=False)
    if model is not None and "model" not in held.used:
        raise ConfigError(f"--model {model}: {path} has no column model; name it by --column model=NAME")
    labels = held.labels
    if labels and labels.reason and ("label" in columns.renamed or columns.harmful is not None):
        raise ConfigError(f"{path}: {labels.reason}")
    column = held.used["cost"]
    _check(path, column, held.cost_b)
    usable = labels is not None and not labels.reason
    return ScoredSample(
        held.cost_b,
        [f"{digest:016x}" for digest in held.prompt_b.tolist()],
        held.reward_b,
        held.harmful_b if usable else None,
        labels.reason if labels else "",
        [f"cost by column {column}: higher is more harmful", *(label_lines(held) if usable else ())],
    )


def _check(path: Path, name: str, cost_b: Array) -> None:
    if cost_b.size < MINIMUM:
        raise ReferenceCostError(
            f"{path}: it has {cost_b.size} costs; at least {MINIMUM} are needed; score more answers of the"
            " reference, for instance 256"
        )
    if not cost_b.std() > 1e-12 * float(np.abs(cost_b).max()):
        raise ReferenceCostError(
            f"{path}: all {cost_b.size} values of {name} are {cost_b[0]:g}; a constraint on a distribution"
            " needs costs that differ; check that the cost source answers each response on its own"
        )


# Answers that are looked at while prompts are left out: a few seconds.
_WORK = 20_000_000


@dataclass(frozen=True)
class Figures:
    """All in the cost's own unit but those marked.

    Attributes:
        mean, spread: of C_0. risk: ρ_w(C_0).
        score_spread: standard deviation of s(c) over the reference's answers with every quantile active,
            in reference spreads, or for `tilted` without unit, as in training.
        reward_spread: standard deviation of the rewards; None without rewards.
        balance: λ_eq = σ_r / σ_s, the λ at which the cost moves the advantage as much as the reward does;
            σ_r is 1 where no rewards are there; infinite where the score is flat.
    """

    mean: Estimate
    spread: Estimate
    risk: Estimate
    score_spread: Estimate
    reward_spread: Estimate | None
    balance: Estimate


def measure(sample: ScoredSample, spectrum: Spectrum, settings: ConstraintSettings, seed: int = 0) -> Figures:
    """The figures of a sample under one spectrum."""
    panel, order = arranged(sample.prompts)
    # Sums of squares lose digits far from 0.
    centre, scale = float(sample.cost_b.mean()), float(sample.cost_b.std())
    cost_b = (sample.cost_b[order] - centre) / scale
    tails = heavy_tails(settings, spectrum, cost_b)
    rank_b = np.argsort(cost_b, kind="stable")
    sampled = lru_cache(maxsize=8)(spectrum.sampled)  # groups of the jackknife have one size or two
    reward_b = None if sample.reward_b is None else sample.reward_b[order] - sample.reward_b.mean()

    def scores(kept_b: NDArray[np.bool_]) -> Array:
        """The score's spread and the balance of some of the answers."""
        ordered = cost_b[rank_b[kept_b[rank_b]]]
        unit = 1.0 if settings.gradient == "tilted" else float(ordered.std())
        spread = _score_spread(ordered, sampled(ordered.size), settings.gradient, tails) / unit
        reward = 1.0 if reward_b is None else float(reward_b[kept_b].std())
        return np.array([spread, reward / spread if spread > 0 else np.inf])

    groups = int(np.clip(_WORK // cost_b.size, 100, 500))
    whole = np.ones(cost_b.size, dtype=bool)
    flat = not np.isfinite(scores(whole)).all()
    inferences = [] if flat else jackknife(panel, spectrum, scores, groups=groups, seed=seed)
    score, balance = (one.estimate() for one in inferences) if inferences else map(Estimate, scores(whole))
    return Figures(
        mean=_own(average(panel, cost_b), scale, centre),
        spread=_own(_spread(panel, cost_b), scale),
        risk=_own(risk(panel, spectrum, cost_b), scale, centre),
        score_spread=score,
        reward_spread=None if reward_b is None else _spread(panel, reward_b).estimate(),
        balance=balance,
    )


def quantile_skewness(sample: ScoredSample, seed: int = 0) -> Estimate:
    """(q_h + q_l − 2 q_½) / (q_h − q_l) in [−1, 1]: above 0 the long tail is on the right.

    The levels h and l are 97.5 % and 2.5 %, or those with five prompts beyond them; with few prompts there is
    no interval.
    """
    panel, order = arranged(sample.prompts)
    beyond = min(max(0.025, EXPECTED / panel.prompts), 0.49)
    cost_b = sample.cost_b[order]
    level_k = np.array([beyond, 0.5, 1 - beyond])
    # What does not vary adds nothing to the draws.
    moved = difference(panel, np.zeros_like(cost_b), cost_b, level_k, seed=seed)
    draw_rk = np.concatenate([moved.value_k[None], moved.draw_rk])
    low_r, middle_r, high_r = draw_rk.T
    with np.errstate(divide="ignore", invalid="ignore"):
        skew_r = np.where(high_r > low_r, (high_r + low_r - 2 * middle_r) / (high_r - low_r), 0.0)
    if panel.prompts < 2 * EXPECTED:
        return Estimate(float(skew_r[0]))
    # A tail that leaves the data outweighs the other; where both do, nothing is known.
    skew_r = np.where(np.isinf(high_r), 1.0, np.where(np.isinf(low_r), -1.0, skew_r))
    least_r = np.where(np.isinf(low_r), -1.0, skew_r)
    low, high = np.quantile(least_r[1:], 0.025), np.quantile(skew_r[1:], 0.975)
    return Estimate(float(skew_r[0]), float(low), float(high))


def _own(inference: Inference, scale: float, centre: float = 0.0) -> Estimate:
    """In the cost's own unit."""
    one = inference.estimate()
    low, high = (None if end is None else centre + scale * end for end in (one.low, one.high))
    return Estimate(centre + scale * one.value, low, high)


def _spread(panel: Panel, value_b: Array) -> Inference:
    """The standard deviation σ of centred values, whose influence function is (x² − σ²)/(2σ)."""
    spread = float(value_b.std())
    return of_influence(panel, MEAN, spread, (value_b**2 - spread**2) / (2 * max(spread, 1e-300)))


def _score_spread(ordered: Array, sampled: SampledSpectrum, gradient: Gradient, tails: Tails) -> float:
    """Standard deviation of s(c) over sorted costs with every quantile active; see :mod:`scores`."""
    size = ordered.size
    if gradient == "tilted":
        term = sampled.weight_n / size
    else:
        gap_g = tails.winsorised(np.diff(ordered), ordered)
        term = np.append(np.add(*gap_terms(gap_g, sampled)), 0.0)
        term *= 1 - 1 / size if gradient == "spacing" else 1.0
    # A score is what lies above; up to a constant, less what lies below.
    return float(placed(ordered, ordered, term - np.cumsum(term)).std())
