"""Spectral risks and means with the influence of each answer on them.

ρ_φ(F) = ∫ φ(t) F⁻¹(t) dt (the paper, Eq. (8)) is an L-statistic. Its influence function is
u(x) = H(x) − E H, H(x) = ∫^x φ(F(z)) dz (Huber 1981, §3.3): a sum over sorted spacings, no resampling.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from openrlhf_rad.evaluation.interval import Inference, infer
from openrlhf_rad.evaluation.panel import Panel
from openrlhf_rad.spectrum import MEAN, Spectrum

Array = NDArray[np.float64]


def risk_influence(spectrum: Spectrum, cost_b: Array) -> tuple[float, Array]:
    """ρ_φ of the costs, and the influence of each, shape (B,), mean 0, in the cost's own units."""
    size = cost_b.size
    if spectrum == MEAN:
        value = float(cost_b.mean())
        return value, cost_b - value
    order = np.argsort(cost_b, kind="stable")
    ordered = cost_b[order]
    weight_n, density = _weights(spectrum, size)
    value = float(weight_n @ ordered / size)
    step_b = np.concatenate([[0.0], np.cumsum(density * np.diff(ordered))])
    influence = np.empty(size)
    influence[order] = step_b - step_b.mean()
    return value, influence


@lru_cache(maxsize=2)
def _weights(spectrum: Spectrum, size: int) -> tuple[Array, Array]:
    """Weights of the sorted answers, and φ at j/n, j = 1 … n − 1; both sides of a comparison share them."""
    # φ at j/n as its mean over a bin around it: right for steps (CVaR), and finite at 1 (Wang).
    density: Array = size * np.diff(spectrum.cumulative((np.arange(1, size + 1) - 0.5) / size))
    return spectrum.weights(size), density


@lru_cache(maxsize=64)
def effective_share(spectrum: Spectrum) -> float:
    """1/∫φ², the share of the answers that a spectral risk rests on: 1 for the mean, 1 − α for CVaR_α."""
    weight_n = spectrum.weights(100_000)
    return float(1 / np.mean(weight_n**2))


def risk(panel: Panel, spectrum: Spectrum, cost_b: Array) -> Inference:
    """The spectral risk of one model."""
    value, influence_b = risk_influence(spectrum, cost_b)
    return _infer(panel, value, influence_b, effective_share(spectrum))


def fall(panel: Panel, spectrum: Spectrum, red_b: Array, blue_b: Array) -> Inference:
    """ρ_φ(red) − ρ_φ(blue), paired by prompt: Table 3's weighted dominance difference (Eq. (16))."""
    red, blue = risk_influence(spectrum, red_b), risk_influence(spectrum, blue_b)
    return _infer(panel, red[0] - blue[0], red[1] - blue[1], effective_share(spectrum))


def average(panel: Panel, value_b: Array) -> Inference:
    """The mean over answers, with the prompts as clusters."""
    value = float(value_b.mean())
    return _infer(panel, value, value_b - value)


def ratio(panel: Panel, value_b: Array, kept_b: NDArray[np.bool_]) -> Inference:
    """The mean over some answers, whose number is random too: a ratio, linearised."""
    count = int(kept_b.sum())
    value = float(value_b[kept_b].mean()) if count else float("nan")
    influence_b = np.where(kept_b, value_b - value, 0.0) / max(count, 1)
    held_p = panel.by_prompt(kept_b.astype(np.float64)) > 0
    return infer(value, panel.by_prompt(influence_b)[held_p], float(influence_b @ influence_b), count)


def _infer(panel: Panel, value: float, influence_b: Array, share: float = 1.0) -> Inference:
    scaled_b = influence_b / panel.answers
    return infer(value, panel.by_prompt(scaled_b), float(scaled_b @ scaled_b), panel.answers, share)
