"""Risk spectra: how much each quantile of the cost counts (the paper, Eq. (8) and Table 1).

A spectrum is a density φ on [0, 1]; the spectral risk is ρ_φ(X) = ∫ φ(t) F_X⁻¹(t) dt. The particles of
the paper stand for bins of equal probability, so φ is integrated over each bin, never sampled at a
point: CVaR is then exact for every α and every number of particles.

Three kinds: a measure of Table 1 (here), steps and weighted sums (:mod:`openrlhf_rad.method.composed`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from openrlhf_rad.errors import ProfileError
from openrlhf_rad.method.measures import MEASURES, SYMBOLS, Array, Measure


class Spectrum(ABC):
    """A spectrum φ; frozen and hashable. `str` is its expression, which reads back as an equal one."""

    @abstractmethod
    def _density(self, t: Array) -> Array:
        """φ(t), t in [0, 1]."""

    @abstractmethod
    def _cumulative(self, t: Array) -> Array:
        """∫₀ᵗ φ, t in [0, 1], up to rounding."""

    @property
    @abstractmethod
    def coherent(self) -> bool:
        """Whether φ is non-decreasing, so that mixing two policies is never judged riskier than both."""

    @property
    @abstractmethod
    def formula(self) -> str:
        """φ(t) with the numbers put in, for display."""

    @abstractmethod
    def plain(self) -> dict[str, Any]:
        """The long form of a profile's risk: plain data that reads back as an equal spectrum."""

    def density(self, t: ArrayLike) -> Array:
        """φ(t) at levels t in [0, 1], same shape as t; infinite at 1 for Wang."""
        return self._density(np.asarray(t, dtype=np.float64))

    def cumulative(self, t: ArrayLike) -> Array:
        """G(t) = ∫₀ᵗ φ at levels t in [0, 1], same shape as t; exactly 0 at 0 and 1 at 1."""
        level = np.asarray(t, dtype=np.float64)
        inner = self._cumulative(level)
        return np.where(level <= 0, 0.0, np.where(level >= 1, 1.0, np.clip(inner, 0, 1)))

    def weights(self, n: int) -> Array:
        """weight_n, w_i = n [G(i/n) − G((i−1)/n)]: non-negative, mean 1. Shape (n,), no unit."""
        if n < 1:
            raise ValueError(f"n is {n}; a spectrum needs at least one particle")
        bin_n: Array = n * np.diff(self.cumulative(np.arange(n + 1) / n))
        return np.maximum(bin_n, 0.0)

    def risk(self, sample_b: ArrayLike) -> float:
        """ρ_φ of the empirical distribution of sample_b (Eq. (8)), exactly; in the sample's own units."""
        ordered = np.sort(np.asarray(sample_b, dtype=np.float64))
        return float(self.weights(ordered.size) @ ordered / ordered.size)


@dataclass(frozen=True)
class MeasureSpectrum(Spectrum):
    """A measure of Table 1 with its parameters, sorted by name. Build it with :func:`make_spectrum`."""

    measure: str
    parameters: tuple[tuple[str, float], ...] = ()

    def _density(self, t: Array) -> Array:
        return self._definition.density(t, **dict(self.parameters))

    def _cumulative(self, t: Array) -> Array:
        return self._definition.cumulative(t, **dict(self.parameters))

    @property
    def coherent(self) -> bool:
        """As Table 1 says: all but VaR."""
        return self._definition.coherent

    @property
    def formula(self) -> str:
        """The formula of Table 1 with the numbers put in."""
        return self._definition.formula.format(**dict(self.parameters))

    def plain(self) -> dict[str, Any]:
        """`{measure: cvar, alpha: 0.9}`."""
        return {"measure": self.measure, **dict(self.parameters)}

    def __str__(self) -> str:
        return " ".join(
            [self.measure, *(f"{SYMBOLS[name]}={number_text(value)}" for name, value in self.parameters)]
        )

    @property
    def _definition(self) -> Measure:
        return MEASURES[self.measure]


MEAN = MeasureSpectrum("mean")


def make_spectrum(measure: str, **parameters: float) -> MeasureSpectrum:
    """The spectrum of a measure of Table 1; raises ProfileError for a wrong name, parameter or value."""
    if measure not in MEASURES:
        raise ProfileError(
            f"measure is {measure}; it must be one of {', '.join(MEASURES)}; for instance cvar"
        )
    known = MEASURES[measure].parameters
    problems = [
        f"{name} is not a parameter of {measure}; remove it" for name in parameters if name not in known
    ]
    values: list[tuple[str, float]] = []
    for name, parameter in sorted(known.items()):
        value = parameters.get(name, parameter.default)
        if value is None:
            problems.append(f"{name} is missing; it must lie in {parameter.range}; {parameter.advice}")
        elif value not in parameter.range:
            problems.append(f"{name} is {value:g}; it must lie in {parameter.range}; {parameter.advice}")
        else:
            values.append((name, float(value)))
    if problems:
        raise ProfileError(problems)
    return MeasureSpectrum(measure, tuple(values))


def number_text(value: float) -> str:
    """The shortest text that reads back as exactly this number: 3, 0.9, 1e-05."""
    return repr(float(value)).removesuffix(".0")
