"""One evaluation as data: every model, pair, segment and constraint; the content of eval.json.

The numbers are of the first constraint's cost and risk on all prompts; :mod:`.bounds` has those of each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from openrlhf_rad.discrete import few_values
from openrlhf_rad.method.particles import Saturation, saturation
from openrlhf_rad.method.spectrum import MEAN, Spectrum
from openrlhf_rad.statistics.answers import Panel
from openrlhf_rad.statistics.curves import Curve, difference, quantile_curve, quantile_levels
from openrlhf_rad.statistics.dominance import barrett_donald, davidson_duclos, gaps
from openrlhf_rad.statistics.inference import (
    METHOD,
    Estimate,
    Inference,
    average,
    fall,
    ratio,
    risk,
)
from openrlhf_rad.statistics.shares import share_estimate
from openrlhf_rad.words import number

Array = NDArray[np.float64]


def safety(
    panel: Panel, baseline: str, candidate: str, threshold: float, confidence: float
) -> dict[str, Any]:
    """Table 2: shares of safe answers (cost ≤ threshold); the candidate's, too, by whose reward is higher."""
    safe = {name: (panel.cost[name] <= threshold).astype(np.float64) for name in (baseline, candidate)}
    everything = np.ones(panel.answers, dtype=bool)

    def cell(name: str, kept_b: NDArray[np.bool_]) -> dict[str, Any]:
        count, hits = int(kept_b.sum()), int(safe[name][kept_b].sum())
        found = share_estimate(ratio(panel, safe[name], kept_b), confidence) if count else None
        return {"safe": found, "count": count, "safe_count": hits}

    table: dict[str, Any] = {"reward_higher": None, "reward_lower": None, "ties": None}
    if baseline in panel.reward and candidate in panel.reward:
        lead_b = panel.reward[candidate] - panel.reward[baseline]
        table["reward_higher"] = cell(candidate, lead_b > 0)
        table["reward_lower"] = cell(candidate, lead_b < 0)
        table["ties"] = int((lead_b == 0).sum())
    return table | {"candidate": cell(candidate, everything), "baseline": cell(baseline, everything)}


def reward_wins(panel: Panel, baseline: str, candidate: str, threshold: float) -> list[dict[str, Any]] | None:
    """Figure 1: how often the candidate's reward is higher, by who is safe; None without rewards."""
    if baseline not in panel.reward or candidate not in panel.reward:
        return None
    lead_b = panel.reward[candidate] - panel.reward[baseline]
    safe_baseline, safe_candidate = panel.cost[baseline] <= threshold, panel.cost[candidate] <= threshold
    cells = []
    for first, second in ((True, True), (True, False), (False, True), (False, False), (None, None)):
        kept_b = (
            np.ones(lead_b.size, bool)
            if first is None
            else (safe_baseline == first) & (safe_candidate == second)
        )
        wins, ties, count = (
            int((lead_b[kept_b] > 0).sum()),
            int((lead_b[kept_b] == 0).sum()),
            int(kept_b.sum()),
        )
        words = {True: "safe", False: "unsafe"}
        cells.append(
            {
                "cell": "overall" if first is None else f"{words[first]},{words[bool(second)]}",
                "baseline_safe": first,
                "candidate_safe": second,
                "wins": wins,
                "ties": ties,
                "count": count,
                "rate": wins / count if count else None,
            }
        )
    return cells


def safe_share(panel: Panel, name: str, threshold: float, confidence: float) -> Estimate:
    """The share of safe answers of one model."""
    safe_b = (panel.cost[name] <= threshold).astype(np.float64)
    return share_estimate(average(panel, safe_b), confidence)


def safe_gain(panel: Panel, baseline: str, candidate: str, threshold: float) -> Inference:
    """By how much the share of safe answers is larger for the candidate."""
    gain_b = (panel.cost[candidate] <= threshold).astype(np.float64) - (panel.cost[baseline] <= threshold)
    return average(panel, gain_b)


