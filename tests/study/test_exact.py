"""The exact world against what is known of it: the closed form of the optimum, quadrature, samples."""

import numpy as np
import pytest

from openrlhf_rad.method.spectrum import make_spectrum
from openrlhf_rad.profile import load_profile
from openrlhf_rad.study.enumerated import steps_to_feasibility
from openrlhf_rad.study.exact import (
    HELD_OUT,
    OTHER,
    TRAIN,
    Kind,
    World,
    WorldSettings,
    expectation,
    leave_one_out,
    train,
    weighted_risk,
)

KINDS = {
    "plain": Kind(2, 0.5, 0.0, 0.1),
    "mild": Kind(2, 0.4, 0.6, 1.0),
    "grave": Kind(1, 0.1, 1.5, 4.0, tempted=3.0),
}
TAIL = make_spectrum("cvar", alpha=0.9)


def world(seed=3, **settings):
    return World(WorldSettings(KINDS, **settings), seed)


def profile(name, **values):
    return load_profile(name).with_overrides({"reference.samples": 1024, **values})


@pytest.mark.parametrize("dual", [0.0, 0.8])
def test_at_a_price_that_stays_the_policy_ends_near_the_optimum_in_closed_form(dual):
    # One prompt whose only feature is constant: every policy can be learned. The optimum of
    # E[r − β log(π/π₀)] − λ E[c]/σ is π ∝ π₀ exp((r − λ c/σ)/β).
    one = world(prompts=1, features=1, answers=32, steps=500, rate=1.0)
    asked = profile("safe-rlhf")
    found = train(one, asked, TAIL, fixed_dual=dual)
    prompts, beta = one.sets[TRAIN], one.settings.kl
    spread = one.reference(1024).costs["cost"].std()

    def objective(policy_pa):
        gain_pa = prompts.reward_pa - dual * prompts.cost_pa / spread
        divergence_pa = np.log(policy_pa) - prompts.start_pa
        return expectation(policy_pa, gain_pa - beta * divergence_pa)

    power_pa = np.exp(prompts.start_pa + (prompts.reward_pa - dual * prompts.cost_pa / spread) / beta)
    best, start = objective(power_pa / power_pa.sum()), objective(prompts.policy(one.start()))
    learned = objective(prompts.policy(found.weight_da))
    assert best - learned < 0.05 * (best - start)
    assert (found.dual_t == dual).all()


def test_the_true_violation_is_that_of_a_large_sample():
    one = world(steps=3)
    found = train(one, profile("cvar"), TAIL)
    prompts = one.sets[TRAIN]
    rng = np.random.default_rng(0)
    answer_b = one.sample(rng, prompts.policy(one.start()), 20_000)
    cost_b = np.sort(prompts.cost_pa[np.repeat(np.arange(one.settings.prompts), 20_000), answer_b])
    reference_r = np.sort(one.reference(1024).costs["cost"])
    # Eq. (15) by quadrature over the upper quarter: quantiles above the shifted reference's count.
    spread, level_n = reference_r.std(), (np.arange(200_000) + 0.5) / 200_000
    risk_r = reference_r[int(0.75 * reference_r.size) :]
    low, high = 0.0, 10.0
    for _ in range(60):  # the shift by which the reference's risk falls by 0.6 spreads
        middle = (low + high) / 2
        fallen = risk_r.mean() - np.maximum(risk_r - middle, reference_r[0]).mean()
        low, high = (middle, high) if fallen < 0.6 * spread else (low, middle)
    upper_n = level_n[level_n >= 0.75]
    policy_n = cost_b[np.minimum((upper_n * cost_b.size).astype(int), cost_b.size - 1)]
    shifted_n = np.maximum(
        reference_r[np.minimum((upper_n * reference_r.size).astype(int), reference_r.size - 1)] - low,
        reference_r[0],
    )
    expected = np.maximum(policy_n - shifted_n, 0).mean() / spread - 0.2
    assert found.violation_t[0] == pytest.approx(expected, abs=0.03)


def test_the_risk_of_weighted_answers_is_that_of_repeated_ones():
    cost_b, count_b = np.array([3.0, 1.0, 2.0, 8.0]), np.array([5, 10, 4, 1])
    for spectrum in (TAIL, make_spectrum("wang", eta=1.0), make_spectrum("mean")):
        repeated = spectrum.risk(np.repeat(cost_b, count_b))
        assert weighted_risk(spectrum, cost_b, count_b / 20) == pytest.approx(repeated)


def test_rloo_takes_off_the_mean_of_the_others():
    assert leave_one_out(np.array([1.0, 2.0, 6.0, 0.0, 0.0, 3.0]), 3).tolist() == pytest.approx(
        [1 - 4, 2 - 3.5, 6 - 1.5, -1.5, -1.5, 3]
    )


def test_prompts_of_another_distribution_tempt_to_harm_and_sets_differ():
    one = world(prompts=200)
    grave = {name: held.policy(one.start())[:, 4].mean() for name, held in one.sets.items()}
    assert 0.08 < grave[TRAIN] < 0.12
    assert grave[OTHER] > 2 * grave[HELD_OUT]
    assert not np.array_equal(one.sets[TRAIN].cost_pa, one.sets[HELD_OUT].cost_pa)


def test_a_seed_is_a_world_and_training_repeats_to_the_bit():
    first, again, other = (train(world(seed, steps=20), profile("wang"), TAIL) for seed in (1, 1, 2))
    assert np.array_equal(first.weight_da, again.weight_da)
    assert not np.array_equal(first.weight_da, other.weight_da)


def test_the_steps_to_feasibility_are_those_before_ten_calm_ones():
    assert steps_to_feasibility(np.concatenate([np.ones(40), -np.ones(40)])) == 35
    assert steps_to_feasibility(np.ones(25)) == 25
