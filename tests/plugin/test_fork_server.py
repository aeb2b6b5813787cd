"""Processes that are forked from one with the stack in memory behave as new ones."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from contextlib import contextmanager

import psutil
import pytest

SERVER = """
import os, sys
from openrlhf_rad.plugin.cpu import fork_server
fork_server.MODULES = ("json.tool", "torch")
fork_server.start()
print(fork_server.python(), os.environ["OPENRLHF_RAD_FORK_SERVER"], flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="module")
def server():
    """A driver with a fork server; gives the program that takes the place of Python, and its environment."""
    driver = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", SERVER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "EARLIER": "of the driver"},
    )
    python, address = driver.stdout.readline().split()
    yield python, {**os.environ, "OPENRLHF_RAD_FORK_SERVER": address}
    driver.communicate(timeout=30)
    deadline = time.monotonic() + 10
    while os.path.exists(address) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not os.path.exists(address)  # the server has followed its driver


def run(server, code, *words, **options):
    python, env = server
    return subprocess.run(
        [python, "-c", textwrap.dedent(code), *words],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        **{"env": env, **options},
    )


def test_words_environment_folder_and_exit_code_are_its_own(server, tmp_path):
    code = """
        import os, sys
        print(sys.argv, os.getcwd(), os.environ["MINE"], os.environ.get("EARLIER"))
        print("complaint", file=sys.stderr)
        sys.exit(7)
    """
    done = run(server, code, "a b", env={**server[1], "MINE": "x y"}, cwd=tmp_path)
    assert done.stdout == f"['-c', 'a b'] {tmp_path} x y None\n"
    assert done.stderr == "complaint\n"
    assert done.returncode == 7


def test_it_has_the_stack_already_and_computes_on_all_cores(server):
    code = """
        import sys, threading
        there = "torch" in sys.modules
        import torch
        one = torch.randn(600, 600, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        print(there, torch.get_num_threads(), bool((one @ torch.linalg.inv(one)).sum().round() == 600))
    """
    done = run(server, code)
    threads = int(os.environ.get("OMP_NUM_THREADS", len(os.sched_getaffinity(0))))
    assert done.stdout == f"True {threads} True\n", done.stderr


def test_a_script_runs_as_main_from_its_own_folder(server, tmp_path):
    (tmp_path / "beside.py").write_text("NAME = 'beside'\n")
    script = tmp_path / "script.py"
    script.write_text(
        "import sys, beside\nprint(__name__, beside.NAME, sys.argv[1:])\nraise SystemExit('why')\n"
    )
    done = subprocess.run(
        [server[0], str(script), "word"],
        env=server[1],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.stdout == "__main__ beside ['word']\n"
    assert (done.stderr, done.returncode) == ("why\n", 1)


def test_an_exception_is_told_as_python_tells_it(server):
    done = run(server, "raise ValueError('no')")
    assert done.stderr.endswith("ValueError: no\n")
    assert done.returncode == 1


def test_open_files_come_along(server, tmp_path):
    reading, writing = os.pipe()
    done = run(server, f"import os; os.write({writing}, b'through')", pass_fds=[writing])
    os.close(writing)
    assert done.returncode == 0, done.stderr
    assert os.read(reading, 100) == b"through"
    assert os.read(reading, 100) == b""  # nobody else holds the end that writes
    os.close(reading)


@contextmanager
def waiting(server, before=""):
    """One that has asked for a process, and that process, which waits."""
    python, env = server
    code = before + "import os, time; print(os.getpid(), flush=True); time.sleep(60)"
    with subprocess.Popen([python, "-c", code], env=env, stdout=subprocess.PIPE, text=True) as asked:
        try:
            yield asked, psutil.Process(int(asked.stdout.readline()))
        finally:
            asked.kill()


def ended(process):
    psutil.wait_procs([process], timeout=10)
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_who_ends_the_one_that_asked_ends_the_process(server, number):
    with waiting(server) as (asked, forked):
        asked.send_signal(number)
        assert asked.wait(timeout=10) == -number
        assert ended(forked)


def test_a_death_of_the_process_is_the_death_of_the_one_that_asked(server):
    with waiting(server) as (asked, forked):
        forked.kill()
        assert asked.wait(timeout=10) == -signal.SIGKILL


def test_multiprocessing_spawns_through_it(server):
    code = """
        import multiprocessing, os, sys
        multiprocessing.set_executable(os.environ["PROGRAM"])
        queue = multiprocessing.get_context("spawn").Queue()
        child = multiprocessing.get_context("spawn").Process(target=os.kill, args=(os.getppid(), 0))
        child.start(); child.join(); print(child.exitcode)
        child = multiprocessing.get_context("spawn").Process(target=sys.exit, args=(5,))
        child.start(); child.join(); print(child.exitcode)
    """
    done = run(server, code, env={**server[1], "PROGRAM": server[0]})
    assert done.stdout == "0\n5\n", done.stderr


def test_a_title_can_be_set(server):
    title = "import setproctitle; setproctitle.setproctitle('ray::Something'); "
    with waiting(server, title) as (_, forked):
        assert " ".join(forked.cmdline()).strip() == "ray::Something"


def test_without_a_server_it_is_python(server):
    env = {**server[1], "OPENRLHF_RAD_FORK_SERVER": "/nowhere"}
    done = run(server, "import sys; print('torch' in sys.modules)", env=env)
    assert done.stdout == "False\n"


def test_the_server_of_another_driver_is_not_used(server, tmp_path):
    """A run that another one starts has its own: the other's modules may be adapted to other flags."""
    _, env = server
    driver = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SERVER],
        input="",
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        env=env,
    )
    assert driver.stdout.split()[1] not in ("", env["OPENRLHF_RAD_FORK_SERVER"])


def test_a_server_that_is_stopped_leaves_nothing():
    from openrlhf_rad.plugin.cpu import fork_client, fork_server

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fork_server, "MODULES", ("json.tool",))
        fork_server.start()
        address = os.environ[fork_client.VARIABLE]
        assert os.path.exists(address)
        fork_server.stop()
    assert fork_client.VARIABLE not in os.environ
    deadline = time.monotonic() + 10
    while os.path.exists(address) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not os.path.exists(address)
