"""Kill a tiny run again and again, and see that nothing is lost: ``python benchmarks/faults.py --kills 20``.

One run is left alone. Another, of the same command, is killed at random moments (the command itself, the
training process, the trainer, the policy, the reference model, a rollout worker, vLLM's engine, a daemon of
Ray; now and then in the middle of a checkpoint) and started again by the same command each time, until it
ends. After each kill nothing of the run may be left: no process, no port in use, no file that cannot be read.
At the end every step's metrics, the reference costs, all answers, λ's path and the trained weights must equal
those of the run that was left alone, bit by bit.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from openrlhf_rad.runs.checkpoints import newest
from openrlhf_rad.runs.folder import ANSWERS, HELD_OUT, REFERENCE, SAMPLES, RunFolder

#: What is killed → how its process shows itself; the first word of a name is enough.
TARGETS = {
    "rad-train": "openrlhf_rad.cli.train",
    "training process": "-m openrlhf_rad --rad.profile",
    "trainer": "ray::PPOTrainer",
    "policy": "ray::PolicyModelActor",
    "reference model": "ray::Reference",
    "rollout worker": "ray::FailClosedRollout",
    "vLLM engine": "VLLM::EngineCore",
    "Ray's raylet": "raylet/raylet",
    "Ray's GCS": "gcs_server",
}
#: When: some seconds after the start, some steps later (twice as often), or while a checkpoint is written.
MOMENTS = ("start", "step", "step", "save")
#: Marks the processes of these runs, whatever they do to their own environment.
MARK = "OPENRLHF_RAD_FAULTS"
#: Seconds that a run gets to end by itself once a part of it is killed.
PATIENCE = 240.0
#: Seconds that the processes of a run get to follow it.
ENDING = 30.0


@dataclass
class Counts:
    """What was seen."""

    kills: Counter[str] = field(default_factory=Counter)
    moments: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)


class Run:
    """A ``rad-train`` command in a folder, started as often as need be."""

    def __init__(self, out: Path, words: list[str]) -> None:
        self.out = out
        self.folder = RunFolder(out)
        self.mark = f"{os.getpid()}-{out.name}"
        self.words = [sys.executable, "-m", "openrlhf_rad.cli.train", "--out", str(out), *words]
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; what it prints is added to a log beside the folder."""
        with open(self.out.with_suffix(".log"), "ab") as log:
            environment = {**os.environ, MARK: self.mark}
            self.process = subprocess.Popen(self.words, stdout=log, stderr=log, env=environment)

    def wait(self, seconds: float) -> int | None:
        """Its exit code, None where it still runs after so many seconds."""
        assert self.process is not None
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    def processes(self) -> list[psutil.Process]:
        """All processes of the run: those with the mark, and descendants, some of which lose it."""
        found = {process for process in psutil.process_iter() if _is_marked(process, self.mark)}
        with suppress(psutil.NoSuchProcess):
            if self.process is not None:
                found.update(psutil.Process(self.process.pid).children(recursive=True))
        return [process for process in found if _runs(process)]

    def steps(self) -> int:
        """How many steps are on record."""
        return len(self.folder.read_metrics()) if self.out.exists() else 0


def _is_marked(process: psutil.Process, mark: str) -> bool:
    try:
        return bool(process.environ().get(MARK) == mark)
    except psutil.Error:
        return False


