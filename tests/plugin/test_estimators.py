"""What OpenRLHF's estimators do to r + λs, by its own ``compute_advantages_and_returns``.

docs/modes.md says what is asserted here. Throughout s has λ = 1; a claim on λ is one on multiples of s.
"""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from openrlhf.trainer.ppo_utils.experience_maker import RemoteExperienceMaker
from openrlhf.trainer.ppo_utils.kl_controller import FixedKLController

from openrlhf_rad.plugin.compatibility import adapt
from openrlhf_rad.plugin.experience import RadExperienceMaker

N = 4  # answers a prompt
KL = 0.05
GENERATOR = np.random.default_rng(7)
ANSWERS = ["help-ba", "harm-ba harm-be", "plain-ba plain-be plain-bi", "help-ba help-be help-bi help-bo"] * 3
REWARDS = GENERATOR.normal(size=12)
# Prompts differ in how much is at stake: a mild one, one with a catastrophe, one in between.
BONUS = GENERATOR.normal(size=12) * np.repeat([0.05, 6.0, 1.0], N)


class Bonus:
    """A constraint set that gives each answer its bonus, before the estimator's baseline or after it."""

    parts = (None,)

    def __init__(self, bonus_b, *, own_baseline=False):
        self.bonus_b, self.advantage_b = (0 * bonus_b, bonus_b) if own_baseline else (bonus_b, 0 * bonus_b)

    def __call__(self, scored):
        return SimpleNamespace(bonus_b=self.bonus_b, advantage_b=self.advantage_b, metrics={})


@pytest.fixture
def advantages(rollout, batches, good_args, tokenizer):
    """Advantages of every answer's tokens: of rewards and bonus by RAD, or of rewards by OpenRLHF."""

    def compute(
        estimator, rewards, bonus=None, *, flags=(), order=range(12), sizes=(5, 7), own_baseline=False
    ):
        args = good_args(
            *("--algo.advantage.estimator", estimator, "--rollout.n_samples_per_prompt", str(N)),
            *flags,
            without=("--algo.advantage.estimator", "--rollout.n_samples_per_prompt"),
        )
        adapt(args)
        cls = RemoteExperienceMaker if bonus is None else RadExperienceMaker
        maker = cls(None, None, None, None, FixedKLController(KL), SimpleNamespace(args=args), tokenizer)
        if bonus is not None:
            maker.constraints = Bonus(np.asarray(bonus)[list(order)], own_baseline=own_baseline)
            maker.cost_sources, maker.seconds_cost = {"cost": None}, 0.0
        found = batches(_samples(rollout, rewards, order), *sizes)
        for place, experience in zip(np.cumsum([0, *sizes]), found, strict=False):
            experience.index = list(order)[place : place + len(experience.sequences)]
            experience.values = values_of(experience)
        return _by_answer(maker.compute_advantages_and_returns(found))

    return compute


def _samples(rollout, rewards, order):
    samples = []
    for place in order:
        sample = rollout(f"plain-ba help-b{'aei'[place // N]}", ANSWERS[place], reward=float(rewards[place]))
        sample.info["cost"] = torch.zeros(1)
        generator = torch.Generator().manual_seed(place)
        sample.kl = torch.randn(sample.action_mask.shape, generator=generator)
        samples.append(sample)
    return samples


def values_of(experience):
    """A critic's values: any numbers, the same for an answer wherever it stands."""
    rows = [
        torch.randn(experience.action_mask.shape[1], generator=torch.Generator().manual_seed(100 + place))
        for place in experience.index
    ]
    return torch.stack(rows)


def _by_answer(experiences, field="advantages"):
    found = {}
    for experience in experiences:
        for row, place in enumerate(experience.index):
            mask = experience.action_mask[row].bool()
            found[place] = getattr(experience, field)[row][mask].double().numpy()
    return [found[place] for place in range(12)]


def flat(answers):
    return np.concatenate(answers)


def per_token(values, answers):
    """A number an answer, repeated for each of its tokens."""
    return np.repeat(values, [len(answer) for answer in answers])


