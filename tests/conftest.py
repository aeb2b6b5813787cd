"""A real HTTP server that rates answers, well or badly, as a test plans it."""

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest


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
        server.requests.append(json.loads(body))
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
