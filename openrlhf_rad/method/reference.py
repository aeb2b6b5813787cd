"""The sample of reference costs: its file, what it must hold, and what a constraint asks of it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from openrlhf_rad.errors import CostError, ReferenceCostError
from openrlhf_rad.method.constraint import FORMS, Form
from openrlhf_rad.method.particles import as_costs
from openrlhf_rad.method.settings import MINIMUM_REFERENCE, Constraint, ConstraintSettings
from openrlhf_rad.method.spectrum import SampledSpectrum, Spectrum

Array = NDArray[np.float64]

#: An ask for more than this share of all that is possible leaves a policy no choice.
MOST_SHARE = 0.8
#: So many reference answers must cost more than the least for a fall towards it to mean anything.
LEAST_COSTLY = 5


@dataclass(frozen=True, eq=False)
class Ask:
    """A constraint resolved on reference costs, all in the cost's own units.

    Attributes:
        settings, risk: whose ask it is.
        reference_r: the costs, sorted, shape (N,).
        spectrum: the one that is bounded. sampled: the same on N samples.
        level: ε, τ or d. margin: m.
        shift: by how much quantiles of the reference move, down to `least` at most. Those that cannot fall by
            m leave their part to the others, so that the risk of the shifted reference still lies m lower:
            ρ_w(C_0) − ρ_w(max(C_0 − shift, least)) = m. It is m where all can, and for `improvement`.
        least: the least cost that is possible, or was seen.
        fall: δ. reach: R.
    """

    settings: ConstraintSettings
    risk: Spectrum
    reference_r: Array
    spectrum: Spectrum
    sampled: SampledSpectrum
    level: float
    margin: float
    shift: float
    least: float
    fall: float
    reach: float

    @property
    def form(self) -> Form:
        """Of the constraint."""
        return FORMS[self.settings.form]

    @property
    def feasible(self) -> bool:
        """Whether a policy could meet it whose every answer costs the least."""
        return self.fall <= self.reach * (1 + 1e-9)

    @property
    def key(self) -> str:
        """The key of a profile that says how much is asked."""
        return "constraint.margin" if self.form.by_margin else "constraint.level"

    def asking(self, fall: float) -> float:
        """The value of that key, in the cost's own units, that asks for another fall."""
        given = self.margin if self.form.by_margin else self.level
        return self.form.asking(given, self.fall, fall)

    @property
    def refusal(self) -> str:
        """Why no policy can meet it, and what could be asked."""
        what = f"risk {self.risk}" if self.form.weighted else self.form.measured
        seen = "seen" if self.settings.floor is None else "possible"
        lower = "; if answers can cost less, write constraint.floor" if self.settings.floor is None else ""
        return (
            f"no policy can meet the constraint: it asks that the {what} fall by {self.fall:.4g}, and it"
            f" would fall by {self.reach:.4g} if every answer cost {self.least:.4g}, the least {seen}; the"
            f" most that can be asked is {self.key}: {self.asking(self.reach):.4g}; to ask for half of it,"
            f" write {self.key}: {self.asking(self.reach / 2):.4g}{lower}"
        )

    @property
    def rare(self) -> str:
        """Why a fall that a handful of answers decides is not asked; empty where there are enough."""
        costly, size = int((self.reference_r > self.least).sum()), self.reference_r.size
        if costly >= LEAST_COSTLY or self.fall <= 0:
            return ""
        return (
            f"reference costs above {self.least:.4g}, the least: {costly} of {size}; a fall of"
            f" {self.fall:.4g} is asked, which must rest on {LEAST_COSTLY} at least; take reference.samples:"
            f" {math.ceil(2 * LEAST_COSTLY * size / max(costly, 1))}, or prompts that draw more of them"
        )


