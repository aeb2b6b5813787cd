"""Optimal transport for the asymmetric cost (y − x)₊: dominance gaps and Sinkhorn plans.

L(X, Y) = ∫ (F_Y⁻¹ − F_X⁻¹)₊ dt (the paper, Eq. (3)) is the least cost of moving X to Y when only
upward moves cost (Eq. (7)). The sorted gap is exact; the entropic plan (Eq. (6)) smooths its gradient.
Importing this package is light: numba, POT and torch are loaded by the solver or front that needs them.
"""

from openrlhf_rad.method.transport.batch import BatchResult, Divergence, sinkhorn_batch, sinkhorn_divergence
from openrlhf_rad.method.transport.problem import SinkhornResult, Solver
from openrlhf_rad.method.transport.solve import dominance_gap, sinkhorn

__all__ = [
    "BatchResult",
    "Divergence",
    "SinkhornResult",
    "Solver",
    "dominance_gap",
    "sinkhorn",
    "sinkhorn_batch",
    "sinkhorn_divergence",
]
