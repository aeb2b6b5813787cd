"""The processes of a command, found by a variable that each inherits and as descendants, and their end.

Ray's daemons leave their parent's process group and may outlive a driver that is killed. A command marks
what it starts by :data:`MARK`; a process that writes its title over its environment loses the mark, so that
the command and the process that it has started also adopt whatever of their descendants loses its parent.
That process has a pipe for its stdin, which closes when the command ends in whatever way.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import stat
import subprocess
import threading
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil

MARK = "OPENRLHF_RAD_RUN"
#: Seconds that Ray gets to end its children.
STOP_SECONDS = 20.0
#: Seconds for Ray's daemons to follow a driver that has ended.
LINGER_SECONDS = 5.0
_PR_SET_CHILD_SUBREAPER = 36


def adopt_orphans() -> None:
    """From now on descendants of this process that lose their parent become its children (Linux 3.4)."""
    with contextlib.suppress(AttributeError, OSError):  # where there is no prctl they go to init
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def descendants() -> list[psutil.Process]:
    """All processes under this one."""
    return psutil.Process().children(recursive=True)


def marked(mark: str) -> list[psutil.Process]:
    """Every process that carries the mark."""
    return [process for process in psutil.process_iter() if _carries(process, mark)]


def alive(processes: Iterable[psutil.Process]) -> list[psutil.Process]:
    """Those that still run, each once."""
    return [process for process in dict.fromkeys(processes) if _runs(process)]


def kill(processes: Iterable[psutil.Process]) -> None:
    """End them at once."""
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


def end_with_parent(_worker: object = None) -> None:
    """From now on this process ends within a second of its parent, however that ends."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1.0)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()


class Parent:
    """The process that started this one and marked it, if there is one; the end of it is that of the run."""

    def __init__(self) -> None:
        self.mark = os.environ.get(MARK)
        self.gone = False

    def follow(self, seconds: float = STOP_SECONDS) -> None:
        """End when the parent ends: as by a Ctrl-C, and after some seconds with all others, by force.

        Args:
            seconds: 0 for a process that has nothing to put in order.
        """
        self._seconds = seconds
        adopt_orphans()
        if self.mark is not None and stat.S_ISFIFO(os.fstat(0).st_mode):
            threading.Thread(target=self._wait, daemon=True).start()

    def sweep(self) -> None:
        """Where the parent is gone, do what it would have done: end all others of the run."""
        if self.gone and self.mark is not None:
            family = {*marked(self.mark), *descendants()}
            kill(process for process in family if process.pid != os.getpid())

    def _wait(self) -> None:
        while os.read(0, 1):
            pass
        self.gone = True
        if self._seconds:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(self._seconds)
        self.sweep()
        os._exit(1)


class MarkedProcess:
    """A command in a process group of its own, ended together with all that it starts, Ray and vLLM included.

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
                stdin=subprocess.PIPE,  # closed by our end, whatever ends us: see Parent
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


@contextmanager
def stoppable() -> Iterator[None]:
    """Make a stop from outside (SIGTERM, a closed terminal) a Ctrl-C, so that it too ends the children.

    Also where a shell has started the command in the background, with SIGINT ignored.
    """
    wanted = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # nohup keeps a run alive
        wanted.append(signal.SIGHUP)
    earlier = {number: signal.signal(number, signal.default_int_handler) for number in wanted}
    try:
        yield
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)


class Vital:
    """A process under this one that must not end: where it does, this one ends as by a Ctrl-C.

    Args:
        name: of the program.

    Attributes:
        lost: whether it has ended.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.lost = False
        self._done = threading.Event()

    def watch(self) -> None:
        """Look every two seconds, from when the process is there."""
        threading.Thread(target=self._watch, daemon=True).start()

    def release(self) -> None:
        """From now on it may end."""
        self._done.set()

    def _watch(self) -> None:
        mine: list[psutil.Process] = []
        while not self._done.wait(2.0):
            if mine and not alive(mine):
                self.lost = True
                interrupt(self._done)
                return
            mine = mine or [one for one in descendants() if _named(one, self.name)]


def interrupt(done: threading.Event) -> None:
    """End this process as by a Ctrl-C, and by force where that is not ``done`` in time."""
    os.kill(os.getpid(), signal.SIGTERM)
    if not done.wait(STOP_SECONDS):
        os._exit(3)  # what waits for the dead may do so for ever


def _named(process: psutil.Process, name: str) -> bool:
    try:
        return bool(process.name() == name)
    except psutil.Error:
        return False


def _carries(process: psutil.Process, mark: str) -> bool:
    try:
        return bool(process.environ().get(MARK) == mark)
    except (psutil.Error, OSError):
        return False  # another user's, a kernel thread, or gone


def _runs(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
