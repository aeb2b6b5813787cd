"""The training step: a signal at step 0, scale-free λ, state, refusals, and a policy that learns."""

import json
import math

import numpy as np
import pytest

from openrlhf_rad.errors import ConfigError, CostError, ReferenceCostError
from openrlhf_rad.method.step import RadStep
from openrlhf_rad.profile import RiskProfile, load_profile, shipped_profiles

REFERENCE = np.random.default_rng(0).lognormal(size=256)
BATCH = np.random.default_rng(1).lognormal(size=64)


def profile_of(text="test: cvar α=0.8", **overrides):
    return RiskProfile.from_text(text, "test.yaml").with_overrides(
        {key.replace("__", "."): value for key, value in overrides.items()}
    )


@pytest.mark.parametrize("name", shipped_profiles())
@pytest.mark.parametrize("batch", [BATCH, REFERENCE], ids=["same distribution", "same sample"])
def test_every_shipped_profile_has_a_signal_at_step_0(name, batch):
    result = RadStep(load_profile(name), REFERENCE)(batch)
    assert result.score_b.shape == batch.shape
    assert np.isfinite(result.score_b).all()
    assert result.score_b.std() > 0.1
    assert (np.diff(result.score_b[np.argsort(batch)]) <= 1e-12).all()
    assert result.dual_variable > 0
    assert result.metrics["share_active"] > 0.2
    if batch is REFERENCE and name != "paper":  # of which the plan's value is positive where no gap is
        # What the constraint asks for; a sample of its own may happen to lie lower.
        settings = load_profile(name).constraint
        asked = settings.margin.value - settings.level.value if settings.form == "no_worse" else 0.4
        amount = 0.5 * REFERENCE.mean() if name == "flags" else asked * REFERENCE.std()
        assert result.metrics["violation"] == pytest.approx(amount)


@pytest.mark.parametrize("form", ["improvement", "no_worse", "spectral", "expected"])
@pytest.mark.parametrize("scale", [1e-3, 40.0])
def test_the_scale_of_the_cost_does_not_matter(form, scale):
    step = RadStep(profile_of(constraint__form=form), REFERENCE)
    scaled = RadStep(profile_of(constraint__form=form), REFERENCE * scale)
    for _ in range(3):
        one, other = step(BATCH), scaled(BATCH * scale)
        np.testing.assert_allclose(other.score_b, one.score_b, rtol=1e-6, atol=1e-8)
        assert other.dual_variable == pytest.approx(one.dual_variable)
        for name in ("risk", "gap_forward", "gap_reverse", "violation", "constraint_level", "cost_q90"):
            assert other.metrics[name] == pytest.approx(scale * one.metrics[name], rel=1e-6)


def test_metrics_are_in_the_costs_own_units():
    step = RadStep(profile_of(), REFERENCE)
    metrics = step(BATCH).metrics
    assert metrics["cost_mean"] == pytest.approx(BATCH.mean())
    assert metrics["cost_q90"] == np.sort(BATCH)[57]
    assert metrics["risk"] == pytest.approx(step.constraint.risk.risk(BATCH))
    assert metrics["constraint_level"] == pytest.approx(0.2 * REFERENCE.std())
    risks = metrics["reference_risk"] - metrics["risk"]
    assert metrics["gap_forward"] - metrics["gap_reverse"] == pytest.approx(risks)
    assert metrics["lambda"] == 1.0
    assert metrics["lambda_next"] == pytest.approx(1 + 0.1 * metrics["violation"] / REFERENCE.std())
    assert metrics["sinkhorn_converged"] == 1.0
    assert all(type(value) is float for value in metrics.values())


def test_expected_is_safe_rlhf():
    relative = RadStep(profile_of(constraint__form="expected", constraint__level=0.5), REFERENCE)
    result = relative(BATCH)
    others = (BATCH.sum() - BATCH) / (BATCH.size - 1)
    np.testing.assert_allclose(result.score_b, (others - BATCH) / REFERENCE.std(), atol=1e-12)
    assert result.metrics["violation"] == pytest.approx(BATCH.mean() - 0.5)
    shared = profile_of(constraint__form="expected", constraint__level="0.4 of reference spread")
    level = RadStep(shared, REFERENCE)(BATCH).metrics["constraint_level"]
    assert level == pytest.approx(REFERENCE.mean() - 0.4 * REFERENCE.std())


