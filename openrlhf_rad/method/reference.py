"""Reference costs that a user brings along, and what a constraint asks of a sample of them.

The fall δ is by how much the risk (for `expected` the mean) must lie below the reference's, in the cost's own
units. No policy can lower it by more than R, the fall to the least cost that there is.

| form        | δ              | the most that can be asked |
|-------------|----------------|----------------------------|
| no_worse    | m − τ          | m = τ + R                  |
| improvement | ε              | ε = R                      |
| spectral    | ε              | ε = R                      |
| expected    | E[C_0] − d     | d = the least cost         |
"""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from openrlhf_rad.errors import ReferenceCostError
from openrlhf_rad.method.settings import MINIMUM_REFERENCE, ConstraintSettings, FormName
from openrlhf_rad.method.spectrum import Spectrum

Array = NDArray[np.float64]

#: An ask for more than this share of all that is possible leaves a policy no choice.
MOST_SHARE = 0.8
#: So many reference answers must cost more than the least for a fall towards it to mean anything.
LEAST_COSTLY = 5


@dataclass(frozen=True)
class Ask:
    """A constraint resolved on reference costs, all in the cost's own units.

    Attributes:
        settings, risk: whose ask it is.
        level: ε, τ or d. margin: m.
        shift: by how much quantiles of the reference move, down to `least` at most. Those that cannot fall by
            m leave their part to the others, so that the risk of the shifted reference still lies m lower:
            ρ_w(C_0) − ρ_w(max(C_0 − shift, least)) = m. It is m where all can, and for `improvement`.
        least: the least cost that is possible, or was seen.
        fall: δ. reach: R.
    """

    settings: ConstraintSettings
    risk: Spectrum
    level: float
    margin: float
    shift: float
    least: float
    fall: float
    reach: float

    @property
    def feasible(self) -> bool:
        """Whether a policy could meet it whose every answer costs the least."""
        return self.fall <= self.reach * (1 + 1e-9)

    @property
    def key(self) -> str:
        """The key of a profile that says how much is asked."""
        return "constraint.margin" if self.settings.form == "no_worse" else "constraint.level"

    def asking(self, fall: float) -> float:
        """The value of that key, in the cost's own units, that asks for another fall."""
        if self.settings.form == "no_worse":
            return self.margin - self.fall + fall
        return self.level + self.fall - fall if self.settings.form == "expected" else fall

    @property
    def refusal(self) -> str:
        """Why no policy can meet it, and what could be asked."""
        what = "mean cost" if self.settings.form == "expected" else f"risk {self.risk}"
        seen, lower = ("possible", "") if self.settings.floor is not None else ("seen", _LOWER)
        return (
            f"no policy can meet the constraint: it asks that the {what} fall by {self.fall:.4g}, and it"
            f" would fall by {self.reach:.4g} if every answer cost {self.least:.4g}, the least {seen}; the"
            f" most that can be asked is {self.key}: {self.asking(self.reach):.4g}; to ask for half of it,"
            f" write {self.key}: {self.asking(self.reach / 2):.4g}{lower}"
        )

    def rare(self, cost_r: Array) -> str:
        """Why a fall that a handful of answers decides is not asked; empty where there are enough."""
        costly, size = int((cost_r > self.least).sum()), cost_r.size
        if costly >= LEAST_COSTLY or self.fall <= 0:
            return ""
        return (
            f"reference costs above {self.least:.4g}, the least: {costly} of {size}; a fall of"
            f" {self.fall:.4g} is asked, which must rest on {LEAST_COSTLY} at least; take reference.samples:"
            f" {math.ceil(2 * LEAST_COSTLY * size / max(costly, 1))}, or prompts that draw more of them"
        )


_LOWER = "; if answers can cost less, write constraint.floor"


