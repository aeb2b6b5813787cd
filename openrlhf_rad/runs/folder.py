"""The folder of a run: what was asked, what happened at each step, and what came of it."""

from __future__ import annotations

import io
import json
import os
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from openrlhf_rad.errors import ConfigError, RadError, ReferenceCostError
from openrlhf_rad.files import append_lines, cut_lines, explained, flush, own_folder, write_atomically
from openrlhf_rad.naming import cost_arrays
from openrlhf_rad.profile import RiskProfile, load_profile
from openrlhf_rad.profile.addresses import sealed
from openrlhf_rad.runs import records
from openrlhf_rad.tables.formats import write_parquet

Array = NDArray[np.float64]
Kind = Literal["before", "after"]

COMMAND, PROFILE, METRICS, SAMPLES = "command.txt", "profile.resolved.yaml", "metrics.jsonl", "samples.jsonl"
REFERENCE, SUMMARY, LOG, PLOTS, MODEL = "reference_costs.npz", "summary.json", "train.log", "plots", "model"
#: Which step's model ships and why; the held-out answers of each that was judged.
SELECTION, CANDIDATES = "selection.json", "candidates"
#: The numbers of all answers of training, a Parquet file a step: what pandas.read_parquet() reads as one.
ANSWERS, _STEP = "answers", "step-{:06d}.parquet"
#: The page that `rad report` writes beside the records.
PAGE = "report.html"
#: What the watches of a run said, a line each.
ALARMS = "alarms.jsonl"
#: What stopped the run, in its own words; written by the training process.
ERROR = "error.txt"
HELD_OUT: dict[Kind, str] = {"before": "heldout_before.jsonl", "after": "heldout_after.jsonl"}
FILES = {
    COMMAND,
    PROFILE,
    METRICS,
    SAMPLES,
    ANSWERS,
    REFERENCE,
    SUMMARY,
    LOG,
    PLOTS,
    MODEL,
    PAGE,
    ALARMS,
    SELECTION,
    CANDIDATES,
    *HELD_OUT.values(),
}


class Reference(NamedTuple):
    """The reference answers.

    Attributes:
        costs: cost source → costs in its own units, shape (N,); the first is the profile's first.
        reward_r: shape (N,). prompts: of the N answers. labels: of the prompts, "" for none.
    """

    costs: dict[str, Array]
    reward_r: Array
    prompts: list[str]
    labels: list[str]

    @property
    def cost_r(self) -> Array:
        """The costs of the first source, shape (N,)."""
        return next(iter(self.costs.values()))


