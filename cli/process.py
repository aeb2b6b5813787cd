"""The training process and all that it starts, Ray and vLLM included, ended together.

Ray's daemons leave their parent's process group, and outlive a driver that crashes. What belongs to a run is
therefore known by the variable ``OPENRLHF_RAD_RUN``, which every process inherits.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

MARK = "OPENRLHF_RAD_RUN"
#: Seconds for Ray to end its children after a Ctrl-C, and for its daemons to follow a driver that has ended.
STOP_SECONDS, LINGER_SECONDS = 20.0, 5.0


class TrainingProcess:
    """A command in a process group of its own, its output in a log.

    Args:
        command: the words of the command.
        log: where stdout and stderr go, added to what is there; None for the terminal.
        environment: variables beside those of this process.
    """

    def __init__(
        self, command: Sequence[str], log: Path | None, environment: Mapping[str, str] | None = None
    ) -> None:
        self.mark = uuid.uuid4().hex
        variables = {**os.environ, "PYTHONUNBUFFERED": "1", **(environment or {}), MARK: self.mark}
        output = open(log, "ab") if log else None  # noqa: SIM115 - closed below, the process has its own
        try:
            self._popen = subprocess.Popen(
                list(command),
                env=variables,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT if output else None,
                start_new_session=True,
            )
        finally:
            if output:
                output.close()

    @property
    def pid(self) -> int:
        """The process, which leads its group."""
        return self._popen.pid

    def poll(self) -> int | None:
        """The exit code, None while it runs."""
        return self._popen.poll()

    def wait(self, seconds: float) -> int | None:
        """The exit code, None where it still runs after so many seconds."""
        try:
            return self._popen.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    def stop(self, seconds: float = STOP_SECONDS) -> None:
        """Ask the group to end as by Ctrl-C, wait, then kill whatever of the run is left.

        A second Ctrl-C while waiting kills at once.
        """
        family = self.family()
        try:
            if self.poll() is None:
                os.killpg(self.pid, signal.SIGINT)
                self.wait(seconds)
        except (KeyboardInterrupt, ProcessLookupError):
            pass
        finally:
            self.sweep(0.0, family)

    def sweep(self, seconds: float = LINGER_SECONDS, family: Sequence[psutil.Process] = ()) -> None:
        """Wait for what is left of the run, then kill it."""
        deadline = time.monotonic() + seconds
        while left := _alive([*family, *self.family()]):
            if time.monotonic() < deadline:
                time.sleep(0.1)
                continue
            for process in left:
                _kill(process)
            self.wait(1.0)  # also takes the exit code, so that no zombie stays
            psutil.wait_procs(left, timeout=1.0)

    def family(self) -> list[psutil.Process]:
        """The process, its descendants, and every other process that carries the run's mark."""
        found = {process for process in psutil.process_iter() if self._is_ours(process)}
        try:
            root = psutil.Process(self.pid)
            found.update([root, *root.children(recursive=True)] if self.poll() is None else [])
        except psutil.NoSuchProcess:
            pass
        return list(found)

    def _is_ours(self, process: psutil.Process) -> bool:
        try:
            return process.environ().get(MARK) == self.mark
        except (psutil.Error, OSError):
            return False  # another user's, a kernel thread, or gone


def _alive(processes: Sequence[psutil.Process]) -> list[psutil.Process]:
    return [process for process in dict.fromkeys(processes) if _runs(process)]


def _runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _kill(process: psutil.Process) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        process.kill()
