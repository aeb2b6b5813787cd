"""λ in OpenRLHF's checkpoints, through OpenRLHF's own code for them; no actor is started."""

import pickle
import re
from types import SimpleNamespace

import datasets
import numpy as np
import pytest
import ray
from openrlhf.trainer import ppo_trainer

from openrlhf_rad.errors import ConfigError, CostError, WatchStop
from openrlhf_rad.method.constraint_set import ConstraintSet, Scored
from openrlhf_rad.plugin.costs.sources import Variety, VaryingCosts
from openrlhf_rad.plugin.costs.texts import RatedText
from openrlhf_rad.plugin.panel import LoggerPanel
from openrlhf_rad.plugin.record import Answers
from openrlhf_rad.plugin.resume import identity, prepare, reference_of, restore
from openrlhf_rad.plugin.trainer import RadTrainer, RadTraining
from openrlhf_rad.profile import WatchSettings, load_profile
from openrlhf_rad.runs import checkpoints
from openrlhf_rad.runs.folder import Reference, RunFolder
from openrlhf_rad.watches import Watches


class Actors:
    """A group of actors that keeps the states it is given to save and gives them back."""

    def __init__(self):
        self.saved = {}

    def async_run_method(self, method_name, **kwargs):
        if method_name == "get_checkpoint_states":
            return [self.saved["latest"]]
        assert method_name == "save_checkpoint"
        self.saved[kwargs["tag"]] = self.saved["latest"] = pickle.loads(pickle.dumps(kwargs["client_states"]))
        return []


class Samples:
    """What a trainer asks of its sample generator besides samples."""

    def __init__(self):
        self.state, self.episode_is_over = {"batches": 0, "buffer": [], "exhausted": False}, False

    def state_dict(self):
        return self.state

    def load_state_dict(self, state):
        self.state = state


@pytest.fixture
def trainer(good_args, tmp_path, monkeypatch):
    monkeypatch.setattr(ray, "get", lambda found: found)

    def make(folder="run", profile="medical"):
        args = good_args("--ckpt.save_steps", "1", "--ckpt.load_enable", "--ckpt.path", str(tmp_path))
        (tmp_path / "_actor").mkdir(exist_ok=True)
        made = object.__new__(RadTrainer)
        made.args = args
        costs = np.random.default_rng(0).lognormal(size=64)
        profile = load_profile(profile).with_overrides({"cost.function": "cost.py"})
        made.options = SimpleNamespace(profile=profile, fixed_dual=None, heldout=None)
        made.reference = Reference({"cost": costs}, costs, [""] * 64, [""] * 64)
        made.constraints = ConstraintSet(profile, Scored({"cost": costs}, [""] * 64))
        made.watches = Watches({"cost": 10.0}, WatchSettings(window=5))
        made.folder = RunFolder.create(tmp_path / folder)
        made.experience_maker = SimpleNamespace(
            last_metrics={"lambda": 0.5, "cost_mean": 2.0},
            cost_sources={"cost": VaryingCosts(Same())},
            rewards=Variety(),
            remarks=lambda: [],
        )
        made.kl_ctl = SimpleNamespace(value=0.1)
        made.samples_generator = Samples()
        made.actor_model_group, made.critic_model_group = Actors(), None
        made.wandb_logger = made.tensorboard_logger = None
        made.panel = LoggerPanel(None, None)
        made.best_eval_metric_key, made.best_eval_metric_value = "", float("-inf")
        made._latest_eval_metric_value = None
        return made

    return make


class Same:
    """A source that gives 2.5 to everything."""

    name = "same"

    def begin(self, samples):
        return samples

    def finish(self, handle):
        return [2.5] * len(handle)


def resume(made):
    """What a trainer does before its first step, but for the answers."""
    states = made.states = plain_states(made)
    state = made._own_state()
    reference = reference_of(made.options.profile, state)
    restore(made, state)
    return states, reference


def plain_states(made):
    return super(RadTraining, made).init_checkpoint_states()


DEAD = {"violation": 1.0, "lambda": 0.5, "lambda_next": 0.6, "score_std": 0.0}


def client_states(step):
    return {"episode": 0, "global_step": step, "total_consumed_prompts": 8, "data_loader_state_dict": {}}


def test_a_checkpoint_restores_the_dual_variable(trainer):
    first = trainer()
    first.constraints.parts[0].step.dual.update(3.0)
    moved = first.constraints.parts[0].step.dual.value
    first.best_eval_metric_value = 0.0
    first.save_logs_and_checkpoints(1, {"kl": 0.25}, client_states(1))
    second = trainer("resumed")
    assert second.constraints.parts[0].step.dual.value != moved
    second.actor_model_group = first.actor_model_group
    states, _ = resume(second)
    assert second.constraints.parts[0].step.dual.value == moved
    assert states["global_step"] == 1
    assert second.init_checkpoint_states() is states


