"""What a page is made from: the folder of a run, read as far as it has come, with what is missing said."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from openrlhf_rad.errors import ConfigError, RadError, ReferenceCostError
from openrlhf_rad.profile import RiskProfile
from openrlhf_rad.runs import folder as names
from openrlhf_rad.runs.folder import HELD_OUT, Kind, Reference, RunFolder
from openrlhf_rad.runs.records import Answer, Sample, check_answer
from openrlhf_rad.runs.summary import build_summary

# The end of samples.jsonl that is read: the last steps, whatever the length of the run.
_TAIL_BYTES = 2_000_000
# As many answers of the last steps make a quantile curve while there are no held-out ones.
_RECENT = 128


def last_steps(path: Path) -> list[Sample]:
    """The answers of the last steps, in order, from the end of samples.jsonl; whole steps, 128 if it can."""
    if not path.is_file():
        return []
    with open(path, "rb") as file:
        size = file.seek(0, 2)
        start = max(0, size - _TAIL_BYTES)
        file.seek(start)
        lines = file.read().split(b"\n")
    # The first line of a part is torn, and what follows the last line break is no line yet.
    lines = lines[1:-1] if start else lines[:-1]
    rows = [
        _sample(line, f"{path}: line {len(lines) - place} from its end")
        for place, line in enumerate(lines)
        if line.strip()
    ]
    steps = sorted({row["step"] for row in rows}, reverse=True)
    kept: list[Sample] = []
    for step in steps:
        if len(kept) >= _RECENT:
            break
        kept = [row for row in rows if row["step"] == step] + kept
    return kept


def is_torn(path: Path) -> bool:
    """Whether the file ends within a line, as while it is written."""
    if not path.is_file() or path.stat().st_size == 0:
        return False
    with open(path, "rb") as file:
        file.seek(-1, 2)
        return file.read() != b"\n"


def _sample(line: bytes, where: str) -> Sample:
    try:
        row = json.loads(line.decode("utf-8", errors="replace"))
    except json.JSONDecodeError as error:
        raise RadError(
            f"{where}: it is not JSON ({error.msg}); every line must be one whole record; mend"
            " the line or remove it"
        ) from None
    answer = check_answer(row, where)
    if not isinstance(row.get("step"), int):
        raise RadError(f"{where}: step is missing; every sample needs a whole step; remove the line")
    return Sample(**answer, step=row["step"], worst=row.get("worst") is True)


State = Literal["finished", "unfinished", "failed"]


@dataclass(frozen=True)
class RunRecord:
    """A run as a page shows it; what is not there (yet) is None or empty.

    Attributes:
        label: the shortest end of its path that tells it from the other runs of the page.
        before, after: held-out answers. recent: answers of the last training steps.
        summary: summary.json, or the same computed now when the run has not written one.
        notes: what is missing or torn, for the reader.
        began, written: dates of the command's file and of the last record.
    """

    path: Path
    label: str
    state: State
    profile: RiskProfile
    metrics: list[dict[str, Any]]
    before: list[Answer] | None
    after: list[Answer] | None
    recent: list[Sample]
    reference: Reference | None
    summary: dict[str, Any] | None
    command: str | None
    error: str | None
    notes: tuple[str, ...]
    began: datetime | None
    written: datetime | None

    @property
    def seed(self) -> str:
        """The seed that the command names, or OpenRLHF's default."""
        try:
            words = shlex.split(self.command or "")
        except ValueError:
            words = []
        for place, word in enumerate(words):
            if word == "--train.seed" and place + 1 < len(words):
                return words[place + 1]
            if word.startswith("--train.seed="):
                return word.partition("=")[2]
        return "42 (the default)" if words else "not recorded"


def labels(paths: Sequence[Path]) -> list[str]:
    """The shortest ends of the paths, at least three characters long, that differ from one another."""
    whole = [path.resolve() for path in paths]
    deepest = max(len(path.parts) for path in whole)
    for depth in range(1, deepest + 1):
        found = ["/".join(path.parts[-depth:]) for path in whole]
        if len(set(found)) == len(set(whole)) and min(map(len, found)) >= 3:
            return found
    return [str(path) for path in whole]