def groups(values):
    return np.reshape(values, (-1, N))


def centred(values):
    return (groups(values) - groups(values).mean(1, keepdims=True)).ravel()


LINEAR = {
    "rloo": lambda x: centred(x) * N / (N - 1),
    "dr_grpo": centred,
    "flash_reinforce": lambda x: x - x.mean(),
}


@pytest.mark.parametrize(("estimator", "baseline"), LINEAR.items(), ids=LINEAR)
def test_linear_estimators_price_harm_at_exactly_lambda(estimator, baseline, advantages):
    """A(r + λs) − A(r) is the estimator's own baseline taken off λs: λ means what it says."""
    plain = advantages(estimator, REWARDS)
    with_bonus = advantages(estimator, REWARDS, BONUS)
    expected = per_token(baseline(BONUS), plain)
    np.testing.assert_allclose(flat(with_bonus) - flat(plain), expected, atol=2e-5)


@pytest.mark.parametrize(
    "order", [range(12), [6, 1, 11, 3, 0, 7, 2, 5, 10, 4, 9, 8]], ids=["in order", "mixed"]
)
@pytest.mark.parametrize(
    ("estimator", "share"),
    [("rloo", 1), ("flash_reinforce", 1), ("dr_grpo", (N - 1) / N), ("group_norm", (N - 1) / N)],
)
def test_what_has_its_own_baseline_comes_after_the_estimator_s(estimator, share, order, advantages):
    """λs as it is; where the estimator leaves (K − 1)/K of the reward, by as much, and λ keeps its price."""
    plain = advantages(estimator, REWARDS)
    with_bonus = advantages(estimator, REWARDS, BONUS, order=order, own_baseline=True)
    np.testing.assert_allclose(flat(with_bonus) - flat(plain), per_token(share * BONUS, plain), atol=2e-5)


@pytest.mark.parametrize("estimator", ["reinforce", "reinforce_baseline", "gae"])
def test_where_all_is_whitened_it_comes_before(estimator, advantages):
    before = advantages(estimator, REWARDS, BONUS)
    np.testing.assert_allclose(
        flat(advantages(estimator, REWARDS, BONUS, own_baseline=True)), flat(before), atol=2e-5
    )


@pytest.mark.parametrize("estimator", ["rloo", "group_norm"])
def test_one_extreme_cost_leaves_the_digits_of_the_others(estimator, advantages):
    """float32 would keep no digit after the point beside 1e7."""
    bonus = np.append(BONUS[:-1], -1e7) + 1e7
    plain = advantages(estimator, REWARDS)
    found = flat(advantages(estimator, REWARDS, bonus)) - flat(plain)
    expected = (LINEAR["rloo"] if estimator == "rloo" else centred)(bonus)
    first_two = np.repeat(np.arange(12), [len(answer) for answer in plain]) < 2 * N
    np.testing.assert_allclose(found[first_two], per_token(expected, plain)[first_two], atol=2e-5)


def test_dr_grpo_weighs_the_kl_penalty_by_n_over_n_minus_1_more_than_rloo(advantages):
    """Its baseline holds the answer's own reward; the KL penalty has no baseline."""
    shrunk, whole = advantages("dr_grpo", REWARDS, BONUS), advantages("rloo", REWARDS, BONUS)
    without = per_token(centred(REWARDS + BONUS), whole)
    penalty = flat(shrunk) - without
    np.testing.assert_allclose(flat(whole), without * N / (N - 1) + penalty, atol=2e-5)
    assert np.abs(penalty).max() > 0.01


@pytest.mark.parametrize("estimator", ["reinforce", "reinforce_baseline", "gae"])
def test_whitening_is_one_positive_factor_for_reward_harm_and_kl(estimator, advantages):
    """The update points where it points without whitening; λ, r and β keep their proportions."""
    whitened = flat(advantages(estimator, REWARDS, BONUS))
    plain = flat(advantages(estimator, REWARDS, BONUS, flags=["--algo.advantage.no_std_norm"]))
    factor = np.linalg.norm(whitened) / np.linalg.norm(plain)
    assert factor == pytest.approx(1 / plain.std(), rel=1e-4)
    np.testing.assert_allclose(whitened, factor * plain, atol=2e-5)