def test_a_checkpoint_restores_all_that_the_next_step_depends_on(trainer):
    """KL coefficient, costs seen, samples made ahead, the reference itself."""
    first, second = trainer(), trainer("resumed")
    first.best_eval_metric_value, first.kl_ctl.value = 0.0, 0.25
    first.samples_generator.state = {"batches": 7, "buffer": [], "exhausted": False}
    source = first.experience_maker.cost_sources["cost"]
    for _ in range(2):
        source.finish(source.begin([1, 2, 3]))
        first.experience_maker.rewards.constant([5.0, 5.0])
    first.save_logs_and_checkpoints(1, {}, client_states(1))
    second.actor_model_group = first.actor_model_group
    _, reference = resume(second)
    assert second.kl_ctl.value == 0.25
    assert second.samples_generator.state["batches"] == 7
    assert np.array_equal(reference.costs["cost"], first.reference.costs["cost"])
    again = second.experience_maker.cost_sources["cost"]
    with pytest.raises(CostError, match="all samples of 3 batches in a row"):
        again.finish([1, 2, 3])
    assert second.experience_maker.rewards.constant([5.0, 5.0]) == 3


def test_an_accepted_change_of_profile_keeps_the_dual_variables_alone(trainer):
    first, second = trainer(), trainer("resumed", "cvar")
    first.best_eval_metric_value = 0.0
    dual = first.constraints.parts[0].step.dual
    dual.update(1.0)
    first.watches._speaking = {"inert"}
    first.save_logs_and_checkpoints(1, {}, client_states(1))
    second.actor_model_group = first.actor_model_group
    name = second.constraints.parts[0].constraint.name
    saved = first.actor_model_group.saved["latest"]["rad"]["constraints"]
    _, reference = resume(second)
    assert reference is not None  # the costs are the same
    assert (second.constraints.parts[0].step.dual.value == dual.value) == (name in saved)
    assert second.watches._speaking == set()


def test_a_reference_of_other_costs_is_sampled_again(trainer):
    first = trainer()
    first.best_eval_metric_value = 0.0
    first.save_logs_and_checkpoints(1, {}, client_states(1))
    state = first.actor_model_group.saved["latest"]["rad"]
    other = first.options.profile.with_overrides({"cost.function": "other.py"})
    assert reference_of(other, state) is None
    assert identity(other) != identity(first.options.profile)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cost.function": "other.py"}, "the costs of profile medical come from another source than those"),
        ({"dual.step": "0.7"}, "profile medical has the hash "),
    ],
)
def test_a_changed_profile_is_refused_before_anything_starts(trainer, tmp_path, changes, message):
    made = trainer()
    held = tmp_path / "_actor" / "global_step8"
    held.mkdir(parents=True)
    checkpoints.seal(held.parent, held.name, identity(made.options.profile))
    options = SimpleNamespace(profile=made.options.profile, accept_profile_change=False)
    assert prepare(made.args, options).step == 8
    options.profile = made.options.profile.with_overrides(changes)
    with pytest.raises(ConfigError, match=re.escape(f"step 8 in {tmp_path}: {message}")):
        prepare(made.args, options)
    options.accept_profile_change = True
    assert prepare(made.args, options).step == 8


def test_the_best_checkpoint_holds_the_dual_variable_too(trainer):
    """OpenRLHF saves it right after the regular one, and the last one saved is the one to resume from."""
    made = trainer()
    made.best_eval_metric_value = 0.0
    states = client_states(1)
    made.save_logs_and_checkpoints(1, {}, states)
    made.save_best_checkpoint({"eval_default_pass1": 0.5}, 1, states)
    saved = made.actor_model_group.saved
    assert saved.keys() == {"global_step1", "best_global_step1", "latest"}
    best, regular = (saved[tag]["rad"]["constraints"] for tag in ("best_global_step1", "global_step1"))
    assert best == regular
    assert saved["latest"]["rad"]["constraints"] == made.constraints.state_dict()


def test_a_checkpoint_of_another_run_is_refused(trainer, tmp_path):
    made = trainer()
    made.actor_model_group.saved["latest"] = client_states(3)
    message = (
        f"the checkpoint in {tmp_path} holds no λ: it is of a run without RAD; start a new run, or leave out"
    )
    made.states = plain_states(made)
    with pytest.raises(ConfigError) as error:
        made._own_state()
    assert str(error.value).startswith(message)