def test_lambda_moves_after_the_batch_and_survives_a_checkpoint():
    step = RadStep(profile_of(), REFERENCE)
    first, second = step(3 * BATCH), step(3 * BATCH)
    assert first.dual_variable == 1.0
    assert second.dual_variable == first.metrics["lambda_next"] > 1.0
    resumed = RadStep(profile_of(), REFERENCE)
    resumed.load_state_dict(step.state_dict())
    assert resumed(BATCH).metrics["lambda"] == step(BATCH).metrics["lambda"]


def test_a_step_starts_from_the_potentials_of_the_one_before():
    step = RadStep(profile_of(), REFERENCE)
    assert "potentials" not in step.state_dict()
    cold = step(BATCH)
    state = json.loads(json.dumps(step.state_dict()))
    assert [len(potential) for potential in state["potentials"]] == [64, 64]
    resumed = RadStep(profile_of(), REFERENCE)
    resumed.load_state_dict(state)
    warm = resumed(BATCH)
    assert warm.metrics["sinkhorn_iterations"] <= 1 < cold.metrics["sinkhorn_iterations"]
    np.testing.assert_allclose(warm.score_b, cold.score_b, atol=1e-9)
    # Another number of particles starts cold; so does a checkpoint that holds λ alone.
    assert resumed(BATCH[:50]).metrics["sinkhorn_converged"] == 1.0
    resumed.load_state_dict({"dual": state["dual"]})
    assert resumed(BATCH).metrics["sinkhorn_iterations"] == cold.metrics["sinkhorn_iterations"]


def test_slack_lowers_lambda():
    step = RadStep(profile_of(), REFERENCE)
    assert step(BATCH / 100).metrics["lambda_next"] < 1.0


@pytest.mark.parametrize("fixed", [0.0, 2.5])
def test_a_fixed_lambda_stays(fixed):
    step = RadStep(profile_of(), REFERENCE, fixed_dual=fixed)
    step.load_state_dict({"dual": {"value": 7.0}})
    assert [step(10 * BATCH).dual_variable for _ in range(3)] == [fixed] * 3


@pytest.mark.parametrize("gradient", ["leave_one_out", "spacing", "tilted"])
@pytest.mark.parametrize("form", ["improvement", "no_worse", "spectral"])
def test_the_score_bound_holds_on_the_reference(gradient, form):
    step = RadStep(profile_of(constraint__form=form, constraint__gradient=gradient), REFERENCE)
    score_b = step(REFERENCE).score_b
    bound = step.score_bound()
    most = 60.0 if gradient == "tilted" else 10.0
    assert most * (score_b.max() - score_b.min()) <= bound + 1e-9
    if form == "spectral":
        assert most * (score_b.max() - score_b.min()) >= 0.97 * bound


def test_a_fixed_number_of_particles():
    step = RadStep(profile_of(transport__particles=16), REFERENCE)
    assert np.unique(step(BATCH).score_b).size <= 17
    with pytest.raises(CostError, match="10 costs cannot give 16 particles"):
        step(BATCH[:10])


def test_the_reference_does_not_cap_the_particles():
    """Sixteen quantiles of twelve costs are those of each cost twelve-sixteenths of a time: by hand."""
    cost_r, batch = np.sort(REFERENCE[:12]), BATCH[:16]
    step = RadStep(profile_of("test: mean", constraint__form="spectral"), cost_r)
    at_16 = cost_r[[0, 1, 1, 2, 3, 4, 4, 5, 6, 7, 7, 8, 9, 10, 10, 11]]
    assert step(batch).metrics["constraint_value"] == pytest.approx(at_16.mean() - batch.mean())


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_costs_that_are_not_finite_are_refused_and_lambda_stays(bad):
    step = RadStep(profile_of(), REFERENCE)
    with pytest.raises(CostError, match="not finite"):
        step(np.append(BATCH, bad))
    assert step.dual.value == 1.0


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        (REFERENCE[:7], "7 reference costs; cvar α=0.8 needs at least 8"),
        (np.full(20, 0.3), "all 20 reference costs are 0.3"),
        (np.append(REFERENCE, np.nan), "not finite"),
        ([], "holds 0 costs"),
    ],
)
def test_a_reference_that_cannot_serve_is_refused(reference, message):
    with pytest.raises(ReferenceCostError, match=message):
        RadStep(profile_of(), reference)


