"""λ in OpenRLHF's checkpoints, through OpenRLHF's own code for them; no actor is started."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import ray

from openrlhf_rad.constraint_set import ConstraintSet, Scored
from openrlhf_rad.errors import ConfigError, WatchStop
from openrlhf_rad.plugin.trainer import RadTrainer
from openrlhf_rad.profile import WatchSettings, load_profile
from openrlhf_rad.runs.folder import RunFolder
from openrlhf_rad.watches import Watches


class Actors:
    """A group of actors that keeps the states it is given to save and gives them back."""

    def __init__(self):
        self.saved = {}

    def async_run_method(self, method_name, **kwargs):
        if method_name == "get_checkpoint_states":
            return [self.saved["latest"]]
        assert method_name == "save_checkpoint"
        self.saved[kwargs["tag"]] = self.saved["latest"] = json.loads(json.dumps(kwargs["client_states"]))
        return []


@pytest.fixture
def trainer(good_args, tmp_path, monkeypatch):
    monkeypatch.setattr(ray, "get", lambda found: found)

    def make(folder="run"):
        args = good_args("--ckpt.save_steps", "1", "--ckpt.load_enable", "--ckpt.path", str(tmp_path))
        (tmp_path / "_actor").mkdir(exist_ok=True)
        made = object.__new__(RadTrainer)
        made.args = args
        costs = np.random.default_rng(0).lognormal(size=64)
        made.constraints = ConstraintSet(load_profile("medical"), Scored({"cost": costs}, [""] * 64))
        made.watches = Watches({"cost": 10.0}, WatchSettings(window=5))
        made.folder = RunFolder.create(tmp_path / folder)
        made.experience_maker = SimpleNamespace(last_metrics={"lambda": 0.5, "cost_mean": 2.0})
        made.actor_model_group, made.critic_model_group = Actors(), None
        made.wandb_logger = made.tensorboard_logger = None
        made.best_eval_metric_key, made.best_eval_metric_value = "", float("-inf")
        made._latest_eval_metric_value = None
        return made

    return make


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
    states = second.init_checkpoint_states()
    assert second.constraints.parts[0].step.dual.value == moved
    assert states["global_step"] == 1


def test_the_best_checkpoint_holds_the_dual_variable_too(trainer):
    """OpenRLHF saves it right after the regular one, and the last one saved is the one to resume from."""
    made = trainer()
    made.best_eval_metric_value = 0.0
    states = client_states(1)
    made.save_logs_and_checkpoints(1, {}, states)
    made.save_best_checkpoint({"eval_default_pass1": 0.5}, 1, states)
    saved = made.actor_model_group.saved
    assert saved.keys() == {"global_step1", "best_global_step1", "latest"}
    assert saved["best_global_step1"]["rad"] == saved["global_step1"]["rad"]
    assert saved["latest"]["rad"]["constraints"] == made.constraints.state_dict()


def test_a_checkpoint_of_another_run_is_refused(trainer, tmp_path):
    made = trainer()
    made.actor_model_group.saved["latest"] = client_states(3)
    message = (
        f"the checkpoint in {tmp_path} holds no λ: it is of a run without RAD; start a new run, or leave out"
    )
    with pytest.raises(ConfigError) as error:
        made.init_checkpoint_states()
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
    second.init_checkpoint_states()
    with pytest.raises(WatchStop):
        second.save_logs_and_checkpoints(5, {}, client_states(5))


def test_a_new_run_starts_with_the_profile_s_dual_variable(trainer):
    made = trainer()
    made.args.ckpt.load_enable = False
    assert made.init_checkpoint_states()["global_step"] == 0
    assert made.constraints.parts[0].step.dual.value == load_profile("medical").dual.initial


def test_a_step_s_line_joins_openrlhf_s_metrics_and_rad_s(trainer):
    made = trainer()
    made.save_logs_and_checkpoints(2, {"kl": 0.25, "rollout/reward_mean": 1.5, "timing/ppo_train": 3.0})
    (line,) = made.folder.read_metrics()
    expected = {"step": 2, "kl": 0.25, "reward_mean": 1.5, "seconds_training": 3.0, "lambda": 0.5}
    assert {key: line[key] for key in expected} == expected
    assert line["cost_mean"] == 2.0