def test_a_watch_stops_the_run_after_its_checkpoint(trainer):
    """A constraint that is violated while no sample feels it: λ would rise for nothing."""
    made = trainer()
    made.best_eval_metric_value = 0.0
    made.experience_maker.last_metrics = DEAD
    for step in range(1, 5):
        made.save_logs_and_checkpoints(step, {}, client_states(step))
    with pytest.raises(
        WatchStop, match=r"^step 5: the constraint is violated by 1 and no sample has felt it"
    ):
        made.save_logs_and_checkpoints(5, {}, client_states(5))
    assert "global_step5" in made.actor_model_group.saved
    (alarm,) = made.folder.read_alarms()
    assert alarm.startswith("step 5: the constraint is violated by 1")


def test_watches_go_on_from_a_checkpoint(trainer):
    first, second = trainer(), trainer("resumed")
    first.best_eval_metric_value = 0.0
    first.experience_maker.last_metrics = second.experience_maker.last_metrics = DEAD
    for step in range(1, 5):
        first.save_logs_and_checkpoints(step, {}, client_states(step))
    second.actor_model_group = first.actor_model_group
    resume(second)
    with pytest.raises(WatchStop):
        second.save_logs_and_checkpoints(5, {}, client_states(5))


def test_a_new_run_starts_with_the_profile_s_dual_variable(trainer):
    made = trainer()
    made.args.ckpt.load_enable = False
    made.states = plain_states(made)
    assert made._own_state() is None
    assert made.constraints.parts[0].step.dual.value == load_profile("medical").dual.initial


def test_a_step_s_line_joins_openrlhf_s_metrics_and_rad_s(trainer):
    made = trainer()
    made.save_logs_and_checkpoints(2, {"kl": 0.25, "rollout/reward_mean": 1.5, "timing/ppo_train": 3.0})
    (line,) = made.folder.read_metrics()
    expected = {"step": 2, "kl": 0.25, "reward_mean": 1.5, "seconds_training": 3.0, "lambda": 0.5}
    assert {key: line[key] for key in expected} == expected
    assert line["cost_mean"] == 2.0


def test_without_a_reference_model_the_kl_is_null(trainer):
    made = trainer()
    made.args.algo.kl.init_coef = 0.0
    made.save_logs_and_checkpoints(2, {"kl": 0.0, "rollout/reward_mean": 1.5})
    (line,) = made.folder.read_metrics()
    assert (line["kl"], line["reward_mean"]) == (None, 1.5)


def test_a_cost_turned_round_stops_the_run_before_its_first_update(trainer):
    made = trainer()
    rng = np.random.default_rng(1)
    labels = ["harmful" if i % 2 else None for i in range(64)]
    texts = [RatedText(f"p{i}", "Sure, first you", label, True) for i, label in enumerate(labels)]
    costs = rng.normal(size=64) - 2.0 * (np.arange(64) % 2)
    answers = Answers(texts, np.zeros(64), {"cost": costs}, np.ones(64, dtype=np.int64))
    made.sampler = SimpleNamespace(sample=lambda *_: answers)
    made.prompts_dataloader = SimpleNamespace(dataset=[None] * 64)
    made.samples_generator.begin = lambda _: None
    with pytest.raises(WatchStop, match="step 0: by the labels of the prompts, a harmful answer costs more"):
        made._sampled(64)
    (alarm,) = made.folder.read_alarms()
    assert alarm.endswith("check the sign of the cost")
    costs *= -1
    assert made._sampled(64).labels[:2] == ["", "harmful"]


@pytest.mark.parametrize(
    ("column", "told"),
    [
        ("category", "the labels are 1, benign, c0, c1, c2, c3, c4, c5 and 4 others"),
        (None, "there are no labels"),
        ("label", None),
    ],
)
def test_prompts_without_a_label_for_harm_are_told_before_the_first_update(trainer, tmp_path, column, told):
    """A data set that only the run can read: saved to disk, and loaded by OpenRLHF as that of a hub."""
    made = trainer()
    values = {
        "input": [f"p{i}" for i in range(12)],
        "category": ["benign", "1", *(f"c{i}" for i in range(10))],
        "label": ["benign", "harmful", None] * 4,
    }
    datasets.Dataset.from_dict(values).save_to_disk(tmp_path / "prompts")
    made.args.data.prompt_dataset, made.args.data.label_key = str(tmp_path / "prompts"), column
    made.args.data.prompt_probs, made.args.eval.dataset = None, None
    strategy = SimpleNamespace(
        args=made.args,
        print=lambda *_: None,
        is_rank_0=lambda: False,
        setup_dataloader=lambda dataset, *_, **__: SimpleNamespace(dataset=dataset),
    )
    made.prompts_dataloader, *_ = ppo_trainer.prepare_datasets(strategy, None)
    made._look_for_labels()
    expected = (
        f"step 0: the watch inverted is off: no prompt carries the label harmful, {told}; name their key by"
        " --data.label_key and the one that means harm by watches.harmful_label in the profile, or set"
        " watches.inverted to off"
    )
    assert made.folder.read_alarms() == ([expected] if told else [])
