"""What must not die or fail while a run goes on, watched from the training process.

Ray's workers go on for a while without Ray's GCS, and OpenRLHF learns of what happens to a vLLM engine by the
next call of one of its methods. Until then the policy may wait for the engine in a collective operation, at
the start or in the middle of a weight sync, for as long as the backend lets it: half an hour with gloo. So
may one rank of a model wait for another.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import ModuleType
from typing import Any

import wrapt

from openrlhf_rad.errors import RadError
from openrlhf_rad.plugin.failures import died, failed, process_died, rad_error, told
from openrlhf_rad.processes import Vital, interrupt

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

    def attach(self, trainer_ray: ModuleType) -> None:
        """Watch the engines that ``create_vllm_engines`` of OpenRLHF's module will make."""

        def created(wrapped: Callable[..., Any], _: Any, args: Any, kwargs: Any) -> Any:
            engines = wrapped(*args, **kwargs)
            self._engines.watch(engines)
            return engines

        wrapt.wrap_function_wrapper(trainer_ray, "create_vllm_engines", created)

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
