"""What stopped a run, found in errors that Ray has wrapped."""

import asyncio
import traceback

import pytest
from ray import cloudpickle
from ray.exceptions import ActorDiedError, RayActorError, RayError, RayTaskError
from vllm.v1.engine.exceptions import EngineDeadError

from openrlhf_rad.errors import (
    ConfigError,
    CostError,
    EnvironmentProblem,
    ProfileError,
    RewardError,
    RunError,
)
from openrlhf_rad.plugin import vigil
from openrlhf_rad.plugin.rollout import last_fatal
from openrlhf_rad.plugin.vigil import died, failed, rad_error, telling, told


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
        cloudpickle.dumps(RayTaskError(name, text, error, proctitle=f"ray::{name}", pid=1, ip="1.2.3.4"))
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


def test_another_error_in_an_actor_is_told_with_the_innermost_of_them():
    inner = raised(wrapped(raised(ValueError("wrong shape")), "PolicyActor.fit").as_instanceof_cause())
    error = wrapped(inner, "RadTrainer.fit").as_instanceof_cause()
    said = failed(error)
    assert type(said) is RunError
    assert str(said) == "PolicyActor.fit failed: ValueError: wrong shape"
    assert failed(raised(ValueError("of this process"))) is None


class Store(dict):
    """Stands in for Ray's key-value store, with its calls."""

    def internal_kv_put(self, key, value, overwrite, namespace, timeout):
        if overwrite or (namespace, key) not in self:
            self[namespace, key] = value

    def internal_kv_get(self, key, namespace, timeout):
        return self.get((namespace, key))


@pytest.fixture
def store(monkeypatch):
    held = Store()
    monkeypatch.setattr(vigil, "_store", lambda: held)
    monkeypatch.setattr(vigil, "_key", lambda: b"failure 1")


class Unpicklable(Exception):
    """Holds what cannot be sent."""

    def __init__(self):
        super().__init__("held")
        self.held = (number for number in ())


@telling
class Actor:
    """As an actor of a model, and as one of an engine."""

    def fit(self, error):
        raise error

    async def generate(self, error):
        await asyncio.sleep(0)
        self.fit(error)

    def retry(self, error):
        try:
            self.fit(error)
        except ValueError:
            return "mended"

    def _private(self, error):
        raise error


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ValueError("x"), "RunError: Actor.fit failed: ValueError: x"),
        (Unpicklable(), "RunError: Actor.fit failed: Unpicklable: held"),
        (COST, f"CostError: {COST}"),
        (raised(RuntimeError("engine"), COST), f"CostError: {COST}"),
    ],
    ids=repr,
)
def test_the_first_error_of_an_actor_is_told(error, said):
    assert told() is None
    with pytest.raises(type(error)):
        Actor().fit(error)
    with pytest.raises(KeyError):
        Actor().fit(KeyError("later"))
    assert f"{type(told()).__name__}: {told()}" == said


@telling
class Rollout:
    """As the worker of an engine, which knows more of some errors."""

    def explained(self, error):
        return RunError("a vLLM engine failed: why") if isinstance(error, EngineDeadError) else error

    async def generate(self, error):
        raise error


@pytest.mark.usefixtures("store")
def test_an_actor_that_knows_more_is_asked():
    with pytest.raises(RunError, match="a vLLM engine failed: why"):
        asyncio.run(Rollout().generate(EngineDeadError()))
    assert str(told()) == "a vLLM engine failed: why"
    with pytest.raises(ValueError, match="x"):
        asyncio.run(Rollout().generate(ValueError("x")))


@pytest.mark.usefixtures("store")
def test_of_a_call_in_a_call_the_one_of_ray_s_is_told():
    with pytest.raises(ValueError, match="x"):
        asyncio.run(Actor().generate(ValueError("x")))
    assert str(told()) == "Actor.generate failed: ValueError: x"


@pytest.mark.usefixtures("store")
def test_what_is_mended_or_a_death_or_private_is_not_told():
    actor = Actor()
    assert actor.retry(ValueError()) == "mended"
    for error in (ActorDiedError(), EngineDeadError()):
        with pytest.raises(type(error)):
            actor.fit(error)
    with pytest.raises(ValueError, match="x"):
        actor._private(ValueError("x"))
    assert told() is None


def test_where_ray_has_ended_the_error_itself_is_left(monkeypatch):
    monkeypatch.setattr(vigil, "_store", lambda: None)
    monkeypatch.setattr(vigil, "_key", lambda: b"failure 1")
    with pytest.raises(ValueError, match="x"):
        Actor().fit(ValueError("x"))
    assert told() is None


#: As vLLM 0.29.0 wrote it.
LOG = """\
(EngineCore pid=7) INFO 11-27 17:41:15 [core.py:123] Initializing a V1 LLM engine
(EngineCore pid=7) ERROR 11-27 17:41:16 [core.py:1376] EngineCore encountered a fatal error.
(EngineCore pid=7) ERROR 11-27 17:41:16 [core.py:1376] Traceback (most recent call last):
(EngineCore pid=7) ERROR 11-27 17:41:16 [core.py:1376]   File "core.py", line 1, in run
(EngineCore pid=7) ERROR 11-27 17:41:16 [core.py:1376]     step()
(EngineCore pid=7) ERROR 11-27 17:41:16 [core.py:1376] KeyError: 'first'
(EngineCore pid=7) ERROR 11-27 17:41:16 [core.py:1376]
(EngineCore pid=7) ERROR 11-27 17:41:16 [core.py:1376] During handling of the above exception, another
(EngineCore pid=7) ERROR 11-27 17:41:16 [core.py:1376]
(EngineCore pid=7) ERROR 11-27 17:41:16 [core.py:1376] Traceback (most recent call last):
(EngineCore pid=7) ERROR 11-27 17:41:16 [core.py:1376]   File "core.py", line 2, in step
(EngineCore pid=7) ERROR 11-27 17:41:16 [core.py:1376]     raise MemoryError("no room:\\nfree some")
(EngineCore pid=7) ERROR 11-27 17:41:16 [core.py:1376] MemoryError: no room:
(EngineCore pid=7) ERROR 11-27 17:41:16 [core.py:1376] free some
ERROR 11-27 17:41:16 [async_llm.py:819] AsyncLLM output_handler failed.
ERROR 11-27 17:41:16 [async_llm.py:819] Traceback (most recent call last):
ERROR 11-27 17:41:16 [async_llm.py:819]     raise self._format_exception(outputs) from None
ERROR 11-27 17:41:16 [async_llm.py:819] EngineDeadError: EngineCore encountered an issue. See above.
(EngineCore pid=7) Process EngineCore:
(EngineCore pid=7) Traceback (most recent call last):
"""


def test_the_cause_of_an_engine_s_end_is_read_from_its_log():
    assert last_fatal(LOG) == "MemoryError: no room:\nfree some"
    assert last_fatal(LOG.replace("encountered a fatal error", "failed to start")) == last_fatal(LOG)
    assert last_fatal(LOG.split("EngineCore encountered", maxsplit=1)[0]) is None
    assert last_fatal("EngineCore failed to start.\n") is None
