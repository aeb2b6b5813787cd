"""What stopped a run, found in the exception that reached its training process."""

from __future__ import annotations

from collections.abc import Iterator

from openrlhf_rad.errors import EnvironmentProblem, RadError

_REASON = "most often the machine has run out of memory; the log says what it did last"


def rad_error(error: BaseException | None) -> RadError | None:
    """The RadError that ``error`` is or carries; Ray wraps what its actors raise."""
    return next(
        (each for each in _chain(error) if isinstance(each, RadError) and _carried(each) is None), None
    )


def died(error: BaseException | None) -> EnvironmentProblem | None:
    """What to say where a process of the run ended by itself; None for any other error."""
    from ray.exceptions import ActorDiedError, ActorUnavailableError, WorkerCrashedError  # noqa: PLC0415
    from vllm.v1.engine.exceptions import EngineDeadError  # noqa: PLC0415

    chain = list(_chain(error))
    if any(isinstance(each, EngineDeadError) for each in chain):
        return process_died("a vLLM engine")
    deaths = [e for e in chain if isinstance(e, ActorDiedError | ActorUnavailableError | WorkerCrashedError)]
    if not deaths:
        return None
    last: BaseException = deaths[-1]
    while (carried := _carried(last)) is not None:  # why an actor did not come to life
        last = carried
    return process_died(str(last).strip() if last is deaths[-1] else f"{type(last).__name__}: {last}")


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
