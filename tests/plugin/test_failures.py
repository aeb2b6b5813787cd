"""What stopped a run, found in errors that Ray has wrapped."""

import traceback

import pytest
from ray import cloudpickle
from ray.exceptions import ActorDiedError, RayActorError, RayError, RayTaskError
from vllm.v1.engine.exceptions import EngineDeadError

from openrlhf_rad.errors import ConfigError, CostError, EnvironmentProblem, ProfileError, RewardError
from openrlhf_rad.plugin.failures import died, rad_error


def raised(error, cause=None):
    """``error`` as it is once it was raised from ``cause``."""
    try:
        raise error from cause
    except type(error) as caught:
        return caught


def wrapped(error, name="fit"):
    """``error`` as the driver gets it from a Ray task: with its cause, of both classes, and sent over."""
    text = "".join(traceback.format_exception(error))
    return cloudpickle.loads(
        cloudpickle.dumps(RayTaskError(name, text, error, proctitle="ray::fit", pid=1, ip="1.2.3.4"))
    )


COST = CostError("cost server http://h/ failed")


@pytest.mark.parametrize(
    "error", [COST, ProfileError(["a", "b"]), RewardError("no reward"), EnvironmentProblem("x")]
)
@pytest.mark.parametrize("depth", [0, 1, 2, 3])
@pytest.mark.parametrize("dual", [True, False])
def test_an_error_is_found_in_what_ray_raises(error, depth, dual):
    found = error
    for _ in range(depth):
        found = wrapped(raised(found))
        found = raised(found.as_instanceof_cause() if dual else found)
    result = rad_error(found)
    assert type(result) is type(error)
    assert str(result) == str(error)
    assert result.exit_code == error.exit_code


def test_the_cause_of_an_error_is_not_taken_for_it():
    error = raised(CostError("the server failed"), raised(ValueError("x"), ConfigError("inner")))
    assert rad_error(wrapped(error).as_instanceof_cause()).args == ("the server failed",)


def test_an_error_in_another_error_s_chain_is_found():
    assert rad_error(raised(RuntimeError("engine"), COST)) is COST


def test_an_error_in_an_actor_s_constructor_is_found():
    """Ray reports it with the first call of a method, as an actor that has died."""
    task = RayTaskError("__init__", "".join(traceback.format_exception(raised(COST))), raised(COST))
    error = RayError.from_bytes(ActorDiedError.from_task_error(task).to_bytes())
    assert isinstance(error, ActorDiedError)
    found = rad_error(error)
    assert type(found) is CostError
    assert str(found) == str(COST)


@pytest.mark.parametrize(
    "error",
    [
        None,
        ValueError("x"),
        KeyboardInterrupt(),
        SystemExit(2),
        RayActorError(),
        ActorDiedError(),
        raised(RuntimeError("a"), ValueError("b")),
    ],
    ids=repr,
)
def test_other_errors_are_none_of_ours(error):
    assert rad_error(error) is None


def test_another_error_in_a_task_is_none_of_ours():
    assert rad_error(wrapped(raised(ValueError("x"))).as_instanceof_cause()) is None


def test_a_ring_of_causes_ends():
    one, other = ValueError("one"), ValueError("other")
    one.__cause__, other.__cause__ = other, one
    assert rad_error(one) is None


def built(error):
    """As the driver hears that an actor's constructor has raised ``error``."""
    task = RayTaskError("__init__", "".join(traceback.format_exception(error)), error)
    return RayError.from_bytes(ActorDiedError.from_task_error(task).to_bytes())


LOST = (
    "a process of the run has died: {}\n"
    "most often the machine has run out of memory; the log says what it did last"
)


@pytest.mark.parametrize(
    ("error", "what"),
    [
        (ActorDiedError(), str(ActorDiedError())),
        (wrapped(raised(ActorDiedError())).as_instanceof_cause(), str(ActorDiedError())),
        (wrapped(raised(EngineDeadError())).as_instanceof_cause(), "a vLLM engine"),
        (built(raised(RuntimeError("engine core failed"))), "RuntimeError: engine core failed"),
        (raised(KeyboardInterrupt(), ActorDiedError()), str(ActorDiedError())),
    ],
    ids=["actor", "in a task", "engine", "constructor", "interrupted"],
)
def test_a_death_is_told_without_a_traceback(error, what):
    assert str(died(error)) == LOST.format(what)


@pytest.mark.parametrize("error", [None, ValueError("x"), wrapped(raised(ValueError("x")))], ids=repr)
def test_other_errors_are_no_deaths(error):
    assert died(error) is None
