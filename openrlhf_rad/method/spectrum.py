"""Risk spectra: how much each quantile of the cost counts (the paper, Eq. (8) and Table 1).

A spectrum is a density φ on [0, 1]; the spectral risk is ρ_φ(X) = ∫ φ(t) F_X⁻¹(t) dt. The particles of
the paper stand for bins of equal probability, so φ is integrated over each bin, never sampled at a
point: CVaR is then exact for every α and every number of particles.

Three kinds: a measure of Table 1, which is an entry of :data:`MEASURES`, steps of constant height, and
weighted sums of others. All stay in the class of Eq. (8): a non-decreasing step function with integral 1 is a
spectrum, and so is a convex sum.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from openrlhf_rad.errors import ProfileError

Array = NDArray[np.float64]
Curve = Callable[..., Any]

#: More steps than a person writes; a curve that needs more is a measure of its own.
MAX_STEPS = 100
#: Every member costs an evaluation of φ; no sensible appetite has more.
MAX_MEMBERS = 20
#: Weights are typed by hand: 1/3 as 0.333333333 is meant.
_SUM_TOLERANCE = 1e-9
# The weight beyond a level that counts as none, as in the far tail of a smoothed VaR.
_NO_WEIGHT = 1e-9


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


def _var_density(t: Array, alpha: float, bandwidth: float) -> Array:
    inside = 0.5 * (
        math.erf((1 - alpha) / bandwidth / math.sqrt(2)) + math.erf(alpha / bandwidth / math.sqrt(2))
    )
    z = (t - alpha) / bandwidth
    return np.asarray(np.exp(-0.5 * z * z) / (bandwidth * math.sqrt(2 * math.pi) * inside))


def _var_cumulative(t: Array, alpha: float, bandwidth: float) -> Array:
    from scipy.special import ndtr  # noqa: PLC0415 - scipy would double the start-up time of the commands

    below = ndtr(-alpha / bandwidth)
    inside = ndtr((1 - alpha) / bandwidth) - below
    return np.asarray((ndtr((t - alpha) / bandwidth) - below) / inside)


def _wang_density(t: Array, eta: float) -> Array:
    from scipy.special import ndtri  # noqa: PLC0415 - see _var_cumulative

    # At η = 0 the ends would be 0·∞; the spectrum is the mean's.
    return np.ones_like(t) if eta == 0 else np.asarray(np.exp(eta * ndtri(t) - 0.5 * eta * eta))


def _wang_cumulative(t: Array, eta: float) -> Array:
    from scipy.special import ndtr, ndtri  # noqa: PLC0415 - see _var_cumulative

    return np.asarray(ndtr(ndtri(t) - eta))


_LEVEL = Parameter(Interval(0, 1, True, True), "for the worst 10 % use 0.9")

MEASURES: dict[str, Measure] = {
    "mean": Measure({}, np.ones_like, lambda t: t, "φ(t) = 1", "mean"),
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
        lambda t, alpha: np.where(t >= alpha, 1 / (1 - alpha), 0.0),
        lambda t, alpha: np.maximum(t - alpha, 0) / (1 - alpha),
        "φ(t) = 1{{t ≥ {alpha:g}}} / (1 − {alpha:g})",
        "cvar α=0.9",
    ),
    "linear": Measure({}, lambda t: 2 * t, lambda t: t * t, "φ(t) = 2t", "linear"),
    "exponential": Measure(
        {
            "kappa": Parameter(
                Interval(0, math.inf, low_open=True), "larger is more averse to the tail; 3 is moderate"
            )
        },
        lambda t, kappa: -kappa * np.exp(-kappa * (1 - t)) / math.expm1(-kappa),
        # The textbook difference of exponentials cancels for small κ; this product does not.
        lambda t, kappa: np.exp(-kappa * (1 - t)) * np.expm1(-kappa * t) / math.expm1(-kappa),
        "φ(t) = {kappa:g} e^(−{kappa:g}(1−t)) / (1 − e^(−{kappa:g}))",
        "exponential κ=3",
    ),
    "power": Measure(
        {"gamma": Parameter(Interval(1, math.inf), "1 is the mean and 2 is linear")},
        lambda t, gamma: gamma * t ** (gamma - 1),
        lambda t, gamma: t**gamma,
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


class SampledSpectrum(NamedTuple):
    """A spectrum on n sorted samples: what each of them counts, and each gap between two. No unit.

    The gap above sample i lies at the level i/n; without another sample at i/(n − 1) or (i − 1)/(n − 1).

    Attributes:
        weight_n: w_i = n [G(i/n) − G((i − 1)/n)]: non-negative, mean 1.
        above_g: n [G(i/n) − G((i − 1)/(n − 1))], what a gap gives the samples below it when one is left out.
        below_g: n [G(i/(n − 1)) − G(i/n)], what it takes from those above it.
        density_g: n [G((i + ½)/n) − G((i − ½)/n)], the mean of φ around the gap.
    """

    weight_n: Array
    above_g: Array
    below_g: Array
    density_g: Array


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

    def sampled(self, n: int) -> SampledSpectrum:
        """The spectrum on n samples; of the gaps each shape (n − 1,)."""
        weight_n = self.weights(n)
        edge_n = self.cumulative(np.arange(n) / max(n - 1, 1))
        level_g = self.cumulative(np.arange(1, n) / n)
        above_g, below_g = n * (level_g - edge_n[:-1]), n * (edge_n[1:] - level_g)
        return SampledSpectrum(
            weight_n, above_g, below_g, n * np.diff(self.cumulative((np.arange(n) + 0.5) / n))
        )

    def risk(self, sample_b: ArrayLike) -> float:
        """ρ_φ of the empirical distribution of sample_b (Eq. (8)), exactly; in the sample's own units."""
        ordered = np.sort(np.asarray(sample_b, dtype=np.float64))
        return float(self.weights(ordered.size) @ ordered / ordered.size)

    @lru_cache(maxsize=64)  # noqa: B019 - spectra are few and frozen
    def least_size(self) -> int:
        """The fewest answers of which more than the worst one counts: 1/(1 − α) and one for CVaR_α."""

        # The weight below the top one, G(1 − 1/n), grows with n: double, then bisect.
        def counts(n: int) -> bool:
            return float(self.cumulative(1 - 1 / n)) > _NO_WEIGHT

        high = 2
        while not counts(high):
            high *= 2
        return bisect_left(range(high + 1), True, lo=2, key=counts)

    @lru_cache(maxsize=64)  # noqa: B019
    def lowest_level(self) -> float:
        """The level below which it puts no weight: α of CVaR_α, 0 of the mean."""
        low, high = 0.0, 1.0
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (middle, high) if float(self.cumulative(middle)) <= _NO_WEIGHT else (low, middle)
        return low


