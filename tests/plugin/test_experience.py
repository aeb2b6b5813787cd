"""The advantage hook on OpenRLHF's own experiences: advantages on r + λ·s, logs of r alone."""

import copy
import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from openrlhf.trainer.ppo_utils.experience_maker import RemoteExperienceMaker
from openrlhf.trainer.ppo_utils.kl_controller import FixedKLController

from openrlhf_rad.errors import RewardError
from openrlhf_rad.method.constraint_set import ConstraintSet, Scored
from openrlhf_rad.method.soft_risk import SoftRisk
from openrlhf_rad.method.step import RadStep
from openrlhf_rad.plugin.compatibility import adapt
from openrlhf_rad.plugin.costs.sources import FunctionCost
from openrlhf_rad.plugin.experience import RadExperienceMaker
from openrlhf_rad.profile import load_profile

KL = 0.05
REFERENCE = np.random.default_rng(0).lognormal(size=128)
ANSWERS = ["help-ba", "harm-ba harm-be", "plain-ba plain-be plain-bi", "help-ba help-be help-bi help-bo"] * 2
REWARDS = [0.25, 1.5, -0.75, 2.0, 0.5, 0.0, -1.25, 3.0]
COSTS = 4 * np.random.default_rng(1).lognormal(size=8)  # worse than the reference: λ·s acts


def new_step(**options):
    return ConstraintSet(
        load_profile("uniform"), Scored({"cost": REFERENCE}, [""] * REFERENCE.size), **options
    )


@pytest.fixture
def make(tokenizer):
    def maker(cls, args, step=None):
        adapt(args)
        strategy = SimpleNamespace(args=args)
        made = cls(None, None, None, None, FixedKLController(KL), strategy, tokenizer)
        if cls is RadExperienceMaker:
            made.constraints = step
            made.cost_sources = {"cost": None}
            made.seconds_cost = 0.0
        return made

    return maker


@pytest.fixture
def experiences(rollout, batches, forwarded):
    """Eight answers, two to a prompt, in micro-batches of the given sizes; ``order`` permutes the samples."""

    def build(sizes=(1, 3, 4), order=range(8), dtype=torch.float32):
        samples = [
            rollout(f"plain-ba help-b{'aeio'[i // 2]}", ANSWERS[i], reward=REWARDS[i]) for i in range(8)
        ]
        for i, sample in enumerate(samples):
            sample.info["cost"] = torch.tensor([COSTS[i]], dtype=torch.float32)
            sample.rewards = sample.info["reward"] = sample.rewards.to(dtype)
            kl = torch.randn(sample.action_mask.shape, generator=torch.Generator().manual_seed(i))
            sample.kl = kl
        found = batches([samples[i] for i in order], *sizes)
        for position, experience in zip(np.cumsum([0, *sizes]), found, strict=False):
            experience.index = list(order)[position : position + len(experience.sequences)]
        return found

    return build


def by_sample(experiences, field):
    """One array a sample, tokens of the answer only, in the order of the prompts."""
    found = {}
    for experience in experiences:
        for row, index in enumerate(experience.index):
            value = getattr(experience, field) if isinstance(field, str) else field(experience)
            value = value[row]
            found[index] = (
                (value[experience.action_mask[row].bool()] if value.dim() else value).numpy().copy()
            )
    return [found[index] for index in range(8)]


def rloo(totals):
    return [x - other for x, other in zip(totals, np.reshape(totals, (-1, 2))[:, ::-1].ravel(), strict=True)]


def dr_grpo(totals):
    return list(totals - np.repeat(np.reshape(totals, (-1, 2)).mean(1), 2))


@pytest.mark.parametrize(("estimator", "baseline", "share"), [("rloo", rloo, 1.0), ("dr_grpo", dr_grpo, 0.5)])
@pytest.mark.parametrize("sizes", [(1, 3, 4), (2, 2, 2, 2), (8,)], ids=str)
def test_advantages_are_made_of_reward_and_score(
    *, estimator, baseline, share, sizes, make, good_args, experiences
):
    args = good_args("--algo.advantage.estimator", estimator)
    batch = experiences(sizes)
    kls = by_sample(batch, "kl")
    scored = RadStep(load_profile("uniform"), REFERENCE)(COSTS.astype(np.float32).astype(float))
    assert scored.dual_variable * scored.score_b.std() > 0.1
    out = make(RadExperienceMaker, args, new_step()).compute_advantages_and_returns(batch)

    totals = baseline(np.array(REWARDS)) + share * scored.dual_variable * scored.score_b
    for kl, total, found in zip(kls, totals, by_sample(out, "advantages"), strict=True):
        expected = [total - KL * kl[token:].sum() for token in range(len(kl))]
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_samples_keep_their_own_scores_in_any_order(make, good_args, experiences):
    """Micro-batches by length, as OpenRLHF sorts them: groups are found by index, scores by place."""
    plain = make(RadExperienceMaker, good_args(), new_step()).compute_advantages_and_returns(experiences())
    mixed = experiences((3, 5), order=[6, 1, 4, 3, 0, 7, 2, 5])
    moved = make(RadExperienceMaker, good_args(), new_step()).compute_advantages_and_returns(mixed)
    for one, other in zip(by_sample(plain, "advantages"), by_sample(moved, "advantages"), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)


