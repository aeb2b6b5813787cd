"""A process that waits for Ray for ever ends when an engine dies, on a real Ray."""

from __future__ import annotations

import os
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
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=900)
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


#: Two actors as in a weight sync, or two ranks of a model: the driver waits for one, that one for the other.
ACTORS = """
import asyncio, os, signal, time
import ray
from openrlhf_rad.errors import CostError
from openrlhf_rad.plugin.vigil import telling

@telling
class Engine:
    async def stay_alive(self):
        await asyncio.sleep(600)
    async def update(self, failure):
        await asyncio.sleep(1)
        await self.receive(failure)
    async def receive(self, failure):
        exec(failure)
    async def mended(self, failure):
        await self.trying(failure)
        await asyncio.sleep(3)
    async def trying(self, failure):
        try:
            await self.receive(failure)
        except ValueError:
            pass

@telling
class Policy:
    def sync(self, engine, failure):
        engine.update.remote(failure)
        time.sleep(600)
    def rank(self, failure):
        exec(failure)
"""
WAITING = """
import signal, sys, time
import ray
from actors import Engine, Policy
from openrlhf_rad.plugin import vigil
from openrlhf_rad.plugin.launch import end_ray
signal.signal(signal.SIGTERM, signal.default_int_handler)
vigil.GRACE = 2.0
ray.init(num_cpus=3, include_dashboard=False, log_to_driver=False)
engine = ray.remote(Engine).options(num_cpus=0).remote()
ranks = [ray.remote(Policy).remote() for _ in range(2)]
watch = vigil.Vigil()
watch._engines.watch([engine])
watch.remember(ranks)
cause = None
try:
    try:
        {call}
    except Exception as error:
        watch.settle(error)
        raise
except BaseException as error:
    cause = watch.cause(error)
watch.release()
end_ray()
print(type(cause).__name__, str(cause)[:90].replace(chr(10), " | "))
"""
#: The call that the driver waits for, and what it must say.
WAITS = {
    "the engine raises in a weight sync, the policy waits for it": (
        "ray.get(ranks[0].sync.remote(engine, 'raise ValueError(\"wrong dtype\")'))",
        "RunError Engine.update failed: ValueError: wrong dtype",
    ),
    "an error keeps its class": (
        "ray.get(ranks[0].sync.remote(engine, 'raise CostError(\"no cost\")'))",
        "CostError no cost",
    ),
    "one rank raises more than Ray looks at, the other waits for it": (
        "ray.get([ranks[0].rank.remote('time.sleep(600)'),"
        " ranks[1].rank.remote('time.sleep(1); raise ValueError(\"x\" * 10**6)')])",
        "RunError Policy.rank failed: ValueError: " + 53 * "x",
    ),
    "one rank dies, which breaks the other's connection": (
        "ray.get([ranks[0].rank.remote('time.sleep(1.2); raise ConnectionError(\"closed by peer\")'),"
        " ranks[1].rank.remote('time.sleep(1); os.kill(os.getpid(), signal.SIGKILL)')])",
        "EnvironmentProblem a process of the run has died: The actor died unexpectedly",
    ),
    "what is mended is no failure": (
        "ray.get(engine.mended.remote('raise ValueError'))",
        "NoneType None",
    ),
}


@pytest.mark.parametrize("case", WAITS)
def test_a_failure_ends_the_run_of_whoever_waits(case, tmp_path) -> None:
    (tmp_path / "actors.py").write_text(ACTORS, encoding="utf-8")
    call, said = WAITS[case]
    words = [sys.executable, "-W", "ignore", "-c", WAITING.format(call=call)]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        words, capture_output=True, text=True, check=False, timeout=900, env=environment, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.strip().splitlines() if "(raylet)" not in line]
    assert lines[-1].startswith(said), done.stdout + done.stderr
