"""Random hard problems for the linear solver: ``python benchmarks/transport_fuzz.py [--seconds T]``.

Heavy tails, ties, clusters, single points, grids, equal and shifted samples, scales from 1e-6 to 1e6, ε from
1e-6 to 1e3 spreads. Prints how many problems took how many Newton steps, and how many did not converge.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from typing import Any

import numpy as np

from openrlhf_rad.method.transport import sinkhorn

KINDS = (
    lambda rng, n: rng.normal(size=n),
    lambda rng, n: rng.lognormal(size=n, sigma=rng.choice([1, 3])),
    lambda rng, n: rng.standard_cauchy(size=n),
    lambda rng, n: rng.integers(0, 4, n).astype(float),
    lambda _rng, n: np.zeros(n),
    lambda rng, n: rng.normal(size=n) * 1e-3 + rng.integers(0, 5, n),
    lambda _rng, n: np.linspace(0, 1, n),
    lambda rng, n: np.exp(rng.uniform(-20, 20, n)),
    lambda rng, n: np.sign(rng.normal(size=n)) * np.exp(rng.uniform(-30, 5, n)),
)


def sample(rng: Any) -> Any:
    n = int(rng.choice([1, 2, 3, 5, 20, 64, 300, 2000]))
    return KINDS[rng.integers(len(KINDS))](rng, n) * rng.choice([0.1, 1, 1, 10]) + rng.choice(
        [0, 0, 0, 1, 100]
    )


def problem(rng: Any) -> tuple[Any, Any, float]:
    """x, y and ε."""
    x, y = sample(rng), sample(rng)
    if rng.random() < 0.15:
        y = x.copy()
    elif rng.random() < 0.1:
        y = x + rng.normal()
    scale = 10.0 ** rng.integers(-6, 7)
    both = np.concatenate([x, y])
    spread = float(np.ptp(both) if rng.random() < 0.5 else both.std()) or 1.0
    return x * scale, y * scale, scale * spread * 10 ** rng.uniform(-6, 3)


def main() -> None:
    """Solve problems until the time is up."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=60.0)
    options = parser.parse_args()
    rng = np.random.default_rng(options.seed)
    counts: Counter[int] = Counter()
    failed, end = 0, time.monotonic() + options.seconds
    while time.monotonic() < end:
        result = sinkhorn(*problem(rng))
        counts[result.iterations] += 1
        failed += not (result.converged and np.isfinite(result.value))
    print(f"{sum(counts.values()):,} problems, {failed} did not converge, at most {max(counts)} steps")
    print("steps: problems", ", ".join(f"{steps}: {counts[steps]:,}" for steps in sorted(counts)))


if __name__ == "__main__":
    main()
