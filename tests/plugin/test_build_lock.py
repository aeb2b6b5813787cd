"""A process that is killed with torch's build lock leaves it to the next."""

import signal
import subprocess
import sys

import pytest
from torch.utils import cpp_extension
from torch.utils.file_baton import FileBaton

from openrlhf_rad.plugin import patches
from openrlhf_rad.plugin.workers import KernelBaton

OWNER = """
import sys, time
from openrlhf_rad.plugin.workers import KernelBaton
baton = KernelBaton(sys.argv[1])
assert baton.try_acquire()
print("held", flush=True)
time.sleep(600)
"""
WAITER = """
import sys
from openrlhf_rad.plugin.workers import KernelBaton
baton = KernelBaton(sys.argv[1])
print(baton.try_acquire(), flush=True)
baton.wait()
print(baton.try_acquire(), flush=True)
"""


@pytest.fixture
def start():
    """Starts a process of Python; what still runs at the end is killed."""
    started = []

    def call(script, *words):
        started.append(
            subprocess.Popen([sys.executable, "-c", script, *words], stdout=subprocess.PIPE, text=True)
        )
        return started[-1]

    yield call
    for process in started:
        process.kill()
        process.communicate()


def test_whoever_waits_gets_it_when_its_owner_is_killed(start, tmp_path):
    path = str(tmp_path / "lock")
    owner = start(OWNER, path)
    assert owner.stdout.readline() == "held\n"
    waiter = start(WAITER, path)
    assert waiter.stdout.readline() == "False\n"
    with pytest.raises(subprocess.TimeoutExpired):
        waiter.wait(1.0)
    owner.send_signal(signal.SIGKILL)
    assert waiter.stdout.readline() == "True\n"


def test_a_file_that_torch_s_own_lock_left_is_no_obstacle(tmp_path):
    path = str(tmp_path / "lock")
    assert FileBaton(path).try_acquire()
    assert not FileBaton(path).try_acquire()
    baton = KernelBaton(path)
    assert baton.try_acquire()
    assert not KernelBaton(path).try_acquire()
    baton.release()
    assert KernelBaton(path).try_acquire()


def test_torch_builds_under_it(monkeypatch, tmp_path):
    monkeypatch.setattr(cpp_extension, "FileBaton", FileBaton)
    patches.apply(patches.every_process(trust_remote_code=True))
    asked = []
    source = tmp_path / "nothing.cpp"
    source.write_text("")
    monkeypatch.setattr(KernelBaton, "try_acquire", lambda baton: asked.append(baton._lock.lock_file))
    monkeypatch.setattr(KernelBaton, "wait", lambda baton: None)
    with pytest.raises(ImportError):  # nobody has built it
        cpp_extension.load("rad_nothing", [str(source)], build_directory=str(tmp_path))
    assert asked == [str(tmp_path / "lock.held")]