@dataclass(frozen=True)
class MeasureSpectrum(Spectrum):
    """A measure of Table 1 with its parameters, sorted by name. Build it with :func:`make_spectrum`."""

    measure: str
    parameters: tuple[tuple[str, float], ...] = ()

    @property
    def _definition(self) -> Measure:
        return MEASURES[self.measure]

    def _density(self, t: Array) -> Array:
        return np.asarray(self._definition.density(t, **dict(self.parameters)))

    def _cumulative(self, t: Array) -> Array:
        return np.asarray(self._definition.cumulative(t, **dict(self.parameters)))

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


@dataclass(frozen=True)
class Piecewise(Spectrum):
    """φ constant on steps: (level from which, relative height); see :func:`make_piecewise`."""

    steps: tuple[tuple[float, float], ...]

    def _density(self, t: Array) -> Array:
        level_k, height_k, _ = self._curve()
        return np.asarray(height_k[np.searchsorted(level_k[:-1], t, side="right") - 1])

    def _cumulative(self, t: Array) -> Array:
        level_k, _, mass_k = self._curve()
        return np.asarray(np.interp(t, level_k, mass_k))

    def _curve(self) -> tuple[Array, Array, Array]:
        """Levels with 1 at the end, the heights that make the integral 1, and the integral at each level."""
        step_k = np.array(self.steps)
        level_k = np.append(step_k[:, 0], 1.0)
        # Only ratios count; heights relative to the last, the largest, cannot overflow.
        relative_k = step_k[:, 1] / step_k[-1, 1]
        mass_k = np.concatenate([[0.0], np.cumsum(relative_k * np.diff(level_k))])
        return level_k, relative_k / mass_k[-1], mass_k / mass_k[-1]

    @property
    def coherent(self) -> bool:
        """Always: the heights never fall."""
        return True

    @property
    def formula(self) -> str:
        """The normalised heights and where each begins."""
        level_k, height_k, _ = self._curve()
        pieces = zip(height_k, level_k[:-1], strict=True)
        return "φ(t) = " + ", ".join(f"{height:.4g} from t = {level:.12g}" for height, level in pieces)

    def plain(self) -> dict[str, Any]:
        """`{piecewise: [[0, 0.2], [0.9, 1]]}`."""
        return {"piecewise": [list(step) for step in self.steps]}

    def __str__(self) -> str:
        pairs = (f"{number_text(level)}={number_text(height)}" for level, height in self.steps)
        return " ".join(["piecewise", *pairs])


