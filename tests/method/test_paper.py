"""The shipped profile `paper` against the paper's formulas, written plainly on POT, over fifty steps.

Both sides train the policy of a bandit by REINFORCE with RLOO over two answers and the KL in the reward, each
on its own parameters and with its own λ; they share the random numbers alone.
"""

import warnings

import numpy as np
import pytest

from openrlhf_rad.errors import ProfileError
from openrlhf_rad.method.step import RadStep
from openrlhf_rad.profile import RiskProfile, load_profile

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # torch, which POT imports where present, warns of its own dependencies
    import ot

STEPS, ARMS, PAIRS, RATE, BETA = 50, 40, 16, 0.5, 0.05
DRAWS = np.random.default_rng(8)
REWARD_K = DRAWS.normal(size=ARMS)
COST_K = 0.5 * np.exp(0.5 * REWARD_K + 0.3 * DRAWS.normal(size=ARMS))
REFERENCE = COST_K[DRAWS.integers(ARMS, size=256)] + 0.01 * DRAWS.normal(size=256)
#: All that is not the profile's own: what is asked of these costs.
LEVEL = 0.2
PROFILE = load_profile("paper").with_overrides({"constraint.level": LEVEL})
UNIFORMS = DRAWS.random((STEPS, 2 * PAIRS))
NOISE = 0.01 * DRAWS.normal(size=(STEPS, 2 * PAIRS))


def softmax(logit_k):
    power_k = np.exp(logit_k - logit_k.max())
    return power_k / power_k.sum()


def train(score_of):
    """θ and what the constraint did in each step; score_of(costs) → (s(c), the λ to use, the λ after)."""
    logit_k, rows = np.zeros(ARMS), []
    for uniform_b, noise_b in zip(UNIFORMS, NOISE, strict=True):
        policy_k = softmax(logit_k)
        arm_b = np.minimum(np.searchsorted(np.cumsum(policy_k), uniform_b), ARMS - 1)
        score_b, used, after = score_of(COST_K[arm_b] + noise_b)
        gain_b = REWARD_K[arm_b] - BETA * np.log(policy_k[arm_b] * ARMS) + used * score_b
        advantage_b = gain_b - gain_b.reshape(PAIRS, 2)[:, ::-1].ravel()
        gradient_k = np.bincount(arm_b, advantage_b, ARMS) - advantage_b.sum() * policy_k
        logit_k = logit_k + RATE * gradient_k / arm_b.size
        rows.append([*logit_k, *score_b, after])
    return np.array(rows)


class Plain:
    """Eqs. (12), (13), (21) to (25), (37) and the dual ascent of (11), word by word."""

    def __init__(self, cumulative, *, weighted):
        self.cumulative, self.weighted = cumulative, weighted
        self.level, self.epsilon = LEVEL, 0.1
        self.dual, self.step, self.most = 6.0, 0.6, 60.0

    @staticmethod
    def quantile(sample_b, t):
        """F⁻¹(t) = inf{z : F(z) ≥ t}."""
        ordered = np.sort(sample_b)
        return ordered[next(k for k in range(ordered.size) if (k + 1) / ordered.size >= t - 1e-15)]

    def __call__(self, cost_b):
        n = cost_b.size
        level_n = (np.arange(1, n + 1) - 0.5) / n
        q_n = np.array([self.quantile(cost_b, t) for t in level_n])
        y_n = np.array([self.quantile(REFERENCE, t) for t in level_n])
        uniform_n = np.full(n, 1 / n)
        cost_nn = np.maximum(y_n[None, :] - q_n[:, None], 0.0)
        plan = ot.bregman.sinkhorn_log(
            uniform_n, uniform_n, cost_nn, self.epsilon, numItermax=3_000, stopThr=1e-12
        )
        activation_n = n * (plan * (y_n[None, :] > q_n[:, None])).sum(axis=1)
        weight_n = n * np.diff([self.cumulative(i / n) for i in range(n + 1)])
        score_b = [(weight_n * activation_n / n)[cost <= q_n].sum() for cost in cost_b]
        gap = weight_n @ np.maximum(y_n - q_n, 0.0) / n if self.weighted else (plan * cost_nn).sum()
        used = self.dual
        self.dual = float(np.clip(used + self.step * (self.level - gap), 0.0, self.most))
        return np.array(score_b), used, self.dual