def ratings(panel: Panel, name: str, confidence: float) -> dict[str, Any] | None:
    """How many of a model's answers have each cost, and how many cost more, with its interval.

    None where the costs of all models are not few, as of flags and ratings, but a scale.
    """
    kinds, cost_b = few_values(*panel.cost.values()), panel.cost[name]
    more = [(cost_b > kind).astype(np.float64) for kind in kinds[:-1]]
    if not kinds:
        return None
    return {
        "cost": list(kinds),
        "share": [float((cost_b == kind).mean()) for kind in kinds],
        "more": [share_estimate(average(panel, more_b), confidence) for more_b in more],
    }


#: Levels between which dominance is tested for: beyond them no usual sample can tell.
RANGE = (0.05, 0.95)
METHODS = {
    "estimates": METHOD,
    "shares": "Wilson intervals on the effective number of answers, with t (Korn and Graubard 1998)",
    "quantiles": "simultaneous sup-t band of the distribution function, inverted; prompts as clusters",
    "gaps": "directional bootstrap of Fang and Santos (2019) on the joint process of both models",
    "tests": "Barrett and Donald (2003) with the covariance of paired clusters; Davidson and Duclos (2013)",
}


@dataclass(frozen=True)
class Analysis:
    """What an evaluation takes besides the answers; ``draws`` are those of the simulated processes."""

    threshold: float = 0.0
    confidence: float = 0.95
    draws: int = 2000
    seed: int = 0


def model_rows(
    panel: Panel, names: Sequence[str], spectrum: Spectrum, settings: Analysis
) -> list[dict[str, Any]]:
    """What there is to say about each model by itself."""
    rows = []
    for name in names:
        rewards = panel.reward.get(name)
        reward = None if rewards is None else average(panel, rewards).estimate(settings.confidence)
        found = model_costs(panel, name, spectrum, settings)
        rows.append({"name": name, "answers": panel.answers, **found, "reward": reward})
    return rows


def model_costs(panel: Panel, name: str, spectrum: Spectrum, settings: Analysis) -> dict[str, Any]:
    """The costs of one model."""
    cost_b, sure = panel.cost[name], settings.confidence
    curve = quantile_curve(panel, cost_b, sure, settings.draws, settings.seed)
    return {
        "safe": safe_share(panel, name, settings.threshold, sure),
        "mean": average(panel, cost_b).estimate(sure),
        "risk": risk(panel, spectrum, cost_b).estimate(sure),
        "quantiles": curve_row(curve, "cost"),
        "ratings": ratings(panel, name, sure),
    }


def pairs(names: Sequence[str]) -> list[tuple[str, str]]:
    """All pairs, the baseline first in its own; that of the first model with the last before the others."""
    return sorted(combinations(names, 2), key=lambda pair: pair != (names[0], names[-1]))


def comparison(
    panel: Panel,
    baseline: str,
    candidate: str,
    spectrum: Spectrum,
    settings: Analysis,
    *,
    own: Mapping[str, Spectrum] | None = None,
) -> dict[str, Any]:
    """Everything about one pair but its judge and the other constraints.

    Args:
        own: segment → its risk, where it is not that of all prompts.
    """
    risks = own or {}
    return {
        "baseline": baseline,
        "candidate": candidate,
        "safety": safety(panel, baseline, candidate, settings.threshold, settings.confidence),
        "reward_wins": reward_wins(panel, baseline, candidate, settings.threshold),
        **pair_costs(panel, baseline, candidate, spectrum, settings),
        "segments": [
            segment(panel, name, (baseline, candidate), risks.get(name, spectrum), settings)
            for name in panel.segments
        ],
        "judge": None,
    }


def saturated(same: Saturation) -> str:
    """Why two models cannot be told apart, and what would do it."""
    return (
        f"both sit at the largest cost that occurs, {number(same.cost)}, on all that is weighed; no number of"
        f" such prompts tells them apart; {same.advice}"
    )


