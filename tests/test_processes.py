"""A run ends with the command that began it, also when that is killed; real processes are killed."""

from __future__ import annotations

import subprocess
import sys
import time

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
from openrlhf_rad.cli.process import TrainingProcess
process = TrainingProcess([sys.executable, "-c", {training!r}], Path({log!r}))
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


def wait_for(condition, seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)
