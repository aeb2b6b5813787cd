"""RAD's actors under OpenRLHF's names, with Ray's options as they would reach Ray."""

from types import SimpleNamespace

import pytest
import ray
from openrlhf.trainer import ppo_trainer_async

from openrlhf_rad.plugin import trainer
from openrlhf_rad.plugin.attach import BoundActor, bound, plain_class


class Given:
    """A Ray actor class that keeps what it is asked for."""

    def __init__(self, options=None):
        self.given = options or {}

    def options(self, **options):
        return Given({**self.given, **options})

    def remote(self, *args, **kwargs):
        return self.given, args, kwargs


@pytest.fixture
def node(monkeypatch):
    context = SimpleNamespace(get_node_id=lambda: "b" * 56)
    monkeypatch.setattr(ray, "get_runtime_context", lambda: context)
    return context.get_node_id()


def test_bound_arguments_come_first():
    options, args, kwargs = BoundActor(Given(), object, (1, 2)).options(num_gpus=1).remote(3, a=4)
    assert (options, args, kwargs) == ({"num_gpus": 1}, (1, 2, 3), {"a": 4})


@pytest.mark.parametrize("options", [{}, {"num_cpus": 1}], ids=str)
def test_an_actor_that_belongs_here_goes_to_this_node_or_nowhere(options, node):
    """Without a CPU of Ray's: the node of the command may have none to give."""
    given, args, _ = BoundActor(Given(), object, (1,), here=True).options(**options).remote(2)
    strategy = given["scheduling_strategy"]
    assert (strategy.node_id, strategy.soft) == (node, False)
    assert given["num_cpus"] == 0
    assert args == (1, 2)


def test_the_two_loops_of_asynchronous_training_are_replaced_in_the_controller_s_process(monkeypatch):
    """OpenRLHF's controller makes them by the names of its module, which are ours by then."""
    for name in ("GenerateSamplesActor", "TrainingActor"):
        monkeypatch.setattr(ppo_trainer_async, name, getattr(ppo_trainer_async, name))
    plain = {name: plain_class(ppo_trainer_async, name) for name in ("GenerateSamplesActor", "TrainingActor")}
    seen = {}

    def controller(self, *args, **kwargs):
        for name in plain:
            bound = getattr(ppo_trainer_async, name)
            seen[name] = (bound._actor_class.__ray_metadata__.modified_class, bound._bound, bound._here)
        seen["arguments"] = args, kwargs

    monkeypatch.setattr(plain_class(ppo_trainer_async, "PPOTrainerAsync"), "__init__", controller)
    options = object()
    trainer.RadTrainerAsync(options, "policy", "strategy", temperature=0.5)
    generator, training = seen["GenerateSamplesActor"], seen["TrainingActor"]
    assert issubclass(generator[0], trainer.RadGenerator)
    assert issubclass(training[0], trainer.RadTrainingActor)
    assert (generator[1:], training[1:]) == (((), True), ((options, {"temperature": 0.5}), True))
    assert seen["arguments"] == (("policy", "strategy"), {"temperature": 0.5})
    assert {name: plain_class(ppo_trainer_async, name) for name in plain} == plain


def test_a_name_can_be_replaced_twice():
    module = SimpleNamespace(Name=ray.remote(Given))
    module.Name = bound(Given)(module.Name)
    module.Name = bound(Given, 7)(module.Name)
    assert plain_class(module, "Name").__name__ == "Given"
    assert module.Name._bound == (7,)