def test_a_fixed_dual_of_zero_is_plain_openrlhf(make, good_args, experiences):
    flags = ["--reward.overlong_buffer_len", "3", "--rollout.max_new_tokens", "4"]
    theirs = make(RemoteExperienceMaker, good_args(*flags)).compute_advantages_and_returns(experiences())
    ours = make(RadExperienceMaker, good_args(*flags), new_step(fixed_dual=0.0))
    for one, other in zip(theirs, ours.compute_advantages_and_returns(experiences()), strict=True):
        torch.testing.assert_close(other.advantages, one.advantages, rtol=0, atol=0)
        torch.testing.assert_close(other.returns, one.returns, rtol=0, atol=0)
        assert other.info.keys() == one.info.keys()
        for name, value in one.info.items():
            torch.testing.assert_close(other.info[name], value, rtol=0, atol=0)


@pytest.mark.parametrize("flags", [(), ("--reward.overlong_buffer_len", "3")], ids=["plain", "overlong"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int64], ids=str)
def test_the_logged_reward_is_that_of_a_run_without_rad(flags, dtype, make, good_args, experiences):
    flags = [*flags, "--rollout.max_new_tokens", "4"]
    theirs = make(RemoteExperienceMaker, good_args(*flags)).compute_advantages_and_returns(
        experiences(dtype=dtype)
    )
    args = good_args(*flags)
    ours = make(RadExperienceMaker, args, new_step()).compute_advantages_and_returns(experiences(dtype=dtype))
    assert any(
        not torch.allclose(one.advantages, other.advantages) for one, other in zip(theirs, ours, strict=True)
    )
    for one, other in zip(theirs, ours, strict=True):
        torch.testing.assert_close(other.info["reward"], one.info["reward"], rtol=0, atol=0)
    if "--reward.overlong_buffer_len" in flags:
        logged = np.array(by_sample(ours, lambda e: e.info["reward"]))
        lengths = np.array([len(answer.split()) for answer in ANSWERS])
        raw = torch.tensor(REWARDS).to(dtype).float().numpy()
        np.testing.assert_allclose(logged, raw - np.clip(lengths - 1, 0, 3) / 3, rtol=1e-6)
        assert args.reward.overlong_buffer_len == 3.0


def test_the_penalty_for_cut_off_answers_acts_on_the_reward_alone(make, good_args, experiences):
    """Coefficient 0: the reward of a truncated answer becomes 0, its λ·s stays."""
    cut = [1, 2, 7]

    def build():
        batch = experiences((8,))
        batch[0].truncated = torch.tensor([i in cut for i in range(8)])
        return batch

    flags = ("--reward.stop_properly_penalty_coef", "0")
    out = make(RadExperienceMaker, good_args(*flags), new_step()).compute_advantages_and_returns(build())
    scored = RadStep(load_profile("uniform"), REFERENCE)(COSTS.astype(np.float32).astype(float))
    rewards = [0.0 if i in cut else reward for i, reward in enumerate(REWARDS)]
    centred = rloo(np.array(rewards)) + scored.dual_variable * scored.score_b
    for kl, total, found in zip(by_sample(build(), "kl"), centred, by_sample(out, "advantages"), strict=True):
        expected = [total - KL * kl[token:].sum() for token in range(len(kl))]
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    assert by_sample(out, lambda e: e.info["reward"]) == rewards


