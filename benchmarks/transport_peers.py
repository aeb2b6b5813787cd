"""The solvers that ``benchmarks/transport.py`` compares, each behind the same call, and its worker process.

A worker solves one problem with one solver: ``python benchmarks/transport_peers.py SOLVER N OUT REFERENCE``.
It warms up first, on the same shapes where the solver compiles for them, then reports the median time, the
peak of resident memory above what was there with the inputs, the marginal error reached and the error of
the gradient. Building the cost matrix counts, as sorting does for the linear solver.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

TOLERANCE = 1e-9
SHARE = 0.1  # ε in spreads
LIMIT = 100_000  # iterations
SCALING = 0.98  # of ε from step to step in geomloss
# Dense n × n float64 matrices that a solver holds at once, at the least: cost, kernel, and one at work.
MATRICES = {"ot.sinkhorn": 3, "ot.sinkhorn_log": 3, "ot.solve": 3, "geomloss": 2, "ott-jax": 2}
Solution = tuple[Any, Any]
Solver = Callable[[Any, Any, float], Solution]


def inputs(n: int) -> tuple[Any, Any, float]:
    """x_n and y_n, unsorted, as evaluation has them, and ε."""
    rng = np.random.default_rng(n)
    x, y = rng.normal(size=n), rng.normal(0.3, 1.2, size=n)
    return x, y, SHARE * float(np.concatenate([x, y]).std())


def cost_matrix(x: Any, y: Any) -> Any:
    return np.maximum(y[None, :] - x[:, None], 0.0)


def linear() -> Solver:
    """This package; its gradient is part of the result."""
    from openrlhf_rad.method.transport import sinkhorn  # noqa: PLC0415

    def run(x: Any, y: Any, epsilon: float) -> Solution:
        result = sinkhorn(x, y, epsilon, tol=TOLERANCE).require()
        return result.gradient, result.marginal_error

    return run


def pot(name: str) -> Solver:
    """POT on numpy: the plain iteration, the log domain, and its newest front."""
    import ot  # noqa: PLC0415

    def run(x: Any, y: Any, epsilon: float) -> Solution:
        a, b = np.full(x.size, 1 / x.size), np.full(y.size, 1 / y.size)
        cost = cost_matrix(x, y)
        options = {"numItermax": LIMIT, "stopThr": TOLERANCE, "warn": False}
        if name == "ot.sinkhorn":
            return ot.sinkhorn(a, b, cost, epsilon, **options), None
        if name == "ot.sinkhorn_log":
            return ot.bregman.sinkhorn_log(a, b, cost, epsilon, **options), None
        found = ot.solve(cost, a, b, reg=epsilon, reg_type="entropy", tol=TOLERANCE, max_iter=LIMIT)
        return found.plan, None

    return run


def ott() -> Solver:
    """ott-jax, compiled, in float64; kernel mode, which fits this ε and is its faster one."""
    import jax  # noqa: PLC0415

    jax.config.update("jax_enable_x64", True)
    from ott.geometry import geometry  # noqa: PLC0415
    from ott.problems.linear import linear_problem  # noqa: PLC0415
    from ott.solvers.linear import sinkhorn  # noqa: PLC0415

    solver = sinkhorn.Sinkhorn(lse_mode=False, threshold=TOLERANCE, norm_error=2, max_iterations=LIMIT)

    @jax.jit
    def plan(x: Any, y: Any, epsilon: float) -> Any:
        cost = jax.numpy.maximum(y[None, :] - x[:, None], 0.0)
        geometry_nm = geometry.Geometry(cost_matrix=cost, epsilon=epsilon)
        return solver(linear_problem.LinearProblem(geometry_nm)).matrix

    return lambda x, y, epsilon: (np.asarray(plan(x, y, epsilon).block_until_ready()), None)


def geomloss() -> Solver:
    """geomloss on torch, with ε-scaling. It has no tolerance: the slower its descent, the closer it ends."""
    import torch  # noqa: PLC0415
    from geomloss import SamplesLoss  # noqa: PLC0415

    def cost(first: Any, second: Any) -> Any:
        """(y − x)₊; geomloss asks for cost(x, y) and for cost(y, x), so x has tag 0 and y tag 1."""
        rise = second[..., None, :, 0] - first[..., :, None, 0]
        return torch.relu(rise * (second[..., None, :, 1] - first[..., :, None, 1]))

    def run(x: Any, y: Any, epsilon: float) -> Solution:
        x_t, y_t = (
            torch.as_tensor(np.stack([z, np.full(z.size, tag)], 1)) for z, tag in ((x, 0.0), (y, 1.0))
        )
        options = {"debias": False, "potentials": True, "backend": "tensorized"}
        loss = SamplesLoss("sinkhorn", p=1, blur=epsilon, scaling=SCALING, cost=cost, **options)
        f, g = (part.reshape(-1).numpy() for part in loss(x_t, y_t))
        return np.exp((f[:, None] + g[None, :] - cost_matrix(x, y)) / epsilon) / (x.size * y.size), None

    return run


SOLVERS: dict[str, Callable[[], Solver]] = {
    "linear": linear,
    "ot.sinkhorn": lambda: pot("ot.sinkhorn"),
    "ot.sinkhorn_log": lambda: pot("ot.sinkhorn_log"),
    "ot.solve": lambda: pot("ot.solve"),
    "geomloss": geomloss,
    "ott-jax": ott,
}


def dense_gradient(x: Any, y: Any, epsilon: float) -> Any:
    """−Σ_{y_j > x_i} P_ij from plain float64 scaling, iterated until the marginals are right to rounding."""
    cost = cost_matrix(x, y)
    kernel, v = np.exp(-cost / epsilon), np.ones(y.size)
    for _ in range(LIMIT):
        u = 1 / (x.size * (kernel @ v))
        column = kernel.T @ u
        if np.linalg.norm(v * column - 1 / y.size) * y.size < 1e-13 * np.sqrt(y.size):
            break
        v = 1 / (y.size * column)
    return -(u[:, None] * kernel * v * (cost > 0)).sum(1)


def resident(field: str) -> int:
    """Bytes of this process: VmRSS now, VmHWM at its peak."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return 1024 * int(line.split()[1])
    raise RuntimeError(field)


