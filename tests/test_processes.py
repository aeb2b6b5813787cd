"""A run ends with the command that began it, also when that is killed; real processes are killed."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time

import psutil
import pytest

from openrlhf_rad.processes import alive, kill, marked

#: A training process that hangs in a child of its own session, as Ray's daemons do.
TRAINING = """
import signal, subprocess, sys, time
from openrlhf_rad.processes import Parent
signal.signal(signal.SIGTERM, signal.default_int_handler)
daemon = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"], start_new_session=True)
parent = Parent()
parent.follow()
print("ready", flush=True)
try:
    time.sleep(300)
except KeyboardInterrupt:
    print("stopped", flush=True)
finally:
    parent.sweep()
"""
COMMAND = """
import sys, time
from pathlib import Path
from openrlhf_rad.processes import MarkedProcess
process = MarkedProcess([sys.executable, "-c", {training!r}], Path({log!r}))
print(process.mark, flush=True)
time.sleep(300)
"""


def test_a_command_that_is_killed_takes_its_run_along(tmp_path) -> None:
    log = tmp_path / "log"
    words = [sys.executable, "-c", COMMAND.format(training=TRAINING, log=str(log))]
    command = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    assert command.stdout is not None
    mark = command.stdout.readline().strip()
    try:
        wait_for(lambda: log.exists() and "ready" in log.read_text())
        assert len(alive(marked(mark))) == 2
        command.kill()
        command.wait()
        wait_for(lambda: not alive(marked(mark)))
        assert "stopped" in log.read_text()
    finally:
        command.kill()
        kill(marked(mark))
        command.stdout.close()


#: Leaves a daemon behind that has neither its parent nor the environment of the run.
ORPHANING = """
import subprocess, sys
subprocess.Popen(["sleep", "300"], start_new_session=True, env={}, stdin=subprocess.DEVNULL)
"""
SWEEPS = """
import sys
from openrlhf_rad.processes import MarkedProcess
process = MarkedProcess([sys.executable, "-c", {orphaning!r}], None)
process.wait(20)
print(*(each.pid for each in process.family() if each.name() == "sleep"), flush=True)
process.sweep(0.0)
print(len(process.family()), flush=True)
"""
VITAL = """
import os, signal, subprocess, time
from openrlhf_rad.processes import Vital
signal.signal(signal.SIGTERM, signal.default_int_handler)
store = Vital("sleep")
store.watch()
child = subprocess.Popen(["sleep", "300"])
try:
    time.sleep(3)
    assert not store.lost
    {ending}
    time.sleep(20)
except KeyboardInterrupt:
    pass
print(store.lost, flush=True)
"""


def test_an_orphan_without_mark_is_found_and_ended() -> None:
    words = [sys.executable, "-c", SWEEPS.format(orphaning=ORPHANING)]
    done = subprocess.run(words, capture_output=True, text=True, check=True, timeout=60)
    orphans, left = done.stdout.splitlines()
    assert len(orphans.split()) == 1
    assert left == "0"
    with pytest.raises(psutil.NoSuchProcess):
        psutil.Process(int(orphans))


@pytest.mark.parametrize(
    ("ending", "lost"),
    [("child.kill()", "True"), ("store.release(); child.kill(); time.sleep(5); 1 / 0", "")],
)
def test_the_end_of_a_vital_process_ends_this_one_unless_it_may(ending, lost) -> None:
    words = [sys.executable, "-c", VITAL.format(ending=ending)]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)
    assert done.stdout.strip() == lost, done.stderr
    assert ("ZeroDivisionError" in done.stderr) == (not lost)


#: A cost that never comes, with a process of its own that has neither its parent nor its environment.
HANGING = """
import subprocess, time
from pathlib import Path
def cost_func(queries, prompts, labels):
    orphan = subprocess.Popen(["sleep", "300"], start_new_session=True, env={})
    Path(__file__).with_suffix(".pid").write_text(str(orphan.pid))
    time.sleep(300)
"""


@pytest.mark.parametrize(("number", "code"), [("SIGTERM", 130), ("SIGINT", 130), ("SIGKILL", -9)])
def test_an_evaluation_that_is_stopped_takes_its_scoring_along(tmp_path, number, code) -> None:
    """Also one that a shell has started in the background, with SIGINT ignored."""
    (tmp_path / "cost.py").write_text(HANGING)
    row = json.dumps({"prompt": "p", "answer": "a"})
    for name in ("baseline", "candidate"):
        (tmp_path / f"{name}.jsonl").write_text(f"{row}\n")
    words = [sys.executable, "-m", "openrlhf_rad.cli.rad", "eval", "--profile", "uniform", "--out", "out"]
    words += [
        "--baseline",
        "old=baseline.jsonl",
        "--candidate",
        "new=candidate.jsonl",
        "--set",
        "cost.function=cost.py",
    ]
    command = subprocess.Popen(
        words,
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),  # noqa: PLW1509 - nothing else runs
    )
    pid = tmp_path / "cost.pid"
    try:
        wait_for(lambda: command.poll() is not None or (pid.exists() and pid.read_text()), 60)
        family = psutil.Process(command.pid).children(recursive=True)
        assert [one for one in family if "openrlhf_rad.plugin.answering" in one.cmdline()]
        family.append(psutil.Process(int(pid.read_text())))
        command.send_signal(signal.Signals[number])
        _, said = command.communicate(timeout=30)
        assert command.returncode == code, said
        assert ("the same command goes on" in said) == (code == 130)
        wait_for(lambda: not alive(family))
    finally:
        command.kill()
        command.wait()
        if pid.exists():
            kill([psutil.Process(int(pid.read_text()))] if psutil.pid_exists(int(pid.read_text())) else [])


def wait_for(condition, seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)