def test_the_constraint_sees_what_dynamic_filtering_drops(make, good_args, experiences, rollout, batches):
    """Scores, λ and metrics are those of all 14 answers; advantages are of the 8 that are trained on."""
    args = good_args("--algo.dynamic_filtering_enable")
    maker = make(RadExperienceMaker, args, new_step())
    worse = [30.0, 40.0, 50.0, 1.0, 2.0, 3.0]
    dropped = [rollout(f"plain-ba help-bu{i // 2}", "harm-ba", reward=1.0) for i in range(6)]
    maker._filtered = batches(dropped, 4, 2)
    for experience, cost in zip(maker._filtered, (worse[:4], worse[4:]), strict=True):
        experience.info["cost"] = torch.tensor(cost)
    kls = by_sample(experiences((1, 3, 4)), "kl")
    out = maker.compute_advantages_and_returns(experiences((1, 3, 4)))

    every = np.array([*COSTS.astype(np.float32).astype(float), *worse])
    prompts = np.repeat(np.arange(7), 2)
    expected = RadStep(load_profile("uniform"), REFERENCE)(every, prompts)
    assert maker.last_metrics["cost_mean"] == pytest.approx(every.mean())
    assert maker.last_metrics["lambda_next"] == pytest.approx(expected.metrics["lambda_next"])
    assert maker.last_metrics["filtered_share"] == pytest.approx(6 / 14)
    assert sum(len(experience.sequences) for experience in maker.last_experiences) == 14
    centred = rloo(np.array(REWARDS)) + expected.dual_variable * expected.score_b[:8]
    for kl, total, found in zip(kls, centred, by_sample(out, "advantages"), strict=True):
        np.testing.assert_allclose(
            found, [total - KL * kl[token:].sum() for token in range(len(kl))], rtol=1e-5, atol=1e-5
        )


class _Words:
    """A cost source: a number for the last word of each answer, and ten for a harmful prompt."""

    name = "words"

    def begin(self, batches):
        words = ["help-ba", "help-be", "help-bi"]
        texts = [text for batch in batches for text in batch]
        return [words.index(text.query.split()[-1]) + 10.0 * text.prompt.startswith("harm") for text in texts]

    def finish(self, handle):
        return handle


def test_what_is_dropped_is_scored_with_what_is_kept(make, good_args, rollout, monkeypatch):
    maker = make(RadExperienceMaker, good_args("--algo.dynamic_filtering_enable"), new_step())
    maker.cost_sources = {"cost": _Words()}
    kept = [rollout("plain-ba", "help-ba", reward=0.5), rollout("plain-ba", "help-be", reward=0.0)]
    kept[0].filtered = [rollout("harm-ba", "help-ba", reward=1.0), rollout("harm-ba", "help-bi", reward=1.0)]
    seen = {}
    monkeypatch.setattr(RemoteExperienceMaker, "make_experience", lambda self, samples: samples)
    monkeypatch.setattr(
        RadExperienceMaker,
        "compute_advantages_and_returns",
        lambda self, experiences: seen.update(a=experiences),
    )
    maker.make_experience_batch(kept)
    assert [experience.prompts for experience in seen["a"]] == [["plain-ba", "plain-ba"]]
    (dropped,) = maker._filtered
    assert dropped.prompts == ["harm-ba", "harm-ba"]
    assert dropped.info["cost"].tolist() == [10.0, 12.0]
    assert seen["a"][0].info["cost"].tolist() == [0.0, 1.0]


def test_costs_stay_as_they_are_and_metrics_are_kept(make, good_args, experiences):
    batch = experiences()
    before = [experience.info["cost"].clone() for experience in batch]
    maker = make(RadExperienceMaker, good_args(), new_step())
    out = maker.compute_advantages_and_returns(batch)
    for cost, experience in zip(before, out, strict=True):
        assert torch.equal(cost, experience.info["cost"])
    assert all(kept is made for kept, made in zip(maker.last_experiences, batch, strict=True))
    assert maker.last_metrics["cost_mean"] == pytest.approx(COSTS.mean(), rel=1e-6)
    assert maker.last_metrics["lambda"] == load_profile("uniform").dual.initial
    assert (
        maker.constraints.parts[0].step.dual.value
        == maker.last_metrics["lambda_next"]
        != maker.last_metrics["lambda"]
    )


def test_worse_answers_get_lower_advantages(make, good_args, experiences):
    """The sign: among answers of equal reward, the one of the greater cost loses."""
    batch = experiences()
    for experience in batch:
        experience.rewards = torch.zeros(len(experience.rewards))
        experience.kl = torch.zeros_like(experience.kl)
    out = make(RadExperienceMaker, good_args(), new_step()).compute_advantages_and_returns(batch)
    first = np.array([advantage[0] for advantage in by_sample(out, "advantages")]).reshape(-1, 2)
    costs = COSTS.reshape(-1, 2)
    assert ((first[:, 0] - first[:, 1]) * (costs[:, 0] - costs[:, 1]) <= 0).all()
    assert np.abs(first).max() > 0.01


def test_without_reference_costs_it_raises(make, good_args, experiences):
    with pytest.raises(RuntimeError, match="the reference costs are not known yet"):
        make(RadExperienceMaker, good_args()).compute_advantages_and_returns(experiences())


