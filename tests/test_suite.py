"""The suite itself: it may be started in the background, and a test that fails leaves no process behind."""

import os
import subprocess
import sys
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[1]
#: Its process starts another without a mark, as are Ray's workers.
LEAVES = """
import subprocess, sys
def test_left():
    child = "import subprocess, time; subprocess.Popen(['sleep', '300'], env={}); time.sleep(300)"
    process = subprocess.Popen([sys.executable, "-c", child])
    process.wait()
"""


def pytest(*words, cwd=ROOT, **environment):
    """A suite of its own, started with SIGINT ignored as a shell starts a background job."""
    ignoring = ["sh", "-c", 'trap "" INT; exec "$@"', "sh", sys.executable, "-m", "pytest", "-q", *words]
    return subprocess.run(
        ignoring,
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env={**os.environ, **environment},
    )


def test_ctrl_c_is_tested_in_the_background_too():
    done = pytest("tests/judging/test_judging.py", "-k", "ctrl_c")
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_test_that_times_out_leaves_no_process(tmp_path):
    (tmp_path / "test_it.py").write_text(LEAVES)
    words = ("-p", "conftest", "-c", os.devnull, "--timeout", "5", "test_it.py")
    done = pytest(*words, cwd=tmp_path, PYTHONPATH=str(ROOT / "tests"))
    assert "Timeout" in done.stdout, done.stdout + done.stderr
    left = [one for one in psutil.process_iter() if is_in(one, tmp_path)]
    assert left == []


def is_in(process, folder):
    try:
        return process.cwd() == str(folder) and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False