@dataclass(frozen=True)
class Mixture(Spectrum):
    """φ = Σ weight · φ_member; see :func:`make_mixture`. Members are not mixtures themselves."""

    members: tuple[tuple[float, Spectrum], ...]

    def _density(self, t: Array) -> Array:
        return np.asarray(sum(share * member.density(t) for share, member in self._shares()))

    def _cumulative(self, t: Array) -> Array:
        return np.asarray(sum(share * member.cumulative(t) for share, member in self._shares()))

    def _shares(self) -> list[tuple[float, Spectrum]]:
        """Weights scaled to sum 1; a member of weight 0 is left out, for 0 · ∞ is not a number."""
        total = math.fsum(weight for weight, _ in self.members)
        return [(weight / total, member) for weight, member in self.members if weight > 0]

    @property
    def coherent(self) -> bool:
        """Whether every member with weight is; that others outweigh a falling one is not looked for."""
        return all(member.coherent for _, member in self._shares())

    @property
    def formula(self) -> str:
        """The members' formulas with their weights."""
        terms = (f"{w:.12g}·[{m.formula.removeprefix('φ(t) = ')}]" for w, m in self.members)
        return "φ(t) = " + " + ".join(terms)

    def plain(self) -> dict[str, Any]:
        """`{mixture: [{weight: 0.8, measure: cvar, alpha: 0.9}, {weight: 0.2, measure: mean}]}`."""
        return {"mixture": [{"weight": weight, **member.plain()} for weight, member in self.members]}

    def __str__(self) -> str:
        return " + ".join(f"{number_text(weight)}*{member}" for weight, member in self.members)


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


def make_piecewise(steps: Sequence[Sequence[float]]) -> Piecewise:
    """The step spectrum of pairs (level from which, relative height), scaled to integral 1.

    Raises:
        ProfileError: every broken rule of :func:`step_flaws`.
    """
    pairs = tuple((float(level), float(height)) for level, height in steps)
    _raise(list(step_flaws(pairs)))
    return Piecewise(tuple((level + 0.0, height + 0.0) for level, height in pairs))  # no −0


def make_mixture(members: Sequence[tuple[float, Spectrum]]) -> Spectrum:
    """Σ weight · spectrum, weights ≥ 0 that sum to 1; mixtures among the members are multiplied out.

    A mixture of one is its member. Raises ProfileError with every broken rule of :func:`weight_flaws`.
    """
    flat: list[tuple[float, Spectrum]] = []
    for weight, member in members:
        parts = member._shares() if isinstance(member, Mixture) else [(1.0, member)]
        flat += [(float(weight) * part + 0.0, spectrum) for part, spectrum in parts]
    _raise(list(weight_flaws([weight for weight, _ in flat])))
    return flat[0][1] if len(flat) == 1 else Mixture(tuple(flat))


