"""Adversarial samples, and the dense certificate that a result is optimal."""

import numpy as np
import pytest
from hypothesis import strategies as st

KINDS = {
    "normal": lambda rng, n: rng.normal(size=n),
    "lognormal": lambda rng, n: rng.lognormal(sigma=3, size=n),
    "cauchy": lambda rng, n: rng.standard_cauchy(size=n),
    "ties": lambda rng, n: rng.integers(0, 3, n).astype(float),
    "constant": lambda rng, n: np.zeros(n),
    "clusters": lambda rng, n: rng.integers(0, 4, n) + 1e-3 * rng.normal(size=n),
    "grid": lambda rng, n: np.linspace(0, 1, n),
}


@st.composite
def samples(draw, largest=40):
    """x and y of any sizes, perhaps the same, shifted apart, or of tiny or huge scale."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    x, y = (KINDS[draw(st.sampled_from(sorted(KINDS)))](rng, draw(st.integers(1, largest))) for _ in "xy")
    if draw(st.booleans()):
        y = y + draw(st.sampled_from([-30.0, -1.0, 0.25, 30.0]))
    if draw(st.integers(0, 5)) == 0:
        y = x.copy()
    scale = draw(st.sampled_from([1e-6, 1.0, 1e6]))
    return x * scale, y * scale


@pytest.fixture(scope="session")
def adversarial():
    """The strategy above, and the spread in whose units ε is drawn."""
    return samples


@pytest.fixture(scope="session")
def spread():
    return lambda x, y: float(np.ptp(np.concatenate([x, y]))) or max(1.0, abs(float(x[0])))


@pytest.fixture(scope="session")
def certificate():
    """Everything a result says, worked out anew from its potentials on the dense kernel.

    A plan of the form exp((f + g − M)/ε) with the right marginals is the optimum, and the only one.
    """

    def worked_out(x, y, epsilon, result):
        cost = np.maximum(y[None, :] - x[:, None], 0.0)
        log_plan = (result.f[:, None] + result.g[None, :] - cost) / epsilon
        plan = np.exp(log_plan)
        above = y[None, :] > x[:, None]
        return {
            "rows": plan.sum(1),
            "columns": plan.sum(0),
            "cost": float((plan * cost).sum()),
            "value": float((plan * cost).sum() + epsilon * (plan * log_plan).sum()),
            "gradient": -(plan * above).sum(1),
            "gradient_y": (plan * above).sum(0),
        }

    return worked_out
