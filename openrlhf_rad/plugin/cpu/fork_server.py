"""One import of the stack for all processes of a run: they are forked from one that has it.

The driver, the controller, the models and vLLM's engine each need torch, transformers, DeepSpeed and vLLM:
six to ten seconds of a core and 700 MB every time. Here the driver imports them once and forks a server
before anything has threads. Ray (by its ``py_executable``) and multiprocessing (by its executable) are given
:mod:`openrlhf_rad.plugin.cpu.fork_client` in the place of Python: their processes are forks of the server and
share its memory.

The server has one thread and no Ray. It ends with the driver; its children end with it, and with whoever
asked for them.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import importlib
import json
import os
import runpy
import selectors
import shlex
import shutil
import signal
import socket
import sys
import tempfile
import threading
import traceback
from pathlib import Path
from typing import Any, NoReturn

from openrlhf_rad.plugin.cpu import fork_client

#: What takes long to import and starts neither a thread nor Ray.
MODULES = (
    "transformers.models.auto.modeling_auto",
    "transformers.models.llama.modeling_llama",
    "deepspeed",
    "openrlhf.models",
    "vllm.config",
)
_PR_SET_PDEATHSIG = 1
_HIGH = 500  # above all files of a new process
_LONGEST = 100  # characters of a socket's name
_PYTHON = "python"

_lifeline: int | None = None  # the server ends when this file of its driver is closed


def start() -> None:
    """Import the stack and leave a server behind that forks from here; before Ray is imported.

    A server that the environment names belongs to another driver, whose modules are not ours: it is not used.
    """
    global _lifeline  # noqa: PLW0603
    stop()
    os.environ.pop(fork_client.VARIABLE, None)
    if not Path("/proc/self/fd").exists():
        return
    for name in MODULES:
        importlib.import_module(name)
    folder = Path(tempfile.mkdtemp(prefix="rad-fork-"))
    client = folder / _PYTHON
    client.write_text(
        f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -I -S {shlex.quote(fork_client.__file__)} "$@"\n'
    )
    client.chmod(0o700)
    address = str(folder / "server")
    if not os.access(client, os.X_OK) or len(address) > _LONGEST:
        shutil.rmtree(folder)  # temporary files cannot be run here, or their names are too long for a socket
        return
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(address)
    listening.listen(64)
    alive, ours = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    if os.fork() == 0:
        os.close(ours)
        try:
            _Server(listening, alive).serve()
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            os._exit(0)
    listening.close()
    os.close(alive)
    _lifeline = ours
    os.environ[fork_client.VARIABLE] = address


def stop() -> None:
    """End the server of this driver and all that it forked; without one, nothing."""
    global _lifeline  # noqa: PLW0603
    if _lifeline is not None:
        os.close(_lifeline)
        _lifeline = None
        os.environ.pop(fork_client.VARIABLE, None)


def python() -> str | None:
    """The program that takes the place of Python; None where there is no server."""
    address = os.environ.get(fork_client.VARIABLE)
    return str(Path(address).with_name(_PYTHON)) if address else None


class _Server:
    """Forks a process for each connection, and tells it the process's number and then its exit code."""

    def __init__(self, listening: socket.socket, driver: int) -> None:
        self._listening, self._driver = listening, driver
        self._channels: dict[int, socket.socket] = {}  # by process
        self._selector = selectors.DefaultSelector()

    def serve(self) -> None:
        """Until the driver ends."""
        os.setsid()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        woken, wake = socket.socketpair()
        wake.setblocking(False)
        woken.setblocking(False)
        signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)
        for source in (self._listening, self._driver, woken):
            self._selector.register(source, selectors.EVENT_READ)
        while True:
            for key, _ in self._selector.select():
                if key.fileobj is self._driver:
                    return
                if key.fileobj is woken:
                    with contextlib.suppress(BlockingIOError):
                        woken.recv(4096)
                    self._reap()
                elif key.fileobj is self._listening:
                    with contextlib.suppress(OSError, ValueError):
                        self._fork(self._listening.accept()[0])
                elif key.data in self._channels:  # whoever asked has ended
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(key.data, signal.SIGKILL)
                    self._forget(key.data)

    def _fork(self, channel: socket.socket) -> None:
        size, files, _, _ = socket.recv_fds(channel, 8, 253)
        body = b""
        while len(body) < int.from_bytes(size, "little"):
            part = channel.recv(1 << 20)
            if not part:
                raise ValueError("the request is cut off")
            body += part
        request = json.loads(body)
        child = os.fork()
        if child == 0:
            channel.close()
            self._listening.close()
            self._selector.close()
            _become(request, files)
        for file in files:
            os.close(file)
        channel.sendall(str(child).encode())
        self._channels[child] = channel
        self._selector.register(channel, selectors.EVENT_READ, child)

    def _reap(self) -> None:
        while True:
            try:
                child, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if child == 0:
                return
            if child in self._channels:
                with contextlib.suppress(OSError):
                    self._channels[child].sendall(str(os.waitstatus_to_exitcode(status)).encode())
                self._forget(child)

    def _forget(self, child: int) -> None:
        channel = self._channels.pop(child)
        self._selector.unregister(channel)
        channel.close()


def _become(request: dict[str, Any], files: list[int]) -> NoReturn:
    """Turn this fork into the process that was asked for."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    os.setsid()
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in request["ignored"]:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, request["blocked"])
    _take(files, request["files"])
    os.chdir(request["folder"])
    # Changed where it differs alone: setproctitle looks for the process's words before its first variable.
    wanted = request["environment"]
    for name in set(os.environ) - set(wanted):
        del os.environ[name]
    os.environ.update({name: text for name, text in wanted.items() if os.environ.get(name) != text})
    code = 1
    try:
        _run(request["words"])
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
        if code == 1 and not isinstance(end.code, int):
            print(end.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(BaseException):
            threading._shutdown()  # type: ignore[attr-defined]
        with contextlib.suppress(BaseException):
            atexit._run_exitfuncs()
        with contextlib.suppress(BaseException):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _take(files: list[int], numbers: list[int]) -> None:
    """Put received files where the process that asked had them."""
    import fcntl  # noqa: PLC0415

    high = [fcntl.fcntl(file, fcntl.F_DUPFD, _HIGH) for file in files]
    for file in files:
        os.close(file)
    for file, number in zip(high, numbers, strict=True):
        os.dup2(file, number)
        os.close(file)


def _run(words: list[str]) -> None:
    """Run ``SCRIPT …`` or ``[flags] -c CODE …`` as Python would."""
    if "-c" in words and not words[0].endswith(".py"):
        at = words.index("-c")
        sys.argv = ["-c", *words[at + 2 :]]
        exec(compile(words[at + 1], "<string>", "exec"), {"__name__": "__main__"})
        return
    sys.argv = words
    sys.path[0] = str(Path(words[0]).parent)
    runpy.run_path(words[0], run_name="__main__")
