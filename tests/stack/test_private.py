"""A real run under umask 0 whose cost server's address holds a password: what it leaves behind."""

import json
import stat
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

SECRET = "hunter2-0f9e8d7c6b"


class _Costs(BaseHTTPRequestHandler):
    """Each answer costs its length; who does not know the key is refused."""

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        known = SECRET in self.path and "Authorization" in self.headers
        answer = json.dumps(
            {"rewards": [len(query) + i / 9 for i, query in enumerate(body["query"])]}
        ).encode()
        self.send_response(200 if known else 403)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        """Say nothing."""


@pytest.fixture
def server():
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Costs)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://rad:{SECRET}@127.0.0.1:{server.server_port}/cost?key={SECRET}"
    server.shutdown()
    server.server_close()


def test_no_secret_and_no_file_that_others_may_write_to(server, rad_train, tmp_path):
    out = tmp_path / "run"
    words = rad_train("--preset", "tiny", "--profile", "medical", "--seed", "1", "--out", str(out))
    words += ["--set", f"cost.remote_url={server}", "--", "--train.num_episodes", "1"]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=1500, umask=0)
    assert done.returncode == 0, done.stdout + done.stderr
    files = [path for path in out.rglob("*") if path.is_file()]
    assert {"train.log", "command.txt", "profile.resolved.yaml", "metrics.jsonl"} < {
        path.name for path in files
    }
    assert [path.name for path in files if SECRET.encode() in path.read_bytes()] == []
    assert SECRET not in done.stdout + done.stderr
    wide = [path for path in [out, *out.rglob("*")] if stat.S_IMODE(path.stat().st_mode) & 0o022]
    assert wide == []
    assert "key=${OPENRLHF_RAD_SECRET_2}" in (out / "profile.resolved.yaml").read_text(encoding="utf-8")
