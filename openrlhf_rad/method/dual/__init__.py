"""The dual variable λ: the price of violating the constraint (the paper, Eq. (11)), and how it moves.

Each step one violation comes in, with its standard error where that is known, and goes through three stages:

===============  ==========================================================================================
``estimate``     the last violation, or an average over past ones (``ema``, ``window``)
``confidence``   that value, or its upper confidence bound, in the manner of HC-RLHF
``variable``     λ ← clip(λ + step · violation, 0, maximum): plain projected ascent, the base of the others
``methods``      log-space (Safe RLHF), Adam and PID (OmniSafe)
``options``      all three from the section `dual` of a profile
===============  ==========================================================================================

``benchmarks/dual.py`` compares them; docs/dual.md holds its table.
"""

from openrlhf_rad.method.dual.confidence import (
    Uncertainty,
    reference_standard_error,
    upper_confidence_bound,
    violation_standard_error,
)
from openrlhf_rad.method.dual.methods import AdamDual, LogDual, PidDual
from openrlhf_rad.method.dual.options import make_dual
from openrlhf_rad.method.dual.variable import DualVariable

__all__ = [
    "AdamDual",
    "DualVariable",
    "LogDual",
    "PidDual",
    "Uncertainty",
    "make_dual",
    "reference_standard_error",
    "upper_confidence_bound",
    "violation_standard_error",
]