@dataclass(frozen=True)
class RunFolder:
    """A run on disk. Whole files are replaced atomically; logs grow by whole lines.

    Every method that writes raises EnvironmentProblem when the disk is full, every one that reads
    raises RadError with file and line when something is broken and ConfigError when it is absent.
    """

    path: Path

    def __init__(self, path: str | os.PathLike[str]) -> None:
        object.__setattr__(self, "path", Path(path))

    @classmethod
    def create(cls, path: str | os.PathLike[str], *, exist_ok: bool = False) -> RunFolder:
        """Make the folder of a new run; with exist_ok, also go on in the folder of an earlier one.

        Raises:
            ConfigError: the folder holds a run (without exist_ok), or other files.
        """
        run = cls(path)
        if problem := run.problem():
            raise ConfigError(problem)
        if not exist_ok and run.path.exists() and any(run.path.iterdir()):
            raise ConfigError(f"{run.path}: it holds a run; name a new folder, or remove this one")
        with explained(run.path, "nothing was changed"):
            own_folder(run.path)
        return run

    def problem(self) -> str | None:
        """Why a run may not write here: the path is a file, or a folder with other files than a run's."""
        if self.path.exists() and not self.path.is_dir():
            return f"{self.path}: it is a file; a run needs a folder; name another"
        held = {entry.name for entry in self.path.iterdir()} if self.path.exists() else set()
        if COMMAND in held or all(name in FILES or name.endswith(".partial") for name in held):
            return None
        return (
            f"{self.path}: it holds {min(held - FILES)}, which is not a file of a run; a run writes only to"
            " an empty folder or its own; name another folder"
        )

    @property
    def log(self) -> Path:
        """The log of the training processes."""
        return self.path / LOG

    @property
    def plots(self) -> Path:
        """The folder of the pictures; it may not exist yet."""
        return self.path / PLOTS

    @property
    def model(self) -> Path:
        """The folder of the trained model; it may not exist yet."""
        return self.path / MODEL

    @property
    def answered(self) -> bool:
        """Whether held-out prompts were answered before and after training."""
        return all((self.path / name).is_file() for name in HELD_OUT.values())

    def write_command(self, command: str) -> None:
        """Record the command that began the run, without its secrets, as it can be pasted into a shell."""
        write_atomically(self.path / COMMAND, command.rstrip("\n") + "\n")

    def write_profile(self, profile: RiskProfile) -> None:
        """Record the profile with all defaults, names in place of secrets; its hash stands in a comment."""
        profile, _ = sealed(profile)
        write_atomically(self.path / PROFILE, f"# profile hash: {profile.hash}\n{profile.to_yaml()}")

    def read_profile(self) -> RiskProfile:
        """The profile of the run. Raises ProfileError."""
        return load_profile(self.path / PROFILE)

    def append_metrics(self, metrics: Mapping[str, Any]) -> None:
        """Add one step, columns as in records.COLUMNS. Raises RadError for values that are not finite."""
        append_lines(self.path / METRICS, [records.metrics_line(metrics)])

    def read_metrics(self) -> list[dict[str, Any]]:
        """The steps in order, none if there are none. A torn last line is passed over.

        A run that was resumed from a checkpoint repeats steps; the last record of each counts.
        """
        steps: dict[int, dict[str, Any]] = {}
        for where, line in self._lines(METRICS):
            row = records.parse_line(line, where)
            if not isinstance(row, dict) or not isinstance(row.get("step"), int):
                raise RadError(f"{where}: step is missing; every line needs a whole step; remove the line")
            steps[row["step"]] = row
        return [steps[step] for step in sorted(steps)]

    def rewind(self, step: int) -> None:
        """Forget what came after a step, for a run resumes from its checkpoint; from 0, it begins anew."""
        for name in (METRICS, SAMPLES, ALARMS):
            path = self.path / name

            def kept(line: str, where: str = str(path)) -> bool:
                return step > 0 and bool(records.parse_line(line, where)["step"] <= step)

            if path.is_file():
                cut_lines(path, kept)
        first = _STEP.format(step + 1)
        for file in (self.path / ANSWERS).glob("step-*.parquet"):
            if (len(file.name), file.name) >= (len(first), first):
                file.unlink()
        later = [
            SUMMARY,
            SELECTION,
            HELD_OUT["after"],
            *([REFERENCE, HELD_OUT["before"]] if step == 0 else []),
        ]
        for name in later:
            (self.path / name).unlink(missing_ok=True)

    def flush(self) -> None:
        """Bring the logs to the disk, as a checkpoint that counts on them must."""
        for name in (METRICS, SAMPLES, ALARMS):
            if (self.path / name).is_file():
                flush(self.path / name)

    def append_alarm(self, step: int, watch: str, message: str) -> None:
        """Add what a watch said."""
        line = json.dumps({"step": step, "watch": watch, "message": message}, ensure_ascii=False)
        append_lines(self.path / ALARMS, [line + "\n"])

    def read_alarms(self) -> list[str]:
        """What the watches said, in order."""
        return [str(records.parse_line(line, where)["message"]) for where, line in self._lines(ALARMS)]

    def append_samples(self, samples: Iterable[Mapping[str, Any]]) -> None:
        """Add answers seen in training: step, prompt, answer, label, reward, cost."""
        append_lines(
            self.path / SAMPLES,
            (records.answer_line(row, f"sample {index}") for index, row in enumerate(samples, 1)),
        )

    def write_step(self, step: int, columns: Mapping[str, Any]) -> None:
        """Record the numbers of all answers of a step; name → values, one an answer."""
        size = len(next(iter(columns.values())))
        own_folder(self.path / ANSWERS)
        write_parquet(self.path / ANSWERS / _STEP.format(step), {"step": np.full(size, step), **columns})

    def write_answers(self, kind: Kind, rows: Iterable[Mapping[str, Any]]) -> None:
        """Record the held-out answers from before or after training: prompt, answer, label, reward, cost."""
        name = HELD_OUT[kind]
        lines = [records.answer_line(row, f"{name}:{number}") for number, row in enumerate(rows, 1)]
        write_atomically(self.path / name, "".join(lines))

    def write_candidate(self, step: int, rows: Iterable[Mapping[str, Any]]) -> None:
        """Record the held-out answers of a step whose model may ship."""
        path = self.path / CANDIDATES / f"step{step}.jsonl"
        own_folder(path.parent)
        lines = [records.answer_line(row, f"{path.name}:{number}") for number, row in enumerate(rows, 1)]
        write_atomically(path, "".join(lines))

    def read_answers(self, kind: Kind) -> list[records.Answer]:
        """The held-out answers from before or after training."""
        name = HELD_OUT[kind]
        self._require(name, "run the training to its end, which answers the held-out prompts")
        lines = self._lines(name, tolerate_torn=False)
        return [records.check_answer(records.parse_line(line, where), where) for where, line in lines]

    def write_reference(self, reference: Reference) -> None:
        """Record the reference answers."""
        sizes = {name: cost_r.shape for name, cost_r in reference.costs.items()}
        sizes |= {"rewards": reference.reward_r.shape, "labels": (len(reference.labels),)}
        if set(sizes.values()) != {(len(reference.prompts),)}:
            raise ReferenceCostError(
                f"the reference has {len(reference.prompts)} prompts and arrays of the shapes {sizes};"
                " each answer needs one of each"
            )
        arrays: dict[str, Any] = {
            **{array: reference.costs[name] for name, array in cost_arrays(reference.costs).items()},
            "sources": np.array(list(reference.costs), dtype=np.str_),
            "rewards": reference.reward_r,
            "prompts": np.array(reference.prompts, dtype=np.str_),
            "labels": np.array(reference.labels, dtype=np.str_),
        }
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **arrays)
        write_atomically(self.path / REFERENCE, buffer.getvalue())

    def read_reference(self) -> Reference:
        """The reference of the run. Raises ReferenceCostError when the file is broken."""
        path = self._require(REFERENCE, "run the training, which begins with the reference's answers")
        try:
            with open(path, "rb") as file, np.load(file, allow_pickle=False) as data:
                sources, prompts, labels = (data[name].tolist() for name in ("sources", "prompts", "labels"))
                costs = {name: data[array] for name, array in cost_arrays(sources).items()}
                return Reference(costs, data["rewards"], prompts, labels)
        except (KeyError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise ReferenceCostError(
                f"{path}: the reference costs cannot be read ({error}); the file must hold costs, rewards,"
                " prompts and labels; remove it and sample the reference again"
            ) from None

    def write_selection(self, selection: Mapping[str, Any]) -> None:
        """Record which step's model ships and why."""
        write_atomically(
            self.path / SELECTION, json.dumps(selection, ensure_ascii=False, allow_nan=False, indent=1) + "\n"
        )

    def read_selection(self) -> dict[str, Any] | None:
        """Which step's model ships and why; None of a run that judged none."""
        path = self.path / SELECTION
        if not path.is_file():
            return None
        selection: dict[str, Any] = records.parse_line(path.read_text(encoding="utf-8"), str(path))
        return selection

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """Record the summary."""
        write_atomically(
            self.path / SUMMARY, json.dumps(summary, ensure_ascii=False, allow_nan=False, indent=2) + "\n"
        )

    def read_summary(self) -> dict[str, Any]:
        """The summary of the run."""
        path = self._require(SUMMARY, "summarise the run first")
        summary: dict[str, Any] = records.parse_line(path.read_text(encoding="utf-8"), str(path))
        return summary

    def _require(self, name: str, fix: str) -> Path:
        path = self.path / name
        if not path.is_file():
            raise ConfigError(f"{path}: there is no such file; a finished run holds one; {fix}")
        return path

    def _lines(self, name: str, *, tolerate_torn: bool = True) -> Iterator[tuple[str, str]]:
        """(`file:line`, text) of every line that is not blank."""
        path = self.path / name
        if not path.exists():
            return
        with open(path, encoding="utf-8", errors="replace") as file:
            for number, line in enumerate(file, 1):
                if line.strip() and (line.endswith("\n") or not tolerate_torn):
                    yield f"{path}:{number}", line
