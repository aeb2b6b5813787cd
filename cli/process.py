"""The training process and all that it starts, Ray and vLLM included, ended together.

What belongs to a run is known by a variable that every process inherits, and by descent, see
openrlhf_rad.processes.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

from openrlhf_rad.processes import MARK, STOP_SECONDS, adopt_orphans, alive, descendants, kill, marked

#: Seconds for Ray's daemons to follow a driver that has ended.
LINGER_SECONDS = 5.0


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
        adopt_orphans()
        self._others = set(descendants())
        self.mark = uuid.uuid4().hex
        variables = {**os.environ, "PYTHONUNBUFFERED": "1", **(environment or {}), MARK: self.mark}
        output = open(log, "ab") if log else None  # noqa: SIM115 - closed below, the process has its own
        try:
            self._popen = subprocess.Popen(
                list(command),
                env=variables,
                stdin=subprocess.PIPE,  # closed by our end, whatever ends us: see openrlhf_rad.processes
                stdout=output,
                stderr=subprocess.STDOUT if output else None,
                start_new_session=True,
            )
        except BaseException:  # a Ctrl-C while it starts: it may be there, though nobody holds it
            kill(self.family())
            raise
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
        while left := alive([*family, *self.family()]):
            if time.monotonic() < deadline:
                time.sleep(0.1)
                continue
            kill(left)
            self.wait(1.0)  # also takes the exit code, so that no zombie stays
            psutil.wait_procs(left, timeout=1.0)
        if self._popen.stdin is not None:
            self._popen.stdin.close()

    def family(self) -> list[psutil.Process]:
        """The process, its descendants, its orphans, and every other process with the run's mark."""
        return list({*marked(self.mark), *descendants()} - self._others)