def measure(name: str, n: int, reference: str) -> dict[str, float]:
    """Time, memory and accuracy of one solver on one problem."""
    solver = SOLVERS[name]()
    x, y, epsilon = inputs(n)
    # Compiles what depends on shapes; a solver that does not compile warms up on a small problem.
    warm_up = (x, y, epsilon) if name == "ott-jax" and n <= 1024 else inputs(64)
    solver(*warm_up)
    seconds, peaks, sorting = [], [], []
    while len(seconds) < 5 or (sum(seconds) < 1 and len(seconds) < 200):
        if seconds and sum(seconds) > 20:
            break
        Path("/proc/self/clear_refs").write_text("5")  # resets the peak
        before = resident("VmRSS")
        began = time.perf_counter()
        first, error = solver(x, y, epsilon)
        seconds.append(time.perf_counter() - began)
        peaks.append(resident("VmHWM") - before)
        if name == "linear":  # beside each run, so that a busy machine slows both
            sorting.append(_sorting_seconds(x, y))
    if name == "ott-jax" and n > 1024 and len(seconds) > 1:
        seconds = seconds[1:]  # the first run compiled
    result: dict[str, float] = {
        "seconds": statistics.median(seconds),
        "memory": max(peaks),
        "runs": len(seconds),
    }
    gradient = first
    if first.ndim == 2:
        error = max(np.linalg.norm(first.sum(1) - 1 / n), np.linalg.norm(first.sum(0) - 1 / n))
        gradient = -(first * (y[None, :] > x[:, None])).sum(1)
    result["error"] = float(error)
    if Path(reference).is_file():
        result["gradient"] = float(n * np.abs(gradient - np.load(reference)["gradient"]).max())
    if name == "linear":
        result["sorting"] = statistics.median(sorting)
    return result


def _sorting_seconds(x: Any, y: Any) -> float:
    began = time.perf_counter()
    np.sort(x)
    np.sort(y)
    return time.perf_counter() - began


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    word, count, out, dense = sys.argv[1:]
    Path(out).write_text(json.dumps(measure(word, int(count), dense)))
