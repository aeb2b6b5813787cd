"""The processes of a run, found by a variable that each of them inherits and as descendants, and their end.

Ray's daemons leave their parent's process group and may outlive a driver that is killed. ``rad-train`` marks
a run by :data:`MARK`; a process that writes its title over its environment loses the mark, so that
``rad-train`` and the training process also adopt whatever of their descendants loses its parent. The training
process has a pipe for its stdin, which closes when ``rad-train`` ends in whatever way.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import stat
import threading
import time
from collections.abc import Iterable

import psutil

MARK = "OPENRLHF_RAD_RUN"
#: Seconds that Ray gets to end its children.
STOP_SECONDS = 20.0
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

    def follow(self) -> None:
        """End as by a Ctrl-C when the parent ends; Ray's processes that stay get no mercy."""
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
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(STOP_SECONDS)
        self.sweep()
        os._exit(1)


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
        found: list[psutil.Process] = []
        while not self._done.wait(2.0):
            if found and not alive(found):
                self.lost = True
                interrupt(self._done)
                return
            found = found or [one for one in descendants() if _named(one, self.name)]


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