def test_a_share_of_a_negative_risk_is_refused():
    with pytest.raises(ReferenceCostError, match="use spread"):
        RadStep(profile_of(constraint__level="20% of reference risk"), REFERENCE - 50)


def train(profile, *, start=0.0, fixed_dual=None):
    """REINFORCE for a normal policy whose reward likes what costs; final change of risk in spreads, λ."""
    rng = np.random.default_rng(5)
    reference = rng.normal(size=1024)
    step = RadStep(profile, reference, fixed_dual=fixed_dual)
    mean, log_scale, lambdas = start, 0.0, []
    for _ in range(250):
        scale, z = np.exp(log_scale), rng.normal(size=64)
        result = step(mean + scale * z)
        lambdas.append(result.dual_variable)
        reward = 0.5 * (mean + scale * z) + result.dual_variable * result.score_b
        advantage = reward - reward.mean()
        mean += 0.05 * (np.mean(advantage * z) / scale - 0.1 * mean)
        log_scale += 0.05 * (np.mean(advantage * (z * z - 1)) - 0.1 * (scale**2 - 1))
    cost = mean + np.exp(log_scale) * rng.normal(size=20_000)
    change = profile.risk.risk(cost) - profile.risk.risk(reference)
    return change / reference.std(), lambdas


def test_training_lowers_the_tail_and_without_lambda_it_rises():
    profile = load_profile("medical")
    constrained, _ = train(profile)
    control, _ = train(profile, fixed_dual=0.0)
    assert constrained < -0.2
    assert control > 1.0


def test_training_recovers_from_a_policy_far_above_the_reference():
    # Why the shipped profiles use no_worse: improvement has no gradient out there.
    change, lambdas = train(load_profile("medical"), start=2.0)
    assert change < -0.2
    assert max(lambdas) > 2 * lambdas[-1]
    improvement = load_profile("medical").with_overrides(
        {"constraint.form": "improvement", "constraint.level": "0.4 of reference spread"}
    )
    lost, _ = train(improvement, start=2.0)
    assert lost > 1.0


def test_a_rollout_without_a_gradient_is_refused() -> None:
    """With 8 samples the worst 10 % are less than one sample: the constraint would bound the largest of 8."""
    step = RadStep(load_profile("medical"), np.random.default_rng(0).normal(size=256))
    with pytest.raises(ConfigError) as refusal:
        step.check_batch(8)
    assert str(refusal.value) == (
        "a rollout has 8 samples; under cvar α=0.9 only the most costly one would count, so that the"
        " largest of a rollout would be bounded instead; take at least 11 samples a rollout (batch size ×"
        " samples a prompt), better ten times as many"
    )
    step.check_batch(11)
    assert np.unique(step(np.random.default_rng(1).normal(size=8)).score_b).size == 2
    assert np.unique(step(np.random.default_rng(1).normal(size=12)).score_b).size == 3
    tilted = load_profile("medical").with_overrides({"constraint.gradient": "tilted"})
    step = RadStep(tilted, np.random.default_rng(0).normal(size=256))
    with pytest.raises(ConfigError, match="a rollout has 8 samples"):
        step.check_batch(8)
    assert step(np.random.default_rng(1).normal(size=8)).score_b.std() == 0


@pytest.mark.parametrize(
    ("risk", "least"),
    [
        ("mean", 2),
        ("cvar α=0.9", 11),
        ("cvar α=0.99", 101),
        ("cvar α=0.99999", 100_001),
        ("var α=0.99", 4),
        ("cvar α=0.999999999", 1_000_000_001),
        ("power γ=1e12", 1e12 / math.log(1e9)),  # (1 − 1/n)^γ > 1e-9
    ],
)
def test_the_least_batch_is_found_without_trying_each(risk, least):
    """CVaR α needs a second sample within the worst 1 − α; rounding shows beyond a thousand million."""
    found = load_profile("medical").with_overrides({"risk": risk}).risk.least_size()
    assert found == (least if least < 1e6 else pytest.approx(least, rel=1e-3))


def test_a_reference_that_shows_nothing_of_the_tail_is_refused():
    with pytest.raises(ReferenceCostError) as refusal:
        RadStep(profile_of("test: cvar α=0.99"), REFERENCE[:51])
    assert str(refusal.value) == (
        "there are 51 reference costs; cvar α=0.99 needs at least 101, or the worst one alone would count;"
        " sample more, for instance reference.samples: 256"
    )
