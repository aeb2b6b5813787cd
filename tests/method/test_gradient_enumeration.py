"""The policy gradient by enumeration: 400 responses, a softmax policy, log-normal costs."""

import numpy as np
import pytest

from openrlhf_rad.method.constraint import evaluate
from openrlhf_rad.method.scores import score
from openrlhf_rad.method.settings import TransportSettings
from openrlhf_rad.method.spectrum import make_spectrum

RNG = np.random.default_rng(3)
RESPONSES = 400
COST_K = np.sort(RNG.lognormal(size=RESPONSES))
LOGIT_K = RNG.normal(size=RESPONSES)
PARTICLES = 40_000


def probabilities(logit_k):
    weights = np.exp(logit_k - logit_k.max())
    return weights / weights.sum()


def population_risk(logit_k, spectrum):
    """Σ_k c_(k) [G(F_k) − G(F_{k−1})], the spectral risk of the policy itself."""
    levels = np.append(0.0, np.cumsum(probabilities(logit_k)))
    return float(np.diff(spectrum.cumulative(np.minimum(levels, 1.0))) @ COST_K)


def true_gradient(spectrum):
    """Central finite differences of −ρ_w in the logits."""
    step, slopes = 1e-4, []
    for k in range(RESPONSES):
        bump = step * (np.arange(RESPONSES) == k)
        up, down = population_risk(LOGIT_K + bump, spectrum), population_risk(LOGIT_K - bump, spectrum)
        slopes.append((down - up) / (2 * step))
    return np.array(slopes)


def reinforce(score_k):
    """E[∇ log π · s] for a softmax policy, by summing over all responses."""
    p = probabilities(LOGIT_K)
    return p * (score_k - p @ score_k)


def population_quantiles(n):
    level_n = (np.arange(n) + 0.5) / n
    rank_n = np.searchsorted(np.cumsum(probabilities(LOGIT_K)), level_n)
    return COST_K[np.minimum(rank_n, RESPONSES - 1)]


def spectral_score(spectrum, gradient):
    particle_n = population_quantiles(PARTICLES)
    every = evaluate("spectral", particle_n, particle_n, spectrum.weights(PARTICLES), level=0.0)
    return score(COST_K, particle_n, every, spectrum.sampled(PARTICLES), gradient=gradient)


def cosine(a, b):
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


@pytest.mark.parametrize(
    "spectrum",
    [
        make_spectrum("mean"),
        make_spectrum("cvar", alpha=0.9),
        make_spectrum("power", gamma=3),
        make_spectrum("exponential", kappa=4),
        make_spectrum("wang", eta=0.75),
        make_spectrum("var", alpha=0.9),
    ],
    ids=str,
)
@pytest.mark.parametrize("gradient", ["leave_one_out", "spacing"])
def test_gaps_give_the_true_gradient_of_the_spectral_risk(spectrum, gradient):
    estimate = reinforce(spectral_score(spectrum, gradient))
    truth = true_gradient(spectrum)
    assert cosine(estimate, truth) >= 0.9999
    assert np.linalg.norm(estimate) / np.linalg.norm(truth) == pytest.approx(1, abs=0.005)


@pytest.mark.parametrize("spectrum", [make_spectrum("mean"), make_spectrum("cvar", alpha=0.9)], ids=str)
def test_tilted_points_elsewhere_on_skewed_costs(spectrum):
    estimate = reinforce(spectral_score(spectrum, "tilted"))
    assert 0.4 < cosine(estimate, true_gradient(spectrum)) < 0.9