def resolve(settings: ConstraintSettings, risk: Spectrum, cost_r: ArrayLike) -> Ask:
    """What a constraint asks of reference costs in any order.

    Raises:
        ReferenceCostError: a share of a risk ≤ 0, or a cost below `constraint.floor`.
    """
    form, ordered = FORMS[settings.form], np.sort(np.asarray(cost_r, dtype=np.float64))
    spectrum = form.spectrum(risk)
    sampled = spectrum.sampled(ordered.size)
    least, present = least_cost(settings, ordered), form.figure(ordered, sampled.weight_n)
    level = form.level(settings.level, ordered, present)
    margin = settings.margin.resolve(ordered, present) if form.pairs else 0.0
    fall, reach = form.fall(level, margin, present), present - least
    level, shift = form.shift(level, margin, reach, ordered - least, sampled.weight_n)
    return Ask(settings, risk, ordered, spectrum, sampled, level, margin, shift, least, fall, reach)


def least_reference(constraint: Constraint) -> int:
    """The fewest reference costs that say anything of a constraint."""
    weighted = FORMS[constraint.settings.form].weighted
    return max(MINIMUM_REFERENCE, constraint.risk.least_size() if weighted else 0)


def checked_costs(constraint: Constraint, costs: ArrayLike) -> Array:
    """The reference costs of a constraint, sorted, shape (N,).

    Raises:
        ReferenceCostError: too few, constant or non-finite costs.
    """
    try:
        cost_r = np.sort(as_costs(costs))
    except CostError as error:
        raise ReferenceCostError(f"reference costs: {error}") from None
    needed = least_reference(constraint)
    if cost_r.size < needed:
        raise ReferenceCostError(
            f"there are {cost_r.size} reference costs; {constraint.risk} needs at least {needed}, or the"
            f" worst one alone would count; sample more, for instance reference.samples: {max(256, needed)}"
        )
    largest = float(np.abs(cost_r).max())
    if not cost_r.std() > 1e-12 * largest:
        raise ReferenceCostError(
            f"all {cost_r.size} reference costs are {cost_r[0]:g}; a constraint on a distribution needs costs"
            " that differ; check that the cost source answers each response on its own"
        )
    return cost_r


def least_cost(settings: ConstraintSettings, cost_r: Array) -> float:
    """The floor of the profile, or the least cost seen. Raises ReferenceCostError for a cost below it."""
    seen = float(cost_r.min())
    if settings.floor is None or settings.floor <= seen:
        return seen if settings.floor is None else settings.floor
    raise ReferenceCostError(
        f"constraint.floor is {settings.floor:g} and an answer of the reference costs {seen:g}; the floor is"
        f" the least cost that is possible; write {seen:g} or less, or leave it out"
    )


def read_costs(path: str | Path) -> Array:
    """The costs of an ``.npz`` (array ``costs``), ``.npy`` or text file (one cost a line), shape (N,).

    Raises:
        ReferenceCostError: no such file, no array ``costs``, or nothing that reads as numbers.
    """
    file = Path(path)
    try:
        if file.suffix == ".npz":
            with np.load(file, allow_pickle=False) as arrays:
                raw = arrays["costs"]
        elif file.suffix == ".npy":
            raw = np.load(file, allow_pickle=False)
        else:
            raw = np.loadtxt(file)
        cost_r = np.asarray(raw, dtype=np.float64)
    except FileNotFoundError:
        raise ReferenceCostError(f"reference.file is {path}; there is no such file") from None
    except KeyError:
        raise ReferenceCostError(
            f"{path} has no array named 'costs'; save it as np.savez(file, costs=…)"
        ) from None
    except (ValueError, OSError) as cause:
        raise ReferenceCostError(f"{path} cannot be read as costs: {cause}") from cause
    if max(cost_r.shape, default=1) < cost_r.size:
        raise ReferenceCostError(
            f"{path} holds numbers of shape {cost_r.shape}; it must be one column of costs; save the costs"
            " alone"
        )
    return cost_r.reshape(-1)
