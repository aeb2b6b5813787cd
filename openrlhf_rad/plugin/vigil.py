"""What must not die while a run goes on, watched from the training process.

Ray's workers go on for a while without Ray's GCS, and OpenRLHF learns of the death of a vLLM engine by the
next call of one of its methods. Until then the policy may wait for the engine in a collective operation, at
the start or in the middle of a weight sync, for as long as the backend lets it: half an hour with gloo.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import ModuleType
from typing import Any

import wrapt

from openrlhf_rad.errors import EnvironmentProblem
from openrlhf_rad.plugin.failures import died, process_died
from openrlhf_rad.processes import Vital, interrupt

#: Seconds that whoever does call a dead engine gets to say so itself; it knows more.
GRACE = 10.0
_LOOK = 2.0


class Vigil:
    """Ends this process as by a Ctrl-C when the run's own Ray or one of its vLLM engines dies."""

    def __init__(self) -> None:
        self._store = Vital("gcs_server")
        self._engines = EngineWatch()

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

    def release(self) -> None:
        """From now on they may end."""
        self._store.release()
        self._engines.release()

    def cause(self) -> EnvironmentProblem | None:
        """What has died, if anything."""
        if self._store.lost:
            return process_died("Ray's GCS, which knows all others")
        return died(self._engines.lost)


class EngineWatch:
    """Watches vLLM engines; where one dies, this process ends as by a Ctrl-C.

    Attributes:
        lost: what was raised in the engine that has died.
    """

    def __init__(self) -> None:
        self.lost: BaseException | None = None
        self._done = threading.Event()
        self._thread: threading.Thread | None = None

    def watch(self, engines: list[Any]) -> None:
        """Look from now on.

        Args:
            engines: Ray actors with a method ``stay_alive`` that ends by an exception alone.
        """
        self._thread = threading.Thread(target=self._watch, args=(engines,), daemon=True)
        self._thread.start()

    def release(self) -> None:
        """From now on engines may end, and Ray: it ends the process of a thread that asks it later."""
        self._done.set()
        if self._thread is not None:
            self._thread.join()

    def _watch(self, engines: list[Any]) -> None:
        import ray  # noqa: PLC0415 - after the workers' hook

        lives = [engine.stay_alive.remote() for engine in engines]
        ended: list[Any] = []
        while not ended:
            if self._done.wait(_LOOK):
                return
            ended, _ = ray.wait(lives, timeout=0)
        try:
            ray.get(ended)
        except ray.exceptions.RayError as error:
            self.lost = error
        if not self._done.wait(GRACE):
            interrupt(self._done)