def test_tilted_is_equation_14_by_its_double_sum():
    n, epsilon = 50, 0.3
    particle_n, reference_n = population_quantiles(n), np.sort(RNG.lognormal(0.5, size=n))
    wang = make_spectrum("wang", eta=0.75)
    weight_n = wang.weights(n)
    options = TransportSettings(epsilon, tolerance=1e-12, max_iterations=100_000)
    result = evaluate("improvement", particle_n, reference_n, weight_n, level=0.1, transport=options)
    found = reinforce(score(COST_K, particle_n, result, wang.sampled(n), gradient="tilted"))

    # Eq. (24) from ones, then Eq. (14) summed over responses and particles.
    kernel = np.exp(-np.maximum(reference_n[None, :] - particle_n[:, None], 0) / epsilon)
    u, v = np.ones(n), np.ones(n)
    for _ in range(20_000):
        u = 1 / n / (kernel @ v)
        v = 1 / n / (kernel.T @ u)
    plan = u[:, None] * kernel * v[None, :]
    slope_n = -np.array([plan[i][reference_n > particle_n[i]].sum() for i in range(n)])
    p, expected = probabilities(LOGIT_K), np.zeros(RESPONSES)
    for k in range(RESPONSES):
        grad_log = (np.arange(RESPONSES) == k) - p
        for i in range(n):
            expected += p[k] * grad_log * -weight_n[i] * slope_n[i] * (COST_K[k] <= particle_n[i])
    np.testing.assert_allclose(found, expected, atol=1e-8 * np.abs(expected).max())


@pytest.mark.parametrize("form", ["no_worse", "improvement"])
@pytest.mark.parametrize("costs", [[0, 1], [0, 1, 2], [1, 2, 3, 4, 5]], ids=str)
@pytest.mark.parametrize("spectrum", [make_spectrum("mean"), make_spectrum("cvar", alpha=0.9)], ids=str)
def test_on_tied_costs_it_is_the_true_gradient_of_the_gap(form, costs, spectrum):
    """An indicator at one end of a gap is 0 there; the change across the gap is not."""
    rng, n, margin = np.random.default_rng(8), 4_000, 0.3
    logit_k, cost_k = rng.normal(size=60), np.sort(rng.choice(costs, 60)).astype(float)
    worst_k = cost_k == costs[-1]  # 5 % of the answers, so that the worst tenth holds others too
    logit_k[worst_k] += np.log(0.05 / 0.95 * np.exp(logit_k[~worst_k]).sum() / np.exp(logit_k[worst_k]).sum())
    reference_n = np.sort(rng.choice(costs, n, p=[0.92 / (len(costs) - 1)] * (len(costs) - 1) + [0.08]))
    levels = np.arange(n + 1) / n

    def particles(logit_k):
        edges = np.cumsum(probabilities(logit_k))
        return cost_k[np.minimum(np.searchsorted(edges, (levels[:-1] + levels[1:]) / 2), 59)]

    def missed(logit_k):
        """The gap of the policy itself, the weight of each level interval between its quantile's ends."""
        edges = np.clip(np.append(0.0, np.cumsum(probabilities(logit_k))), 0, 1)
        total = 0.0
        for value in costs:
            held = np.flatnonzero(cost_k == value)
            if not held.size:
                continue
            low, high = edges[held[0]], edges[held[-1] + 1]
            inside = np.clip(levels, low, high)
            side = value - reference_n + margin if form == "no_worse" else reference_n + margin - value
            part = np.diff(spectrum.cumulative(inside)) @ np.maximum(side, 0)
            total += part if form == "no_worse" else -part
        return total

    truth = np.array([(missed(logit_k - h) - missed(logit_k + h)) / 2e-3 for h in 1e-3 * np.eye(60)])
    particle_n = particles(logit_k)
    result = evaluate(
        form,
        particle_n,
        reference_n,
        spectrum.weights(n),
        level=0.0,
        margin=margin,
        transport=TransportSettings(indicator="exact"),
    )
    p, score_k = probabilities(logit_k), score(cost_k, particle_n, result, spectrum.sampled(n))
    estimate = p * (score_k - p @ score_k)
    assert cosine(estimate, truth) >= 0.999
    assert np.linalg.norm(estimate) / np.linalg.norm(truth) == pytest.approx(1, abs=0.02)
