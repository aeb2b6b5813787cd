"""A process that waits for Ray for ever ends when an engine dies, on a real Ray."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = pytest.mark.stack

SCRIPT = """
import asyncio, os, signal, time
import ray
from openrlhf_rad.plugin import vigil
from openrlhf_rad.plugin.launch import end_ray
signal.signal(signal.SIGTERM, signal.default_int_handler)
vigil.GRACE = {grace}

class Engine:
    async def stay_alive(self):
        await asyncio.sleep(1)
        {ending}
        await asyncio.sleep(600)
    async def answer(self):
        await asyncio.sleep(600)

class Policy:
    def wait(self):
        time.sleep({seconds})

ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
engines = [ray.remote(Engine).options(num_cpus=0).remote()]
watch = vigil.EngineWatch()
watch.watch(engines)
try:
    ray.get(ray.remote(Policy).remote().wait.remote())
    print("waited")
except (KeyboardInterrupt, SystemExit):  # Ray's own handler of signals raises the latter
    print("interrupted")
watch.release()
end_ray()
time.sleep(4)  # a thread that asks Ray now would end the process, and so would the alarm
print(type(watch.lost).__name__, watch.lost)
"""


def outcome(ending: str, grace: float = 0.0, seconds: float = 600) -> list[str]:
    script = SCRIPT.format(ending=ending, grace=grace, seconds=seconds)
    words = [sys.executable, "-W", "ignore", "-c", script]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=90)
    assert done.returncode == 0, done.stderr
    return [line for line in done.stdout.strip().splitlines() if "(raylet)" not in line]


def test_an_engine_whose_process_is_killed() -> None:
    first, *rest = outcome("os.kill(os.getpid(), signal.SIGKILL)")
    assert first == "interrupted"
    assert rest[0].startswith("ActorDiedError ")


def test_who_has_learned_it_in_time_is_not_interrupted() -> None:
    """And engines that live are no reason to end."""
    assert outcome("raise ValueError", grace=30.0, seconds=4)[0] == "waited"
    assert outcome("pass", seconds=4) == ["waited", "NoneType None"]
