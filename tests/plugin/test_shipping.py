"""Which of a run's last weights the policy holds when OpenRLHF exports it, and what is said of it."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from openrlhf_rad.plugin import shipping
from openrlhf_rad.profile import load_profile
from openrlhf_rad.runs import RunFolder, checkpoints

#: A mean cost of at most 0 on average: what a shift of all costs meets or violates.
ASK = {"constraint.form": "expected", "constraint.margin": 0, "constraint.level": 0.0, "risk": "mean"}


class Group:
    """The policy's actors: they hold the weights of a step, and save checkpoints as a run does."""

    def __init__(self, path, step):
        self.path, self.held, self.calls = path, step, []

    def async_run_method(self, method_name, **given):
        self.calls.append(method_name)
        if method_name == "load_weights":
            self.held = int(given["tag"].removeprefix("global_step"))
        if method_name == "save_checkpoint":
            save(self.path, given["tag"])
        if method_name == "name_model":
            self.name, self.card = given["name"], given["card"]
        return [None]


def save(path, tag):
    folder = path / "_actor"
    (folder / tag).mkdir(parents=True)
    checkpoints.seal(folder, tag, "profile")


@pytest.fixture
def trained(tmp_path, monkeypatch):
    """A run of 50 steps whose costs lie around what each step gives, with checkpoints after some of them."""
    monkeypatch.setattr(shipping, "ray", SimpleNamespace(get=lambda refs: refs))
    rng = np.random.default_rng(0)

    def answers(cost, reward):
        costs = cost + 0.5 * rng.standard_normal(64)
        return [
            {"prompt": f"p{i}", "answer": f"of {cost}", "label": None, "reward": reward, "cost": float(one)}
            for i, one in enumerate(costs)
        ]

    def make(given, saved=(), heldout="heldout.jsonl", **flags):
        for step in saved:
            save(tmp_path / "saved", f"global_step{step}")
        folder = RunFolder.create(tmp_path / "run")
        group = Group(tmp_path / "saved", 50)
        folder.write_answers("before", answers(1.0, 0.0))
        folder.write_answers("after", answers(*given[50]))
        ckpt = SimpleNamespace(path=str(tmp_path / "saved"), disable_ds=flags.get("disable_ds", False))
        return SimpleNamespace(
            options=SimpleNamespace(profile=load_profile("uniform").with_overrides(ASK), heldout=heldout),
            folder=folder,
            args=SimpleNamespace(
                ckpt=ckpt,
                train=SimpleNamespace(enable_ema=flags.get("ema", False)),
                ds=SimpleNamespace(zero_stage=flags.get("zero_stage", 2)),
            ),
            last=(50, {"global_step": 50}),
            actor_model_group=group,
            critic_model_group=None,
            broadcast_to_vllm=lambda: None,
            heldout_answers=lambda moment: answers(*given[group.held]),
        )

    return make


GIVEN = {30: (-1.0, 0.3), 40: (-1.0, 0.5), 50: (1.0, 2.0)}


def test_the_feasible_one_of_highest_reward_ships(trained):
    """That of step 40: the end violates, step 30 has the lower reward, step 10 is not near the end."""
    run = trained(GIVEN, saved=(10, 30, 40))
    shipping.ship(run)
    group = run.actor_model_group
    assert group.held == 40
    assert group.calls.count("save_checkpoint") == 1  # the end, which nobody could come back to
    selection = run.folder.read_selection()
    assert (selection["step"], selection["last_step"], selection["feasible"]) == (40, 50, True)
    assert [one["step"] for one in selection["candidates"]] == [30, 40, 50]
    assert [one["feasible"] for one in selection["candidates"]] == [True, True, False]
    assert "of those that do (steps 30, 40) it has the highest reward, 0.5" in selection["reason"]
    assert {row["answer"] for row in run.folder.read_answers("after")} == {"of -1.0"}
    assert group.name == "uniform-step40"
    assert selection["reason"] in group.card
    lines = (run.folder.path / "candidates" / "step50.jsonl").read_text().splitlines()
    assert json.loads(lines[0])["answer"] == "of 1.0"


def test_the_end_ships_where_it_is_best(trained):
    run = trained(GIVEN | {50: (-1.0, 0.9)}, saved=(40, 50))
    shipping.ship(run)
    assert run.actor_model_group.held == 50
    assert "save_checkpoint" not in run.actor_model_group.calls
    assert run.folder.read_selection()["step"] == 50


def test_where_none_is_feasible_the_nearest_ships_and_its_name_says_so(trained):
    run = trained({40: (0.4, 0.5), 50: (1.0, 2.0)}, saved=(40,))
    shipping.ship(run)
    assert run.actor_model_group.held == 40
    assert run.actor_model_group.name == "uniform-step40-constraint-not-shown-to-be-met"
    assert (
        run.actor_model_group.card.count("No candidate (steps 40, 50) is shown to meet its constraint") == 1
    )
    assert run.folder.read_selection()["feasible"] is False


@pytest.mark.parametrize(
    "flags",
    [{"disable_ds": True}, {"ema": True}, {"zero_stage": 3}, {}],
    ids=["disabled", "ema", "ZeRO-3", "none"],
)
def test_where_nothing_can_be_loaded_the_end_is_judged_alone(trained, flags):
    run = trained({50: (1.0, 2.0)}, saved=(40,) if flags else (), **flags)
    shipping.ship(run)
    assert run.actor_model_group.calls == ["name_model"]
    assert [one["step"] for one in run.folder.read_selection()["candidates"]] == [50]


def test_without_held_out_prompts_it_is_said_that_nobody_judged(trained):
    run = trained({50: (1.0, 2.0)}, heldout=None)
    shipping.ship(run)
    assert run.actor_model_group.name == "uniform-step50-not-judged"
    assert "the run had no held-out prompts" in run.actor_model_group.card
    assert run.folder.read_selection() is None