class Flaw(NamedTuple):
    """What is wrong with one number of a spectrum: its place in the long form, value, rule and fix."""

    path: str
    value: str
    rule: str
    fix: str


def step_flaws(steps: Sequence[tuple[float, float]]) -> Iterator[Flaw]:
    """What is wrong with the steps of a piecewise spectrum, in order."""
    if not 1 <= len(steps) <= MAX_STEPS:
        rule, fix = f"it must hold 1 to {MAX_STEPS}", "write for instance [[0, 0.2], [0.9, 1]]"
        yield Flaw("piecewise", f"a list of {len(steps)} steps", rule, fix)
        return
    before_level, before_height = -math.inf, 0.0
    for index, (level, height) in enumerate(steps):
        yield from _level_flaws(index, level, before_level)
        path, value = f"piecewise.{index}.1", f"{height:.12g}"
        if not 0 <= height < math.inf:
            yield Flaw(path, value, "a height must be ≥ 0 and finite", "heights are relative to each other")
        elif height < before_height:
            rule = f"heights must not fall (the one before is {before_height:.12g})"
            yield Flaw(path, value, rule, "worse costs never count less; raise it or lower those before")
        before_level = level
        before_height = height if 0 <= height < math.inf else before_height
    if all(height == 0 for _, height in steps):
        yield Flaw(f"piecewise.{len(steps) - 1}.1", "0", "one height must be positive", "write 1")


def _level_flaws(index: int, level: float, before: float) -> Iterator[Flaw]:
    path, value = f"piecewise.{index}.0", f"{level:.12g}"
    if not 0 <= level < 1:
        yield Flaw(path, value, "a level must lie in [0, 1)", "for the worst 10 % use 0.9")
    elif index == 0 and level != 0:
        yield Flaw(
            path, value, "the first level must be 0", f"put [0, 0] before it to ignore costs below {value}"
        )
    elif level <= before:
        rule = f"levels must rise (the one before is {before:.12g})"
        yield Flaw(path, value, rule, "sort the steps, one a level")


def weight_flaws(weights: Sequence[float]) -> Iterator[Flaw]:
    """What is wrong with the weights of a mixture; a wrong sum shows weights that are right."""
    if not 1 <= len(weights) <= MAX_MEMBERS:
        rule, fix = f"it must hold 1 to {MAX_MEMBERS}", "put small ones together"
        yield Flaw("mixture", f"a list of {len(weights)} members", rule, fix)
        return
    wrong = [index for index, weight in enumerate(weights) if not 0 <= weight < math.inf]
    for index in wrong:
        rule, fix = "a weight must be ≥ 0 and finite", "raise this weight and lower another"
        yield Flaw(f"mixture.{index}.weight", f"{weights[index]:.12g}", rule, fix)
    if wrong or abs(sum(weights) - 1) <= _SUM_TOLERANCE:
        return
    given = ", ".join(f"{weight:.12g}" for weight in weights)
    rule = f"weights must sum to 1 (their sum is {sum(weights):.12g})"
    yield Flaw("mixture", f"weighted {given}", rule, f"write {', '.join(_normalised(weights))}")


def _normalised(weights: Sequence[float]) -> list[str]:
    """Weights in the same proportion that sum to 1 as printed; equal ones for nothing but zeros."""
    largest = max(weights)
    relative = [weight / largest if largest else 1.0 for weight in weights]
    billionth = [round(1e9 * weight / math.fsum(relative)) for weight in relative]
    billionth[relative.index(max(relative))] += 10**9 - sum(billionth)
    return [f"{part / 1e9:.9g}" for part in billionth]


def _raise(flaws: list[Flaw]) -> None:
    if flaws:
        raise ProfileError([f"{flaw.path} is {flaw.value}; {flaw.rule}; {flaw.fix}" for flaw in flaws])


def number_text(value: float) -> str:
    """The shortest text that reads back as exactly this number: 3, 0.9, 1e-05."""
    return repr(float(value)).removesuffix(".0")
