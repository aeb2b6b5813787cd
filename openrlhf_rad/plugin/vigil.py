"""Health monitor: what died or failed while a run went on, found out within seconds and said by its cause.

Ray's workers go on for a while without Ray's GCS, and OpenRLHF learns of what happens to a vLLM engine by the
next call of one of its methods. Until then the policy may wait for the engine in a collective operation, at
the start or in the middle of a weight sync, for as long as the backend lets it: half an hour with gloo. So
may one rank of a model wait for another, where no exception of the other reaches it, and whoever waits for
the first learns nothing either. So every actor tells of its error itself (:func:`telling`), through Ray's
key-value store, in which the driver's :class:`Vigil` looks every two seconds.
"""

from __future__ import annotations

import functools
import inspect
import pickle
import re
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Any, TypeVar

from openrlhf_rad.errors import EnvironmentProblem, RadError, RunError
from openrlhf_rad.processes import Vital, interrupt

_REASON = "most often the machine has run out of memory; the log says what it did last"
_NAMESPACE = b"openrlhf_rad"
_SECONDS = 5.0
_Actor = TypeVar("_Actor", bound=type)
#: Whether a method that Ray has called is running: what it calls itself may fail and be mended.
_inside: ContextVar[bool] = ContextVar("inside", default=False)


def telling(actor: _Actor) -> _Actor:
    """Class decorator of a Ray actor: what a public method raises is told to the driver at once.

    Where the actor has a method ``explained`` (error → a better one, or the same), its result is raised.
    """
    for name, method in inspect.getmembers(actor, inspect.isfunction):
        if not name.startswith("_"):
            wrapper = _telling_later if inspect.iscoroutinefunction(method) else _telling
            setattr(actor, name, wrapper(method))
    return actor


