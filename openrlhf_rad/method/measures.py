"""The seven risk measures of Table 1: the density φ of each and its integral G(t) = ∫₀ᵗ φ.

A new measure is one entry of :data:`MEASURES`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Curve = Callable[..., Array]


@dataclass(frozen=True)
class Interval:
    """An interval of numbers with the text that error messages show."""

    low: float
    high: float
    low_open: bool = False
    high_open: bool = False

    def __contains__(self, value: float) -> bool:
        above = value > self.low if self.low_open else value >= self.low
        below = value < self.high if self.high_open else value <= self.high
        return above and below and math.isfinite(value)

    def __str__(self) -> str:
        high = f"{self.high:g}" if math.isfinite(self.high) else "∞"
        closing = ")" if self.high_open or high == "∞" else "]"
        low = f"{self.low:g}" if math.isfinite(self.low) else "−∞"
        return f"{'(' if self.low_open else '['}{low}, {high}{closing}"


@dataclass(frozen=True)
class Parameter:
    """One parameter of a measure: its range, the advice of its error message, and its default if any."""

    range: Interval
    advice: str
    default: float | None = None


@dataclass(frozen=True)
class Measure:
    """A family of spectra: density φ and its integral G, both called with t and the parameters."""

    parameters: Mapping[str, Parameter]
    density: Curve
    cumulative: Curve
    formula: str
    example: str
    coherent: bool = True


def _mean_density(t: Array) -> Array:
    return np.ones_like(t)


def _mean_cumulative(t: Array) -> Array:
    return t


def _var_cumulative(t: Array, alpha: float, bandwidth: float) -> Array:
    from scipy.special import ndtr  # noqa: PLC0415 - scipy would double the start-up time of the commands

    below = ndtr(-alpha / bandwidth)
    inside = ndtr((1 - alpha) / bandwidth) - below
    return np.asarray((ndtr((t - alpha) / bandwidth) - below) / inside)


def _var_density(t: Array, alpha: float, bandwidth: float) -> Array:
    inside = 0.5 * (
        math.erf((1 - alpha) / bandwidth / math.sqrt(2)) + math.erf(alpha / bandwidth / math.sqrt(2))
    )
    z = (t - alpha) / bandwidth
    return np.asarray(np.exp(-0.5 * z * z) / (bandwidth * math.sqrt(2 * math.pi) * inside))


def _cvar_density(t: Array, alpha: float) -> Array:
    return np.where(t >= alpha, 1 / (1 - alpha), 0.0)


def _cvar_cumulative(t: Array, alpha: float) -> Array:
    return np.maximum(t - alpha, 0) / (1 - alpha)


def _exponential_density(t: Array, kappa: float) -> Array:
    return np.asarray(-kappa * np.exp(-kappa * (1 - t)) / math.expm1(-kappa))


def _exponential_cumulative(t: Array, kappa: float) -> Array:
    # The textbook difference of exponentials cancels for small κ; this product does not.
    return np.asarray(np.exp(-kappa * (1 - t)) * np.expm1(-kappa * t) / math.expm1(-kappa))


def _power_density(t: Array, gamma: float) -> Array:
    return np.asarray(gamma * t ** (gamma - 1))


def _power_cumulative(t: Array, gamma: float) -> Array:
    return np.asarray(t**gamma)


def _wang_density(t: Array, eta: float) -> Array:
    from scipy.special import ndtri  # noqa: PLC0415 - see _var_cumulative

    # At η = 0 the ends would be 0·∞; the spectrum is the mean's.
    return np.ones_like(t) if eta == 0 else np.asarray(np.exp(eta * ndtri(t) - 0.5 * eta * eta))


def _wang_cumulative(t: Array, eta: float) -> Array:
    from scipy.special import ndtr, ndtri  # noqa: PLC0415 - see _var_cumulative

    return np.asarray(ndtr(ndtri(t) - eta))


_LEVEL = Parameter(Interval(0, 1, True, True), "for the worst 10 % use 0.9")
_POSITIVE = Interval(0, math.inf, low_open=True)

MEASURES: dict[str, Measure] = {
    "mean": Measure({}, _mean_density, _mean_cumulative, "φ(t) = 1", "mean"),
    "var": Measure(
        {
            "alpha": _LEVEL,
            # Narrow enough to stay beside α = 0.9, wide enough to hold several of 64 particles.
            "bandwidth": Parameter(Interval(0, 1, low_open=True), "0.05 is the default", default=0.05),
        },
        _var_density,
        _var_cumulative,
        "φ(t) = N(t; {alpha:g}, {bandwidth:g}²) truncated to [0, 1]",
        "var α=0.9",
        coherent=False,
    ),
    "cvar": Measure(
        {"alpha": _LEVEL},
        _cvar_density,
        _cvar_cumulative,
        "φ(t) = 1{{t ≥ {alpha:g}}} / (1 − {alpha:g})",
        "cvar α=0.9",
    ),
    "linear": Measure({}, lambda t: 2 * t, lambda t: t * t, "φ(t) = 2t", "linear"),
    "exponential": Measure(
        {"kappa": Parameter(_POSITIVE, "larger is more averse to the tail; 3 is moderate")},
        _exponential_density,
        _exponential_cumulative,
        "φ(t) = {kappa:g} e^(−{kappa:g}(1−t)) / (1 − e^(−{kappa:g}))",
        "exponential κ=3",
    ),
    "power": Measure(
        {"gamma": Parameter(Interval(1, math.inf), "1 is the mean and 2 is linear")},
        _power_density,
        _power_cumulative,
        "φ(t) = {gamma:g} t^({gamma:g} − 1)",
        "power γ=3",
    ),
    "wang": Measure(
        {"eta": Parameter(Interval(0, math.inf), "0 is the mean; 0.75 is moderate")},
        _wang_density,
        _wang_cumulative,
        "φ(t) = exp({eta:g} Φ⁻¹(t) − {eta:g}²/2)",
        "wang η=0.75",
    ),
}

ALIASES = {"α": "alpha", "h": "bandwidth", "κ": "kappa", "γ": "gamma", "η": "eta"}
SYMBOLS = {name: symbol for symbol, name in ALIASES.items()}
