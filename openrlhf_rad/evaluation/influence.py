"""Spectral risks and means with the influence of each answer on them.

ρ_φ(F) = ∫ φ(t) F⁻¹(t) dt (the paper, Eq. (8)) is an L-statistic. Its influence function is
u(x) = H(x) − E H, H(x) = ∫^x φ(F(z)) dz (Huber 1981, §3.3): a sum over sorted spacings, no resampling.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from openrlhf_rad.evaluation.interval import Inference, Reliance, infer
from openrlhf_rad.evaluation.panel import Panel
from openrlhf_rad.method.spectrum import MEAN, Spectrum

Array = NDArray[np.float64]

#: A sample this many times as large whose heaviest weight is that much heavier: the weights rise beyond it.
BEYOND, RISE = 100, 1.2
#: The largest share of the answers that uneven weights count for: such risks see of a tail what a mean does
#: not, and on fewer answers the gate passes too often where blue's is heavier than red's.
UNEVEN = 0.25


def risk_influence(spectrum: Spectrum, cost_b: Array) -> tuple[float, Array]:
    """ρ_φ of the costs, and the influence of each, shape (B,), mean 0, in the cost's own units."""
    value_r, influence_rb = influences(spectrum, cost_b[None], np.argsort(cost_b, kind="stable")[None])
    return float(value_r[0]), influence_rb[0]


def influences(spectrum: Spectrum, cost_rb: Array, order_rb: NDArray[np.intp]) -> tuple[Array, Array]:
    """ρ_φ of several samples, shape (R,), and the influence of each cost, shape (R, B).

    Args:
        order_rb: the indices that sort each sample upwards; several spectra share them.
    """
    if spectrum == MEAN:
        value_r = cost_rb.mean(axis=1)
        return value_r, cost_rb - value_r[:, None]
    weight_n, density = _weights(spectrum, cost_rb.shape[1])
    ordered_rb = np.take_along_axis(cost_rb, order_rb, axis=1)
    step_rb = np.zeros_like(ordered_rb)
    np.cumsum(density * np.diff(ordered_rb, axis=1), axis=1, out=step_rb[:, 1:])
    step_rb -= step_rb.mean(axis=1, keepdims=True)
    influence_rb = np.empty_like(step_rb)
    np.put_along_axis(influence_rb, order_rb, step_rb, axis=1)
    return ordered_rb @ weight_n / weight_n.size, influence_rb


@lru_cache(maxsize=2)
def _weights(spectrum: Spectrum, size: int) -> tuple[Array, Array]:
    """Weights of the sorted answers, and φ at j/n, j = 1 … n − 1; both sides of a comparison share them."""
    # φ at j/n as its mean over a bin around it: right for steps (CVaR), and finite at 1 (Wang).
    density: Array = size * np.diff(spectrum.cumulative((np.arange(1, size + 1) - 0.5) / size))
    return spectrum.weights(size), density


@lru_cache(maxsize=64)
def reliance(spectrum: Spectrum, prompts: int, answers: int) -> Reliance:
    """What a spectral risk of so many answers rests on."""
    weight_n = spectrum.weights(answers)
    heaviest, even = float(weight_n.max()), float(1 / np.mean(weight_n**2))
    beyond = BEYOND * answers
    unseen = beyond * (1 - float(spectrum.cumulative(np.array([1 - 1 / beyond]))[0]))
    rising = unseen > RISE * heaviest
    share = 1.0 if heaviest < 1 + 1e-9 else min(1 / heaviest, UNEVEN)
    # Of bounded weights only the heaviest answers are a tail; of rising ones there is no such end.
    tail = 1.5 * math.sqrt(prompts * even) if rising else math.sqrt(prompts * share)
    return Reliance(share, round(tail), rising)


def risk(panel: Panel, spectrum: Spectrum, cost_b: Array) -> Inference:
    """The spectral risk of one model."""
    return _infer(panel, spectrum, *risk_influence(spectrum, cost_b))


def fall(panel: Panel, spectrum: Spectrum, red_b: Array, blue_b: Array) -> Inference:
    """ρ_φ(red) − ρ_φ(blue), paired by prompt: Table 3's weighted dominance difference (Eq. (16))."""
    red, blue = risk_influence(spectrum, red_b), risk_influence(spectrum, blue_b)
    return _infer(panel, spectrum, red[0] - blue[0], red[1] - blue[1])


def average(panel: Panel, value_b: Array) -> Inference:
    """The mean over answers, with the prompts as clusters."""
    return _infer(panel, MEAN, *risk_influence(MEAN, value_b))


def ratio(panel: Panel, value_b: Array, kept_b: NDArray[np.bool_]) -> Inference:
    """The mean over some answers, whose number is random too: a ratio, linearised."""
    count = int(kept_b.sum())
    value = float(value_b[kept_b].mean()) if count else float("nan")
    influence_b = np.where(kept_b, value_b - value, 0.0) / max(count, 1)
    size_p = panel.by_prompt(kept_b.astype(np.float64))
    held_p = size_p > 0
    held = reliance(MEAN, int(held_p.sum()), max(count, 1))
    influence_p = panel.by_prompt(influence_b)[held_p]
    return infer(value, influence_p, float(influence_b @ influence_b), size_p[held_p], held)


def prompts_needed(found: Inference, spectrum: Spectrum, least: float) -> int:
    """About how many prompts, each answered as often, make ρ_φ rest on that many independent answers."""
    prompts, rests = found.prompts, found.effective
    for _ in range(20):  # where the heaviest weight grows with the answers, each step falls short
        if rests >= least * (1 - 1e-6):
            break
        prompts = max(prompts + 1, math.ceil(round(prompts * least / rests, 3)))
        answers = round(prompts * found.answers / found.prompts)
        rests = answers * found.independent / found.answers * reliance(spectrum, prompts, answers).share
    return prompts


def _infer(panel: Panel, spectrum: Spectrum, value: float, influence_b: Array) -> Inference:
    scaled_b = influence_b / panel.answers
    held = reliance(spectrum, panel.prompts, panel.answers)
    return infer(value, panel.by_prompt(scaled_b), float(scaled_b @ scaled_b), panel.size_p, held)
