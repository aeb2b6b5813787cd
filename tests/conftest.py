"""What all tests share: how the suite starts, what a failed test leaves, and a server that rates answers."""

import json
import os
import signal
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import psutil
import pytest

# As of a background job, or under nohup; every process inherits it.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

#: In the environment of all processes that tests start.
MARK = "OPENRLHF_RAD_SUITE"
os.environ[MARK] = str(os.getpid())
_begun = 0.0


def pytest_runtest_logstart():
    """Remember when a test begins."""
    global _begun  # noqa: PLW0603 - one test at a time
    _begun = time.time()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport():
    """End what a failed test has started: after a timeout nobody else waits for it."""
    report = yield
    if report.failed:
        left = list(started(_begun))
        for process in left:
            with suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(left, timeout=10)
    return report


def started(since):
    """Processes of the suite that are younger than this, with their children, which may hide their mark."""
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            ours = process.environ().get(MARK) == os.environ[MARK] and process.pid != os.getpid()
            if ours and process.create_time() >= since - 1:
                yield from (*process.children(recursive=True), process)


class RatingServer(ThreadingHTTPServer):
    """Plays a list of answers, the last one for ever.

    An answer is (status, text, seconds to wait[, headers]), or a function of the handler.
    """

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.plan = []
        self.requests = []
        self.paths = []
        self.times = []
        self.url = f"http://127.0.0.1:{self.server_address[1]}/costs"

    def handle_error(self, request, client_address):
        """The client has gone; it is meant to."""


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        server = self.server
        body = self.rfile.read(int(self.headers["Content-Length"]))
        answer = server.plan[min(len(server.requests), len(server.plan) - 1)]
        self.asked = json.loads(body)
        server.requests.append(self.asked)
        server.paths.append(self.path)
        server.times.append(time.monotonic())
        if callable(answer):
            answer(self)
        else:
            self.answer(*answer)

    def answer(self, status, text, wait, headers=()):
        time.sleep(wait)
        self.send_response(status)
        self.send_header("Content-Length", str(len(text.encode())))
        for name, value in dict(headers).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *args):
        """Quiet."""


@pytest.fixture
def server(monkeypatch):
    """A server on a port of its own that runs until the test ends."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with RatingServer() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture(scope="session")
def panel():
    """A panel of prompts with as many answers as the sizes say, and the costs and rewards given."""
    import numpy as np

    from openrlhf_rad.statistics.answers import Panel

    def make(sizes, cost=None, reward=None, segments=()):
        size_p = np.asarray(sizes)
        names = tuple(dict.fromkeys(segments))
        segment_p = np.array([names.index(name) for name in segments] or [-1] * size_p.size, dtype=np.int32)
        cost = {name: np.asarray(values, dtype=float) for name, values in (cost or {}).items()}
        reward = {name: np.asarray(values, dtype=float) for name, values in (reward or {}).items()}
        rows = {name: np.arange(size_p.sum()) for name in cost}
        return Panel(np.cumsum(size_p) - size_p, size_p, segment_p, names, cost, reward, rows)

    return make