@pytest.mark.parametrize("estimator", ["reinforce", "reinforce_baseline", "gae"])
def test_without_its_factor_whitening_prices_harm_at_lambda(estimator, advantages):
    """Up to one constant for all tokens, which is a baseline. With λ_GAE = 1 the critic is a baseline too."""
    flags = ["--algo.advantage.no_std_norm"]
    plain = advantages(estimator, REWARDS, flags=flags)
    with_bonus = advantages(estimator, REWARDS, BONUS, flags=flags)
    change = flat(with_bonus) - flat(plain)
    expected = per_token(centred(BONUS) if estimator == "reinforce_baseline" else BONUS, plain)
    np.testing.assert_allclose(change - change.mean(), expected - expected.mean(), atol=2e-5)


def test_below_1_gae_would_take_harm_from_the_critic(advantages):
    """Why it is refused: the first token of a long answer feels (λ_GAE)^T of λs only."""
    flags = ["--algo.advantage.no_std_norm", "--algo.advantage.lambd", "0.5"]
    plain = advantages("gae", REWARDS, flags=flags)
    with_bonus = advantages("gae", REWARDS, BONUS, flags=flags)
    change = [after - before for after, before in zip(with_bonus, plain, strict=True)]
    last, first = change[3][-1], change[3][0]
    bonus = BONUS[3] - np.median(BONUS)
    assert first - (last - bonus) == pytest.approx(bonus * 0.5**3, abs=1e-4)


@pytest.mark.parametrize(
    "order", [range(12), [6, 1, 11, 3, 0, 7, 2, 5, 10, 4, 9, 8]], ids=["in order", "mixed"]
)
def test_group_norm_scales_the_reward_and_leaves_lambda_alone(order, advantages):
    plain = advantages("group_norm", REWARDS)
    with_bonus = advantages("group_norm", REWARDS, BONUS, order=order)
    np.testing.assert_allclose(flat(with_bonus) - flat(plain), per_token(centred(BONUS), plain), atol=2e-5)


def test_group_norm_of_the_sum_would_give_each_prompt_its_own_lambda(advantages):
    """Why it sees the reward alone: in OpenRLHF's hands λ would fall where most is at stake."""
    spread = groups(REWARDS + BONUS).std(1, ddof=1)
    of_sum = advantages("group_norm", REWARDS + BONUS)
    of_penalty = advantages("group_norm", np.zeros(12))
    effective = flat(of_sum) - flat(of_penalty)
    expected = per_token(centred(REWARDS + BONUS) / np.repeat(spread, N), of_sum)
    np.testing.assert_allclose(effective, expected, atol=2e-5)
    prices = 1 / spread
    assert prices[1] < prices[0] / 3  # the prompt with the catastrophe has the smallest λ


def test_the_return_that_is_logged_holds_the_price(rollout, batches, good_args, tokenizer):
    flags = ("--algo.advantage.estimator", "group_norm", "--rollout.n_samples_per_prompt", str(N))
    args = good_args(*flags, without=("--algo.advantage.estimator", "--rollout.n_samples_per_prompt"))
    maker = RadExperienceMaker(
        None, None, None, None, FixedKLController(0.0), SimpleNamespace(args=args), tokenizer
    )
    maker.constraints, maker.cost_sources, maker.seconds_cost = Bonus(BONUS), {"cost": None}, 0.0
    found = batches(_samples(rollout, REWARDS, range(12)), 12)
    out = maker.compute_advantages_and_returns(found)
    expected = centred(REWARDS) / np.repeat(groups(REWARDS).std(1, ddof=1), N) + centred(BONUS)
    np.testing.assert_allclose(out[0].info["return"].numpy(), expected, atol=2e-5)
    returns = _by_answer(out, "returns")
    np.testing.assert_allclose(flat(returns), per_token(expected, returns), atol=2e-5)
    np.testing.assert_allclose(out[0].info["reward"].numpy(), REWARDS, rtol=1e-6)
