"""Spectra made of parts: steps of constant height, and weighted sums of other spectra.

Both stay in the class of Eq. (8): a non-decreasing step function with integral 1 is a spectrum, and so
is a convex combination of spectra.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from openrlhf_rad.errors import ProfileError
from openrlhf_rad.method.measures import Array
from openrlhf_rad.method.spectrum import Spectrum, number_text

#: More steps than a person writes; a curve that needs more is a measure of its own.
MAX_STEPS = 100
#: Every member costs an evaluation of φ; no sensible appetite has more.
MAX_MEMBERS = 20
#: Weights are typed by hand: 1/3 as 0.333333333 is meant.
_SUM_TOLERANCE = 1e-9


class Flaw(NamedTuple):
    """What is wrong with one number of a spectrum: its place in the long form, value, rule and fix."""

    path: str
    value: str
    rule: str
    fix: str


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
    """φ = Σ weight · φ_member; see :func:`make_mixture`. Members are no mixtures themselves."""

    members: tuple[tuple[float, Spectrum], ...]

    def _density(self, t: Array) -> Array:
        return np.asarray(sum(share * member.density(t) for share, member in self._shares()))

    def _cumulative(self, t: Array) -> Array:
        return np.asarray(sum(share * member.cumulative(t) for share, member in self._shares()))

    def _shares(self) -> list[tuple[float, Spectrum]]:
        """Weights scaled to sum 1; a member of weight 0 is left out, for 0 · ∞ is no number."""
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
