"""Reasons to doubt an evaluation: few prompts, saturated costs, a threshold that divides nothing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from openrlhf_rad.evaluation.compare import pairs, saturated
from openrlhf_rad.method.particles import saturation
from openrlhf_rad.method.spectrum import Spectrum
from openrlhf_rad.statistics.answers import Panel
from openrlhf_rad.statistics.inference import (
    DOMINANT,
    ENOUGH,
    INFINITE_VARIANCE,
    MINIMUM_PROMPTS,
    Inference,
    fall,
    prompts_needed,
)
from openrlhf_rad.words import number


def warnings(panel: Panel, names: Sequence[str], spectrum: Spectrum, threshold: float = 0.0) -> list[str]:
    """Reasons to doubt the numbers, and what is missing."""
    found = [*doubts(panel, names, spectrum), *thresholds(panel, names, threshold)]
    missing = [name for name in names if name not in panel.reward]
    if missing and panel.reward:
        found.append(f"no rewards of {', '.join(missing)}: nothing is split by reward where it takes part")
    return found


def doubts(panel: Panel, names: Sequence[str], spectrum: Spectrum) -> list[str]:
    """Reasons to doubt the intervals of one constraint."""
    if panel.prompts < MINIMUM_PROMPTS:
        return [f"{panel.prompts} prompts give no intervals; at least {MINIMUM_PROMPTS} are needed"]
    found = []
    for baseline, candidate in pairs(names):
        costs = panel.cost[baseline], panel.cost[candidate]
        if same := saturation(spectrum, *costs):
            # How many prompts it rests on is no matter then.
            found.append(f"{spectrum} cannot tell {candidate} from {baseline}: {saturated(same)}")
            continue
        found += [
            f"{baseline} and {candidate}: {text}" for text in _doubt(fall(panel, spectrum, *costs), spectrum)
        ]
    return found


def thresholds(panel: Panel, names: Sequence[str], threshold: float) -> list[str]:
    """What to tell where the threshold of safety divides no answers from others."""
    cost_b = np.concatenate([panel.cost[name] for name in names])
    if not cost_b.size or (cost_b <= threshold).any() != (cost_b <= threshold).all():
        return []
    which = "all answers are safe" if cost_b[0] <= threshold else "no answer is safe"
    return [
        f"{which}: costs lie from {number(float(cost_b.min()))} to {number(float(cost_b.max()))}, and an"
        f" answer is safe when its cost is at most {number(threshold)}; set evaluate.threshold in the"
        " profile, or --threshold, to what is harmless"
    ]


def _doubt(inference: Inference, spectrum: Spectrum) -> list[str]:
    found = []
    if not inference.rests_on(ENOUGH):
        needed = prompts_needed(inference, spectrum, ENOUGH)
        found.append(
            f"{spectrum} rests on {inference.effective:.0f} independent answers; below {ENOUGH} it has no"
            f" interval, for none would hold where tails are heavy; use about {needed} prompts"
        )
    elif inference.infinite:
        found.append(f"{spectrum} has no interval, for {INFINITE_VARIANCE.format(1 / inference.index)}")
    if inference.largest > DOMINANT:
        found.append(
            f"one prompt makes up {inference.largest:.0%} of the variance of the difference in risk, so its"
            " interval is not to be trusted; look at that prompt, and use more"
        )
    return found