SPECTRA = {
    "mean": lambda t: t,
    "cvar α=0.8": lambda t: max(t - 0.8, 0.0) / 0.2,
    "power γ=2": lambda t: t**2,
}


@pytest.mark.parametrize("risk", SPECTRA)
def test_fifty_steps_are_those_of_the_formulas(risk):
    """Unweighted λ moves by Eq. (25); with weights, which Eq. (25) has not, by the gap of Eq. (15)."""
    profile = PROFILE.with_overrides({"risk": risk, "dual.gap": "plan" if risk == "mean" else "exact"})
    step = RadStep(profile, REFERENCE)

    def shipped(cost_b):
        found = step(cost_b)
        return found.score_b, found.dual_variable, found.metrics["lambda_next"]

    plain = Plain(SPECTRA[risk], weighted=risk != "mean")
    ours, theirs = train(shipped), train(plain)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-8)
    dual_t = theirs[:, -1]
    assert dual_t.max() > 6.0 or dual_t.min() < 6.0
    assert np.abs(np.diff(dual_t)).min() > 0
    assert theirs[:, ARMS : ARMS + 2 * PAIRS].std(axis=1).min() > 0.01


def test_its_value_is_that_of_the_plan_and_not_the_gap():
    """Eq. (25) against POT's own; entropy makes it greater than the exact gap."""
    cost_b = np.random.default_rng(0).choice(REFERENCE, 32)
    found = RadStep(PROFILE, REFERENCE)(cost_b).metrics
    q_n, y_n = np.sort(cost_b), np.array([Plain.quantile(REFERENCE, (i + 0.5) / 32) for i in range(32)])
    uniform_n = np.full(32, 1 / 32)
    cost_nn = np.maximum(y_n[None, :] - q_n[:, None], 0.0)
    plan = ot.sinkhorn(uniform_n, uniform_n, cost_nn, 0.1, method="sinkhorn", numItermax=3_000, stopThr=1e-12)
    assert found["constraint_value"] == pytest.approx((plan * cost_nn).sum(), abs=1e-9)
    assert found["constraint_value"] > found["gap_forward"] + 0.01
    assert found["violation"] == pytest.approx(LEVEL - found["constraint_value"])


def test_with_units_of_the_cost_nothing_is_divided_by_the_spread():
    """λ, its step and ε: a cost ten times as large asks for them ten times, or a tenth, as large."""
    text = "risk: mean\nunits: cost\nconstraint: {{level: {}, margin: {}, gradient: spacing}}\n"
    text += "transport: {{epsilon: {}}}\ndual: {{initial: {}, step: {}, max: {}}}"
    batch = REFERENCE[:64] + 0.3
    one = RadStep(RiskProfile.from_text(text.format(0.2, 0.5, 0.1, 1, 0.1, 10)), REFERENCE)
    ten = RadStep(RiskProfile.from_text(text.format(2, 5, 1, 0.1, 0.001, 1)), 10 * REFERENCE)
    for _ in range(3):
        small, large = one(batch), ten(10 * batch)
        np.testing.assert_allclose(large.score_b, 10 * small.score_b, rtol=1e-9, atol=1e-9)
        assert large.metrics["lambda_next"] == pytest.approx(small.metrics["lambda_next"] / 10)
        assert small.metrics["lambda_next"] == pytest.approx(
            small.dual_variable + 0.1 * small.metrics["violation"]
        )


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"risk": "linear"}, "Eq. (25) has no weights, and the risk is linear"),
        ({"constraint.form": "spectral"}, "form spectral compares averages and has no plan"),
        ({"transport.indicator": "exact"}, "with transport.indicator exact the plan is the exact gap"),
    ],
)
def test_a_value_of_the_plan_that_is_none_is_refused(change, rule):
    with pytest.raises(ProfileError) as refusal:
        load_profile("paper").with_overrides(change)
    assert [line.split(": ", 1)[1] for line in refusal.value.problems] == [
        f"dual.gap is plan; {rule}; write exact"
    ]
