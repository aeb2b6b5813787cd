"""Random numbers as a function of the run's seed and the step: a resumed run draws what it would have drawn.

No state of a generator is saved or restored: every process seeds its generators anew where a step begins,
and every sampled answer has a seed of its own, which does not depend on what else the engine works on.
"""

from __future__ import annotations

import hashlib
import random

import numpy as np


def seed_of(*parts: str | int) -> int:
    """A seed for what ``parts`` name, such as ``(42, "order", 7)``; the same in every process and version."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:4], "big")  # numpy takes no more than 32 bits


def reseed(seed: int) -> None:
    """Seed every generator of this process that the stack draws from."""
    import torch  # noqa: PLC0415 - the command line asks for seeds too, and need not wait for torch

    random.seed(seed)
    np.random.seed(seed)  # the stack's libraries draw from the global generator
    torch.manual_seed(seed)
