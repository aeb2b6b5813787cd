"""How far a run is, read from its folder, and shown: a bar on a terminal, a line a step elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from openrlhf_rad.errors import RadError
from openrlhf_rad.progress import bars
from openrlhf_rad.runs.folder import ALARMS, HELD_OUT, METRICS, REFERENCE, RunFolder

from .terminal import say

STARTING = "starting: importing torch, Ray and vLLM"
#: What the log of the training process says once, and the step that begins with it.
_STARTS = {
    "Ray instance": "starting: Ray is up, models and engines load",
    "Connected to Ray cluster": "starting: Ray is joined, models and engines load",
    "init engine (": "starting: engines are up, the reference answers",
}
BEFORE, TRAINING = "held-out prompts, before training", "training"
AFTER, SAVING = "held-out prompts, after training", "saving the model"

_COLUMNS = {"reward_mean": "reward", "cost_mean": "cost", "risk": "risk", "lambda": "λ"}


@dataclass
class State:
    """A moment of a run: its phase, the metrics of all steps done, what watches have said since the last."""

    phase: str = STARTING
    steps: list[dict[str, Any]] = field(default_factory=list)
    alarms: list[str] = field(default_factory=list)

    @property
    def step(self) -> int:
        """The last step done."""
        return int(self.steps[-1]["step"]) if self.steps else 0

    @property
    def starts(self) -> bool:
        """Whether nothing is trained yet."""
        return self.phase == STARTING or self.phase in _STARTS.values()


class Follower:
    """Reads a run's folder again and again; steps only when their file has changed.

    Args:
        folder: of the run.
        total: steps that the run will make, None if not known.
        heldout: whether held-out prompts are answered before and after.
        told: what was said before the start, which no watch need say again.
    """

    def __init__(self, folder: RunFolder, total: int | None, heldout: bool, told: Iterable[str] = ()) -> None:
        self.folder, self.total, self.heldout = folder, total, heldout
        self._seen: dict[str, tuple[int, float]] = {}  # by file, as it was when it was last read
        self._told = {f"step 0: {text}" for text in told}
        self._new_alarms()  # of an earlier part of the run
        self._began = time.time()
        self._start = STARTING
        self._read = folder.log.stat().st_size if folder.log.exists() else 0  # of a run that resumes
        self._steps: list[dict[str, Any]] = []

    def read(self) -> State:
        """The run as its files tell it now."""
        state = State(steps=self._read_steps(), alarms=self._new_alarms())
        state.phase = self._phase(state.step)
        return state

    def _phase(self, step: int) -> str:
        path = self.folder.path
        # A run that resumes from a checkpoint finds its reference; it has begun when it writes a step.
        if not (path / REFERENCE).exists() or not (
            self._is_new(path / REFERENCE) or self._is_new(path / METRICS)
        ):
            return self._starting()
        if self.heldout and not (path / HELD_OUT["before"]).exists():
            return BEFORE
        if self.total is None or step < self.total:
            return TRAINING
        return SAVING if not self.heldout or self._is_new(path / HELD_OUT["after"]) else AFTER

    def _state(self, name: str) -> tuple[int, float]:
        path = self.folder.path / name
        return (path.stat().st_size, path.stat().st_mtime) if path.exists() else (-1, 0.0)

    def _new_alarms(self) -> list[str]:
        seen = self._state(ALARMS)
        if seen == self._seen.get(ALARMS):
            return []
        try:
            new = [alarm for alarm in self.folder.read_alarms() if alarm not in self._told]
        except RadError:
            return []
        self._seen[ALARMS] = seen
        self._told.update(new)
        return new

    def _starting(self) -> str:
        """The step of the start that the log's new lines speak of."""
        log = self.folder.log
        if log.exists():
            with log.open("rb") as file:
                file.seek(self._read if self._read <= log.stat().st_size else 0)
                lines = file.read()
                whole = lines.rfind(b"\n") + 1
                self._read = file.tell() - len(lines) + whole
            for line in lines[:whole].decode(errors="replace").splitlines():
                self._start = next((step for said, step in _STARTS.items() if said in line), self._start)
        return self._start

    def _is_new(self, path: Path) -> bool:
        return path.exists() and path.stat().st_mtime >= self._began - 1  # coarse clocks of file systems

    def _read_steps(self) -> list[dict[str, Any]]:
        seen = self._state(METRICS)
        if seen != self._seen.get(METRICS):
            try:
                self._steps = self.folder.read_metrics()
            except RadError:
                return self._steps  # a broken line is the report's to tell, not the bar's
            self._seen[METRICS] = seen
        return self._steps


class Display(Protocol):
    """Shows a state."""

    def __call__(self, state: State) -> None: ...


@contextmanager
def display(total: int | None) -> Iterator[Display]:
    """A bar where stderr is a terminal, else plain lines."""
    if not sys.stderr.isatty():
        yield _Lines(total)
        return
    with bars() as bar:
        task, clock = bar.add_task(STARTING, total=None), Clock()

        def show(state: State) -> None:
            for alarm in state.alarms:
                bar.console.print(f"note: {alarm}", markup=False, highlight=False, soft_wrap=True)
            if line := clock.turned(state.phase):
                bar.console.print(line, style="dim", markup=False, highlight=False)
            known = total if state.steps else None
            words = f"{state.phase}{_count(state, total)}  {_numbers(state)}" if state.steps else state.phase
            bar.update(task, description=words.rstrip(), total=known, completed=state.step)

        yield show


class Clock:
    """Says each phase once, with the seconds since the start."""

    def __init__(self) -> None:
        self.phase, self._began = "", time.monotonic()

    def stamped(self, text: str) -> str:
        """A text with the time before it."""
        return f"[{time.monotonic() - self._began:4.0f} s] {text}"

    def turned(self, phase: str) -> str:
        """The line for a phase that has just begun; nothing for the one that goes on."""
        if phase == self.phase:
            return ""
        self.phase = phase
        return self.stamped(phase)


class _Lines:
    """A line for each phase and step, on stderr."""

    def __init__(self, total: int | None) -> None:
        self._total, self._shown, self._clock = total, 0, Clock()

    def __call__(self, state: State) -> None:
        say("note", state.alarms)
        # A run that resumes has steps on record, less those since its last checkpoint.
        self._shown = state.step if state.starts else min(self._shown, state.step)
        fresh = [row for row in state.steps if row["step"] > self._shown]
        lines = [self._clock.turned(TRAINING)] if fresh else []
        for row in fresh:
            at = State(TRAINING, [row])
            lines.append(self._clock.stamped(f"step{_count(at, self._total)}  {_numbers(at)}"))
            self._shown = at.step
        for line in filter(None, [*lines, self._clock.turned(state.phase)]):
            print(line, file=sys.stderr, flush=True)


def _count(state: State, total: int | None) -> str:
    return f" {state.step}/{max(total, state.step)}" if total else f" {state.step}"


def _numbers(state: State) -> str:
    row = state.steps[-1]
    shown = {word: row.get(name) for name, word in _COLUMNS.items()}
    return "  ".join(f"{word} {value:.3g}" for word, value in shown.items() if value is not None)