def read_runs(paths: Sequence[Path]) -> list[RunRecord]:
    """Read every folder.

    Raises:
        ConfigError: a folder that is none or holds no run; all of them at once.
        RadError: a file that is broken before its last line.
    """
    problems = [problem for path in paths if (problem := _problem(path))]
    if len({path.resolve() for path in paths}) < len(paths):
        problems.append("a run is named twice; a page shows each once; remove one")
    if problems:
        raise ConfigError("\n".join(problems))
    return [_read(path, label) for path, label in zip(paths, labels(paths), strict=True)]


def _problem(path: Path) -> str | None:
    """What keeps a folder from being read as a run; None for a run."""
    if not path.is_dir():
        what = "it is a file" if path.exists() else "there is no such folder"
        return f"{path}: {what}; a report is made of run folders; name one that rad-train wrote, runs/…"
    if not (path / names.PROFILE).is_file():
        return (
            f"{path}: it holds no {names.PROFILE}; the folder of a run has one; name a folder that rad-train"
            " wrote, runs/…"
        )
    return None


def _read(path: Path, label: str) -> RunRecord:
    run = RunFolder(path)
    held: dict[Kind, list[Answer] | None] = {
        kind: run.read_answers(kind) if (path / name).is_file() else None for kind, name in HELD_OUT.items()
    }
    command = _text(path / names.COMMAND)
    state = _state(path)
    reference, unread = _reference(run)
    written = [_date(path / name) for name in (names.METRICS, names.SUMMARY, *HELD_OUT.values())]
    return RunRecord(
        path=path,
        label=label,
        state=state,
        profile=run.read_profile(),
        metrics=run.read_metrics(),
        before=held["before"],
        after=held["after"],
        recent=last_steps(path / names.SAMPLES),
        reference=reference,
        summary=_summary(run, all(held.values())),
        command=command,
        error=_text(path / names.ERROR),
        notes=(*_notes(path, state, command), *unread),
        began=_date(path / names.COMMAND) or _date(path / names.PROFILE),
        written=max((date for date in written if date), default=None),
    )


def _state(path: Path) -> State:
    """Finished: its results are there, or without held-out prompts the model; failed: it says why."""
    if (path / names.SUMMARY).is_file() or RunFolder(path).answered:
        return "finished"
    if (path / names.ERROR).is_file():
        return "failed"
    asked = "--rad.heldout" in (_text(path / names.COMMAND) or "")
    return "finished" if not asked and (path / names.MODEL / "config.json").is_file() else "unfinished"


def _notes(path: Path, state: State, command: str | None) -> list[str]:
    """A sentence for each file that is missing or torn and that a reader would look for."""
    found = []
    for name in (names.METRICS, names.SAMPLES):
        if is_torn(path / name):
            found.append(f"The last line of {name} is not whole, as while a run writes it; it is left out.")
    if state == "finished":
        absent = [name for name in HELD_OUT.values() if not (path / name).is_file()]
        if absent:
            asked = "--rad.heldout" in (command or "")
            why = "though the run asked for them" if asked else "since the run had no held-out prompts"
            found.append(f"There is no {' and no '.join(absent)}, {why}: before and after are not compared.")
    needed = [names.COMMAND, *([names.REFERENCE, names.METRICS] if state == "finished" else [])]
    found += [
        f"{name} is missing: what it would show is left out."
        for name in needed
        if not (path / name).is_file()
    ]
    return found


def _reference(run: RunFolder) -> tuple[Reference | None, list[str]]:
    """The reference; a note instead where it cannot be read, as of runs of an earlier version."""
    if not (run.path / names.REFERENCE).is_file():
        return None, []
    try:
        return run.read_reference(), []
    except ReferenceCostError:
        return None, [f"{names.REFERENCE} cannot be read by this version: the reference's curve is left out."]


def _summary(run: RunFolder, answered: bool) -> dict[str, Any] | None:
    if (run.path / names.SUMMARY).is_file():
        return run.read_summary()
    return build_summary(run) if answered else None


def _text(path: Path) -> str | None:
    return path.read_text(encoding="utf-8", errors="replace").strip() if path.is_file() else None


def _date(path: Path) -> datetime | None:
    return datetime.fromtimestamp(path.stat().st_mtime).astimezone() if path.is_file() else None
