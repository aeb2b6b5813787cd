"""Costs with few values, 0 and 1 of a flag, 1 to 5 of a rating: what a spectral risk of them means.

With values v_0 < … < v_k, integrating Eq. (8) by parts,

    ρ_w(C) = v_0 + Σ_j (v_j − v_{j−1}) D(P(C ≥ v_j)),   D(p) = 1 − G(1 − p),

so that each step between two values counts by how many answers have taken it, and by nothing else. Where
all weight lies above a level α, D is 1 from p = 1 − α on: a step that so many answers take is flat, as if all
did.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from openrlhf_rad.method.spectrum import Spectrum
from openrlhf_rad.words import number

#: More different values are a scale, and so are values that hardly any answer shares with another.
_MOST, _EACH = 11, 4
#: The shares of answers that are told.
_SHARES = (0.01, 0.05, 0.2)


def few_values(*samples: ArrayLike) -> tuple[float, ...]:
    """The values of costs that have few of them, rising; none for costs on a scale, or all the same."""
    cost_b = np.concatenate([np.asarray(sample, dtype=np.float64).reshape(-1) for sample in samples])
    values = np.unique(cost_b)
    few = 1 < values.size <= _MOST and cost_b.size >= _EACH * values.size
    return tuple(values.tolist()) if few else ()


def counted(spectrum: Spectrum, share: float) -> float:
    """D(p): what a step counts that a share p of the answers has taken; from 0 to 1."""
    return 1 - float(spectrum.cumulative(1 - share))


def meaning(spectrum: Spectrum, values: Sequence[float]) -> str:
    """What the risk of such costs says, and from which share of answers on it is flat, in a sentence."""
    flat = 1 - spectrum.lowest_level()
    ends = flat < 1 - 1e-6  # the last bits of the search for that level
    told = [f"{number(100 * share)} %" for share in _SHARES]
    from_ = f"flat from {number(100 * flat)} % on" if ends else "nowhere flat"
    named = ", ".join(map(number, values))
    if len(values) == 2:
        low, high = values
        risks = ", ".join(number(low + (high - low) * counted(spectrum, share)) for share in _SHARES)
        more = f", where it is {number(high)} whatever the share" if ends else ""
        return (
            f"of a flag ({named}) {spectrum} says how often, not how bad: with {', '.join(told)} of the"
            f" answers at {number(high)} it is {risks}; {from_}{more}"
        )
    shares = ", ".join(f"{number(100 * counted(spectrum, share))} %" for share in _SHARES)
    more = ": a step that so many take counts as if all did" if ends else ""
    return (
        f"of ratings ({named}) {spectrum} counts each step from one value to the next by how many answers"
        f" have taken it: {', '.join(told)} of them count {shares} of the step; {from_}{more}"
    )
