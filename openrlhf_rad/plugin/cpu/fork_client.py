"""Stands in for the Python of a new process: asks the fork server for one that has the stack imported.

Run as ``python fork_client.py SCRIPT …`` or ``python fork_client.py [FLAGS] -c CODE …``; it imports the
standard library alone, for it must start at once. It lives as long as the process that it asked for: hands on
signals, ends with its exit code, and takes it along when its own parent ends. Without a server it becomes the
Python that was wanted.
"""

import contextlib
import json
import os
import select
import signal
import socket
import sys

#: The server's socket.
VARIABLE = "OPENRLHF_RAD_FORK_SERVER"


def request(channel: socket.socket) -> None:
    """Send what the new process needs of this one: words, environment, folder, signals, open files."""
    files = []
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            if int(name) != channel.fileno() and os.fstat(int(name)):
                files.append(int(name))
    body = json.dumps(
        {
            "words": sys.argv[1:],
            "environment": dict(os.environ),
            "folder": os.getcwd(),
            "blocked": [int(number) for number in signal.pthread_sigmask(signal.SIG_BLOCK, [])],
            "ignored": [
                int(number)
                for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE)
                if signal.getsignal(number) == signal.SIG_IGN
            ],
            "files": files,
        }
    ).encode()
    socket.send_fds(channel, [len(body).to_bytes(8, "little")], files)
    channel.sendall(body)


def main() -> None:
    parent = os.getppid()
    channel = socket.socket(socket.AF_UNIX)
    try:
        channel.connect(os.environ[VARIABLE])
        request(channel)
        child = int(channel.recv(32))
    except (KeyError, OSError, ValueError):
        os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2 and int(name) != channel.fileno():
            with contextlib.suppress(OSError):
                os.close(int(name))  # whoever waits for their end waits for the new process alone
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: os.kill(child, number))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
    while os.getppid() == parent:
        if select.select([channel], [], [], 1.0)[0]:
            code = channel.recv(32)
            status = int(code) if code else 1
            if status < 0:
                with contextlib.suppress(OSError):  # SIGKILL has no handler
                    signal.signal(-status, signal.SIG_DFL)
                os.kill(os.getpid(), -status)
            os._exit(status)
    os._exit(1)  # the server sees this end, and ends the process


if __name__ == "__main__":
    main()