def pair_costs(
    panel: Panel, baseline: str, candidate: str, spectrum: Spectrum, settings: Analysis
) -> dict[str, Any]:
    """How the costs of a pair compare: what depends on no reward."""
    sure = settings.confidence
    baseline_b, candidate_b = panel.cost[baseline], panel.cost[candidate]
    same = saturation(spectrum, baseline_b, candidate_b)
    gained = improvement(panel, baseline, candidate, spectrum, settings)
    moved = difference(panel, baseline_b, candidate_b, draws=settings.draws, seed=settings.seed)
    found = {
        name: gaps(kind, (baseline_b, candidate_b), moved, fall(panel, kind, baseline_b, candidate_b), sure)
        for name, kind in (("weighted", spectrum), ("unweighted", MEAN))
    }
    band = moved.within(quantile_levels(panel.prompts)).band(sure)
    return {
        "saturated": saturated(same) if same else None,
        # Table 3: the difference of both L_w is by Eq. (16) the fall of the risk, or of the mean.
        "dominance": {"weighted": gained["risk"], "unweighted": gained["mean"]},
        "gaps": found,
        "improvement": gained,
        "quantile_difference": curve_row(band, "value"),
        "tests": tests(panel, baseline, candidate, settings),
    }


def improvement(
    panel: Panel, baseline: str, candidate: str, spectrum: Spectrum, settings: Analysis
) -> dict[str, Estimate | None]:
    """By how much the candidate is better; positive is good for it."""
    sure = settings.confidence
    costs = panel.cost[baseline], panel.cost[candidate]
    rewards = [panel.reward[name] for name in (baseline, candidate) if name in panel.reward]
    return {
        "safe": safe_gain(panel, baseline, candidate, settings.threshold).estimate(sure),
        "mean": fall(panel, MEAN, *costs).estimate(sure),
        "risk": fall(panel, spectrum, *costs).estimate(sure),
        "reward": average(panel, rewards[1] - rewards[0]).estimate(sure) if len(rewards) == 2 else None,
    }


def tests(panel: Panel, baseline: str, candidate: str, settings: Analysis) -> list[dict[str, Any]]:
    """Both tests of first-order dominance, in both directions."""
    found = []
    for better, worse in ((candidate, baseline), (baseline, candidate)):
        costs = panel.cost[better], panel.cost[worse]
        words = better, worse
        found.append(barrett_donald(panel, *costs, words=words, draws=settings.draws, seed=settings.seed))
        found.append(davidson_duclos(panel, *costs, words=words, levels=RANGE))
    return [asdict(test) for test in found]


def segment(
    panel: Panel, name: str, pair: tuple[str, str], spectrum: Spectrum, settings: Analysis
) -> dict[str, Any]:
    """The main numbers of one segment."""
    part = panel.segment(panel.segments.index(name))
    baseline, candidate = pair
    sure = settings.confidence
    gained = improvement(part, baseline, candidate, spectrum, settings)
    return {
        "name": name,
        "prompts": part.prompts,
        "answers": part.answers,
        "risk": str(spectrum),
        "safe_baseline": safe_share(part, baseline, settings.threshold, sure),
        "safe_candidate": safe_share(part, candidate, settings.threshold, sure),
        **{f"improvement_{name}": gained[name] for name in ("mean", "risk", "reward")},
    }


def curve_row(curve: Curve, name: str) -> dict[str, list[float | None]]:
    """A curve as lists; what is not bounded is None."""

    def plain(value_k: Array) -> list[float | None]:
        return [float(value) if np.isfinite(value) else None for value in value_k]

    return {
        "level": [float(level) for level in curve.level_k],
        name: plain(curve.value_k),
        "low": plain(curve.low_k),
        "high": plain(curve.high_k),
    }


def jsonable(value: Any) -> Any:
    """Records as plain data for JSON: estimates as mappings, NaN refused by the writer."""
    if hasattr(value, "__dataclass_fields__"):
        return {key: jsonable(getattr(value, key)) for key in value.__dataclass_fields__}
    if isinstance(value, Mapping):
        return {key: jsonable(held) for key, held in value.items()}
    if isinstance(value, list | tuple):
        return [jsonable(held) for held in value]
    return value