def _runs(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def kill_once(run: Run, target: str, moment: str, rng: random.Random, counts: Counts) -> bool:
    """Start the run, kill a part of it at a moment, look around; False where it came to its end."""
    begun = run.steps()
    run.start()
    if not _reach(run, moment, begun, rng):
        return False
    while not (victims := [one for one in run.processes() if shows(one, TARGETS[target])]):
        if run.wait(0.1) is not None:  # else it is still to be started
            return False
    family = run.processes()
    ports = _ports(family)
    victims[0].kill()
    counts.kills[target] += 1
    counts.moments[moment] += 1
    code = run.wait(PATIENCE)
    where = f"after a kill of {target} ({moment}, {run.steps()} steps)"
    if code is None:
        counts.problems.append(f"{where}: the run did not end within {PATIENCE:.0f} s")
    elif code == 0:
        counts.problems.append(f"{where}: the run ended as if all were well")
    counts.problems += [f"{where}: {problem}" for problem in _left_over(run, family, ports)]
    counts.problems += [f"{where}: {problem}" for problem in _torn(run)]
    return True


def _reach(run: Run, moment: str, begun: int, rng: random.Random) -> bool:
    """Wait for a moment of the run; False where the run ended before."""
    delay, steps = rng.uniform(2, 25), rng.randint(1, 8)
    started = time.monotonic()
    while run.wait(0.02) is None:
        if moment == "start" and time.monotonic() - started > delay:
            return True
        if moment == "step" and run.steps() >= begun + steps:
            time.sleep(rng.uniform(0, 0.5))
            return True
        if moment == "save" and list(run.out.glob("checkpoints/*/.*.saving")):
            time.sleep(rng.uniform(0, 0.05))
            return True
    return False


def shows(process: psutil.Process, shown: str) -> bool:
    """Whether a process shows itself by this text."""
    try:
        return shown in " ".join(process.cmdline())
    except psutil.Error:
        return False


def _ports(family: list[psutil.Process]) -> set[int]:
    """Ports on which these processes listen."""
    found = set()
    for process in family:
        try:
            connections = process.net_connections("tcp")
        except psutil.Error:
            continue
        found |= {one.laddr.port for one in connections if one.status == psutil.CONN_LISTEN}
    return found


def _left_over(run: Run, family: list[psutil.Process], ports: set[int]) -> Iterator[str]:
    deadline = time.monotonic() + ENDING
    while (left := {*filter(_runs, family), *run.processes()}) and time.monotonic() < deadline:
        time.sleep(0.2)
    for process in left:
        with suppress(psutil.NoSuchProcess):  # it may end at this moment
            yield f"process {process.pid} is left: {' '.join(process.cmdline())[:80]}"
            process.kill()
    listening = psutil.net_connections("tcp")
    used = {one.laddr.port for one in listening if one.status == psutil.CONN_LISTEN}
    yield from (f"port {port} is still listened on" for port in sorted(ports & used))


def _torn(run: Run) -> Iterator[str]:
    """Files of the run that cannot be read."""
    if not run.out.exists():
        return
    try:
        run.folder.read_metrics()
        if (run.out / REFERENCE).exists():
            run.folder.read_reference()
        for moment, name in HELD_OUT.items():
            if (run.out / name).exists():
                run.folder.read_answers(moment)
        newest(run.out / "checkpoints")
    except Exception as error:
        yield f"{type(error).__name__}: {error}"


def differences(alone: RunFolder, killed: RunFolder) -> list[str]:
    """Where two runs differ; times apart, nothing may."""
    found = []
    first, second = (
        [{name: value for name, value in row.items() if not name.startswith("seconds")} for row in rows]
        for rows in (alone.read_metrics(), killed.read_metrics())
    )
    if len(first) != len(second):
        found.append(f"{len(second)} steps, not {len(first)}")
    for row, other in zip(first, second, strict=False):
        names = [name for name in row if row[name] != other.get(name)]
        if names:
            found.append(f"step {row['step']}: {', '.join(names[:5])} differ")
    steps = sorted({path.name for run in (alone, killed) for path in (run.path / ANSWERS).iterdir()})
    files = (SAMPLES, *HELD_OUT.values(), *(f"{ANSWERS}/{name}" for name in steps))
    found += [name for name in files if _bytes(alone, name) != _bytes(killed, name)]
    reference, again = alone.read_reference(), killed.read_reference()
    if not all(np.array_equal(costs, again.costs[name]) for name, costs in reference.costs.items()):
        found.append("reference costs")
    if _bytes(alone, "model/model.safetensors") != _bytes(killed, "model/model.safetensors"):
        found.append("the trained weights")
    return found


def _bytes(run: RunFolder, name: str) -> bytes:
    return (run.path / name).read_bytes()


def random_kills(kills: int, rng: random.Random) -> Iterator[tuple[str, str]]:
    """What is killed and when: every target in turn, at a random moment."""
    targets = list(TARGETS)
    rng.shuffle(targets)
    for number in range(kills):
        yield targets[number % len(targets)], rng.choice(MOMENTS)


def run_faults(
    kills: Iterable[tuple[str, str]], rng: random.Random, folder: Path, words: list[str]
) -> tuple[Counts, list[str]]:
    """One run alone, one killed so often; what was seen, and where they differ."""
    counts = Counts()
    alone, killed = Run(folder / "alone", words), Run(folder / "killed", words)
    alone.start()
    if alone.wait(3600) != 0:
        raise RuntimeError(f"the run left alone failed; see {alone.out.with_suffix('.log')}")
    for target, moment in kills:
        seen = len(counts.problems)
        if not kill_once(killed, target, moment, rng, counts):
            counts.problems.append(f"the run ended after {counts.kills.total()} kills; give it more steps")
            break
        last = newest(killed.out / "checkpoints")
        at = f"resumes from step {last.step}" if last else "begins anew"
        print(f"kill {counts.kills.total()}: {target}, {killed.steps()} steps on record; {at}", flush=True)
        print("".join(f"    {problem}\n" for problem in counts.problems[seen:]), end="", flush=True)
    if killed.process is None or killed.process.returncode != 0:
        killed.start()
        if killed.wait(3600) != 0:
            raise RuntimeError(f"the last start failed; see {killed.out.with_suffix('.log')}")
    return counts, differences(alone.folder, killed.folder)


def command(seed: int, episodes: int) -> list[str]:
    """The words of the run that is killed, but for its folder."""
    return [
        *("--preset", "tiny", "--profile", "medical", "--seed", str(seed)),
        *("--", "--train.num_episodes", str(episodes), "--ckpt.save_steps", "3"),
    ]


def report(counts: Counts, found: list[str], steps: int) -> str:
    """The counts as text."""

    def words(counter: Counter[Any]) -> str:
        return ", ".join(f"{name} {number}" for name, number in counter.items()) or "none"

    lines = [
        f"kills: {counts.kills.total()} ({words(counts.kills)})",
        f"moments: {words(counts.moments)}",
        f"orphans, stuck ports, torn files, runs that hung or passed: {len(counts.problems)}",
        *counts.problems,
        f"differences to the run left alone, over {steps} steps: {len(found)}",
        *found,
    ]
    return "\n".join(lines)


def main() -> int:
    """Print the counts; 1 where anything was found."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--episodes", type=int, default=14, help="of 8 steps each")
    parser.add_argument("--folder", type=Path, default=None, help="kept; a temporary one by default")
    options = parser.parse_args()
    words = command(options.seed, options.episodes)
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        rng = random.Random(options.seed)
        counts, found = run_faults(random_kills(options.kills, rng), rng, folder, words)
        print(report(counts, found, 8 * options.episodes))
    return int(bool(found or counts.problems))


if __name__ == "__main__":
    sys.exit(main())