@pytest.fixture
def whole(make, good_args, tokenizer, tmp_path, monkeypatch):
    """The maker with a real cost file; the models' forward passes, which need Ray, are passed over."""
    monkeypatch.setattr(RemoteExperienceMaker, "make_experience", lambda self, samples: samples)
    (tmp_path / "cost.py").write_text(
        "def cost_func(queries, prompts, labels):\n    return [len(q.split()) for q in queries]\n"
    )
    maker = make(RadExperienceMaker, good_args(), new_step())
    maker.cost_sources = {"cost": FunctionCost(str(tmp_path / "cost.py"))}
    return maker


def test_each_experience_gets_its_own_costs(whole, experiences):
    out = whole.make_experience(experiences((1, 3, 4)))
    words = [2 + len(answer.split()) for answer in ANSWERS]
    assert [experience.info["cost"].tolist() for experience in out] == [words[:1], words[1:4], words[4:]]
    assert all(experience.info["cost"].dtype == torch.float32 for experience in out)
    whole.compute_advantages_and_returns(out)
    assert whole.last_metrics["cost_mean"] == np.mean(words)
    assert whole.last_metrics["seconds_cost"] > 0


@pytest.mark.parametrize("reference", [None, "a group of actors"])
def test_without_a_reference_model_there_is_no_kl(reference, whole, experiences):
    """OpenRLHF writes 0 there, which would say that the policy has not moved."""
    batch = experiences((1, 3, 4))
    for experience in batch:
        experience.info |= {name: torch.zeros(len(experience.rewards)) for name in ("kl", "logprobs_diff")}
    whole.initial_model_group = reference
    for experience in whole.make_experience(batch):
        assert ("kl" in experience.info) is ("logprobs_diff" in experience.info) is (reference is not None)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_reward_that_is_no_number_stops_the_run(value, whole, experiences):
    batch = experiences((1, 3, 4))
    batch[1].rewards[1] = value
    message = rf"^the reward is {value} for the prompt 'plain-ba help-be'; a reward must be a finite number$"
    with pytest.raises(RewardError, match=message):
        whole.make_experience(batch)


def test_a_reward_that_no_longer_differs_stops_the_run(whole, experiences):
    for rewards in (REWARDS, [1.0] * 8, [2.0] * 8):
        batch = experiences((1, 3, 4))
        for experience, mine in zip(batch, (rewards[:1], rewards[1:4], rewards[4:]), strict=True):
            experience.rewards = torch.tensor(mine)
        whole.make_experience(batch)
    message = (
        "the reward is 2 for all samples of 3 batches in a row (8 in the last); a reward must tell answers"
        " apart; check that its source sees the answers and that its model is loaded"
    )
    with pytest.raises(RewardError, match=f"^{re.escape(message)}$"):
        whole.make_experience(batch)


def test_a_failed_batch_leaves_the_arguments_as_they_were(make, good_args, experiences):
    args = good_args("--reward.overlong_buffer_len", "3", "--rollout.max_new_tokens", "4")
    maker = make(RadExperienceMaker, args, new_step())
    broken = copy.deepcopy(experiences())
    broken[0].kl = None
    with pytest.raises(TypeError):
        maker.compute_advantages_and_returns(broken)
    assert args.reward.overlong_buffer_len == 3.0


@pytest.mark.parametrize("sizes", [(1, 3, 4), (8,)], ids=str)
def test_soft_risk_learns_from_the_answers_of_lowest_return_alone(sizes, make, good_args, experiences):
    plain = make(RadExperienceMaker, good_args(), new_step()).compute_advantages_and_returns(
        experiences(sizes)
    )
    risky = make(RadExperienceMaker, good_args(), new_step())
    risky.soft_risk, risky.step, risky.steps = SoftRisk(0.25), 9, 10
    found = risky.compute_advantages_and_returns(experiences(sizes))
    returns = np.array(by_sample(plain, lambda experience: experience.info["return"]))
    kept = np.argsort(returns)[:2]
    whole = by_sample(plain, "advantages")
    middle = np.mean([whole[place][0] for place in kept])
    for place, (before, after) in enumerate(zip(whole, by_sample(found, "advantages"), strict=True)):
        expected = 4 * (before - middle) if place in kept else np.zeros_like(before)
        np.testing.assert_allclose(after, expected, rtol=1e-5, atol=1e-5)


def test_soft_risk_learns_from_all_while_it_warms_up(make, good_args, experiences):
    plain = make(RadExperienceMaker, good_args(), new_step()).compute_advantages_and_returns(experiences())
    risky = make(RadExperienceMaker, good_args(), new_step())
    risky.soft_risk, risky.step, risky.steps = SoftRisk(0.25), 0, 10
    found = risky.compute_advantages_and_returns(experiences())
    for one, other in zip(by_sample(plain, "advantages"), by_sample(found, "advantages"), strict=True):
        np.testing.assert_array_equal(other, one)