def _telling(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        with _told_if_it_fails(self, method):
            return method(self, *args, **kwargs)

    return call


def _telling_later(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    async def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        with _told_if_it_fails(self, method):
            return await method(self, *args, **kwargs)

    return call


@contextmanager
def _told_if_it_fails(actor: object, method: Callable[..., Any]) -> Iterator[None]:
    if _inside.get():
        yield
        return
    token = _inside.set(True)
    try:
        yield
    except Exception as error:
        known = actor.explained(error) if hasattr(actor, "explained") else error
        tell(known, f"{type(actor).__name__}.{method.__name__}")
        if known is error:
            raise
        raise known from error
    finally:
        _inside.reset(token)


def tell(error: Exception, where: str) -> None:
    """Let the driver know of an error of this process, unless an earlier one of the run is known.

    A death is not told: who hears of one is its victim, and Ray knows more.
    """
    if died(error) is not None:
        return
    traceback.print_exception(error)  # into the log; who called may never ask
    failure = rad_error(error) or _failure(where, error)
    with suppress(Exception):  # Ray ends
        _store().internal_kv_put(_key(), pickle.dumps(failure), False, _NAMESPACE, _SECONDS)


def told() -> RadError | None:
    """The first error that an actor of this run has told, if any."""
    held: bytes | None = None
    with suppress(Exception):  # a store that is gone is Vital's to tell
        held = _store().internal_kv_get(_key(), _NAMESPACE, _SECONDS)
    error: RadError | None = pickle.loads(held) if held else None
    return error


def _store() -> Any:
    from ray.experimental import internal_kv  # noqa: PLC0415 - after the workers' hook

    return internal_kv.internal_kv_get_gcs_client()


def _key() -> bytes:
    import ray  # noqa: PLC0415

    return f"failure {ray.get_runtime_context().get_job_id()}".encode()


def _failure(where: str, error: BaseException) -> RunError:
    return RunError(f"{where} failed: {type(error).__name__}: {error}")


def rad_error(error: BaseException | None) -> RadError | None:
    """The RadError that ``error`` is or carries; Ray wraps what its actors raise."""
    return next(
        (each for each in _chain(error) if isinstance(each, RadError) and _carried(each) is None), None
    )


def died(error: BaseException | None) -> EnvironmentProblem | None:
    """What to say where a process of the run ended by itself; None for any other error."""
    from ray.exceptions import ActorDiedError, ActorUnavailableError, WorkerCrashedError  # noqa: PLC0415

    chain = list(_chain(error))
    # By its name: of the actors, only those that hold an engine have vLLM imported.
    if any(type(each).__name__ == "EngineDeadError" for each in chain):
        return process_died("a vLLM engine")
    deaths = [e for e in chain if isinstance(e, ActorDiedError | ActorUnavailableError | WorkerCrashedError)]
    if not deaths:
        return None
    last: BaseException = deaths[-1]
    while (carried := _carried(last)) is not None:  # why an actor did not come to life
        last = carried
    return process_died(str(last).strip() if last is deaths[-1] else f"{type(last).__name__}: {last}")


def failed(error: BaseException | None) -> RunError | None:
    """What to say of another error in one of Ray's actors; None for an error of this process."""
    from ray.exceptions import RayTaskError  # noqa: PLC0415

    chain = list(_chain(error))
    tasks = [each for each in chain if isinstance(each, RayTaskError)]
    if not tasks:
        return None
    where = re.findall(r"ray::([\w.]+)\(", str(tasks[-1]))  # an error of two classes has lost its name
    return _failure(where[-1] if where else "an actor", _carried(tasks[-1]) or tasks[-1])


def process_died(what: str) -> EnvironmentProblem:
    """That a process of the run has ended by itself, and why most do."""
    return EnvironmentProblem(f"a process of the run has died: {what}\n{_REASON}")


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error, and one after the other what it carries or comes from."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = _carried(error) or error.__cause__ or error.__context__


def _carried(error: BaseException) -> BaseException | None:
    """What an exception of Ray's holds: of a task as ``cause``, of an actor's constructor as its argument."""
    held = (getattr(error, "cause", None), *error.args[:1])
    return next((each for each in held if isinstance(each, BaseException)), None)


#: Seconds that whoever does wait for what has died or failed gets to say so itself; it knows more.
GRACE = 10.0
#: Seconds in which Ray hears of a death that others feel at once, when their connections break.
SETTLE = 6.0
_LOOK = 2.0


class Vigil:
    """Ends this process as by a Ctrl-C when the run's own Ray or an engine dies, or any actor fails."""

    def __init__(self) -> None:
        self._store = Vital("gcs_server")
        self._engines = EngineWatch()
        self._actors: list[Any] = []

    def begin(self) -> None:
        """Watch the Ray that this process will start; one that it joins is not its own."""
        self._store.watch()

    def watching(self, create: Callable[..., list[Any]]) -> Callable[..., list[Any]]:
        """OpenRLHF's ``create_vllm_engines``, whose engines are watched."""

        @functools.wraps(create)
        def created(*args: Any, **kwargs: Any) -> list[Any]:
            engines = create(*args, **kwargs)
            self._engines.watch(engines)
            return engines

        return created

    def released_before(self, end: Callable[..., Any]) -> Callable[..., Any]:
        """``ray.shutdown``, before which all are released."""

        @functools.wraps(end)
        def ended(*args: Any, **kwargs: Any) -> Any:
            self.release()
            return end(*args, **kwargs)

        return ended

    def remember(self, actors: list[Any]) -> None:
        """Actors of the run, besides its engines; asked only at the end, for they do one thing at a time."""
        self._actors += actors

    def settle(self, error: BaseException) -> None:
        """Wait until Ray would know of a death, for ``error`` may be the broken connection to the dead."""
        if not self._store.lost and rad_error(error) is None and (died(error) or failed(error)):
            self._engines.settle(self._actors)

    def release(self) -> None:
        """From now on they may end."""
        self._store.release()
        self._engines.release()

    def cause(self, error: BaseException) -> RadError | None:
        """What has stopped the run that ended by ``error``; None where that is an error of this process.

        A death comes before what it did to others, and an actor's own words before what followed from them.
        """
        if self._store.lost:
            return process_died("Ray's GCS, which knows all others")
        watch = self._engines
        return (
            rad_error(error)
            or rad_error(watch.lost)
            or died(watch.lost)
            or died(error)
            or watch.told
            or failed(error)
        )


class EngineWatch:
    """Watches vLLM engines, and what actors tell; at a death or a failure this process ends as by a Ctrl-C.

    Attributes:
        lost: what was raised in an actor that has died. told: the first error that an actor has told.
    """

    def __init__(self) -> None:
        self.lost: BaseException | None = None
        self.told: RadError | None = None
        self._done = threading.Event()
        self._thread: threading.Thread | None = None

    def watch(self, engines: list[Any]) -> None:
        """Look from now on.

        Args:
            engines: Ray actors with a method ``stay_alive`` that ends by an exception alone.
        """
        self._thread = threading.Thread(target=self._watch, args=(engines,), daemon=True)
        self._thread.start()

    def settle(self, actors: list[Any]) -> None:
        """Wait for news of a death of an engine, or of one of these actors."""
        import ray  # noqa: PLC0415 - after the workers' hook

        asked = [actor.__ray_ready__.remote() for actor in actors]
        deadline = time.monotonic() + SETTLE
        while self.lost is None and time.monotonic() < deadline:
            ended, asked = ray.wait(asked, timeout=0) if asked else ([], [])
            self.lost = self.lost or next(filter(died, map(_raised, ended)), None)
            self._done.wait(0.2)

    def release(self) -> None:
        """From now on engines may end, and Ray: it ends the process of a thread that asks it later."""
        self._done.set()
        if self._thread is not None:
            self._thread.join()

    def _watch(self, engines: list[Any]) -> None:
        import ray  # noqa: PLC0415 - after the workers' hook

        lives = [engine.stay_alive.remote() for engine in engines]
        since: float | None = None
        while not self._done.wait(_LOOK):
            ended, _ = ray.wait(lives, timeout=0)
            self.lost = self.lost or next(map(_raised, ended), None)
            self.told = self.told or told()
            if self.lost or self.told:
                since = since or time.monotonic()
                if time.monotonic() - since >= GRACE:
                    interrupt(self._done)
                    return


def _raised(ended: Any) -> BaseException | None:
    """What a call that has ended has raised."""
    import ray  # noqa: PLC0415

    try:
        ray.get(ended)
    except Exception as error:  # of Ray's, or of the class of the actor's own
        return error
    return None