def resolve(settings: ConstraintSettings, risk: Spectrum, cost_r: ArrayLike) -> Ask:
    """What a constraint asks of reference costs in any order.

    Raises:
        ReferenceCostError: a share of a risk ≤ 0, or a cost below `constraint.floor`.
    """
    ordered = np.sort(np.asarray(cost_r, dtype=np.float64))
    least = least_cost(settings, ordered)
    level, margin = _level(settings, ordered, risk), settings.margin.resolve(ordered, risk.risk(ordered))
    present = float(ordered.mean()) if settings.form == "expected" else risk.risk(ordered)
    reach = present - least
    if settings.form == "expected":
        return Ask(settings, risk, level, 0.0, 0.0, least, present - level, reach)
    if settings.form != "no_worse":
        return Ask(settings, risk, level, margin, margin, least, level, reach)
    # The greatest shift is to the least cost throughout: what the margin asks beyond comes off the slack.
    slack = level - max(margin - reach, 0.0)
    return Ask(
        settings, risk, slack, margin, _shift(ordered, risk, margin, least), least, margin - level, reach
    )


def _level(settings: ConstraintSettings, cost_r: Array, risk: Spectrum) -> float:
    """ε, τ or d of the form in the cost's own units.

    | level                  | `expected`                  | the other forms                         |
    |------------------------|-----------------------------|-----------------------------------------|
    | a number               | the threshold d itself      | the amount itself                       |
    | share of risk, spread  | d = E[C_0] − the amount     | the amount                              |
    | reference quantile p   | d = F_0⁻¹(p)                | `spectral`: ε = ρ_w(C_0) − F_0⁻¹(p)     |
    """
    base = float(cost_r.mean()) if settings.form == "expected" else risk.risk(cost_r)
    amount = settings.level.resolve(cost_r, base)
    if settings.form == "expected":
        return base - amount if settings.level.unit in ("risk", "spread") else amount
    return base - amount if settings.level.unit == "quantile" else amount


def least_cost(settings: ConstraintSettings, cost_r: Array) -> float:
    """The floor of the profile, or the least cost seen. Raises ReferenceCostError for a cost below it."""
    seen = float(cost_r.min())
    if settings.floor is None or settings.floor <= seen:
        return seen if settings.floor is None else settings.floor
    raise ReferenceCostError(
        f"constraint.floor is {settings.floor:g} and an answer of the reference costs {seen:g}; the floor is"
        f" the least cost that is possible; write {seen:g} or less, or leave it out"
    )


def _shift(ordered: Array, risk: Spectrum, margin: float, least: float) -> float:
    """The s of Σ w_i min(s, y_i − least)/N = margin, or the one that brings every y_i to `least`."""
    share_r, room_r = risk.weights(ordered.size) / ordered.size, ordered - least
    if not (share_r[room_r < margin] > 0).any():
        return margin
    # Piecewise linear in s: up to room_k those below k have fallen as far as they can, the others by s.
    fallen_r = np.append(0.0, np.cumsum(share_r * room_r)[:-1])
    rest_r = np.cumsum(share_r[::-1])[::-1]
    reached = int(np.searchsorted(fallen_r + rest_r * room_r, margin))
    if reached == ordered.size:
        return float(room_r[-1])
    return float(min((margin - fallen_r[reached]) / rest_r[reached], room_r[reached]))


def least_size(risk: Spectrum) -> int:
    """The least number of answers of which more than the worst one counts: 1/(1 − α) and one for CVaR_α."""
    # The weight below the top one, G(1 − 1/n), grows with n: double, then bisect.
    high = 2
    while not _counts(risk, high):
        high *= 2
    return bisect_left(range(high + 1), True, lo=2, key=lambda n: _counts(risk, n))


def least_reference(risk: Spectrum, form: FormName) -> int:
    """The fewest reference costs that say anything of a spectrum."""
    return MINIMUM_REFERENCE if form == "expected" else max(MINIMUM_REFERENCE, least_size(risk))


def _counts(risk: Spectrum, n: int) -> bool:
    return float(risk.cumulative(1 - 1 / n)) > 1e-9


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
