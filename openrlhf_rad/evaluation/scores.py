"""The rows that an evaluation has judged, kept with it: the gate reads these, and never the sources again.

``scores/NAME.csv`` holds a row an answer: a digest of its prompt, its number among the prompt's answers,
segment, label, reward and costs. eval.json holds the sha256 of each, and of each source.
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from openrlhf_rad.errors import ConfigError, DataError
from openrlhf_rad.evaluation.answers import Answers, read_answers
from openrlhf_rad.evaluation.columns import Columns
from openrlhf_rad.evaluation.costs import CostOf
from openrlhf_rad.files import explained, write_atomically
from openrlhf_rad.profile import RiskProfile
from openrlhf_rad.tables.rows import BATCH

SCORES, PROFILE = "scores", "profile.resolved.yaml"
_WORDS = {-1: "", 0: "safe", 1: "harmful"}


def source(answers: Answers) -> dict[str, Any]:
    """What a model's rows were read from: file, sha256, rows and columns."""
    return {
        "file": str(answers.path),
        "sha256": sha256(answers.path),
        "rows": int(answers.row_b.size),
        "columns": dict(answers.used),
    }


def keep(folder: Path, name: str, answers: Answers) -> dict[str, Any]:
    """Write the rows of a model; returns file, sha256, rows. Raises EnvironmentProblem: the disk is full."""
    path = folder / SCORES / f"{name}.csv"
    with explained(folder, "nothing was changed"):
        path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, _table(answers))
    return {"file": f"{SCORES}/{path.name}", "sha256": sha256(path), "rows": int(answers.row_b.size)}


def _table(answers: Answers) -> str:
    order = answers.order
    prompt_b = answers.prompt_b[order]
    start_b = np.flatnonzero(np.append(True, prompt_b[1:] != prompt_b[:-1]))
    number_b = np.arange(order.size) - np.repeat(start_b, np.diff(np.append(start_b, order.size)))
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    for start in range(0, order.size, BATCH):  # Python's numbers take ten times an array's memory
        part = slice(start, start + BATCH)
        columns = _columns(answers, order[part], number_b[part])
        if start == 0:
            writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
    return buffer.getvalue()


def _columns(answers: Answers, rows: NDArray[np.intp], number_b: NDArray[np.intp]) -> dict[str, list[Any]]:
    """Some rows of the table, by column."""
    segments = ("", *answers.segments)
    columns: dict[str, list[Any]] = {
        "prompt": [f"{digest:016x}" for digest in answers.prompt_b[rows].tolist()],
        "sample": number_b.tolist(),
        "segment": [segments[place + 1] for place in answers.segment_b[rows].tolist()],
        "label": [_WORDS[code] for code in answers.harmful_b[rows].tolist()],
    }
    if answers.reward_b is not None:
        columns["reward"] = answers.reward_b[rows].tolist()
    for name, cost_b in answers.costs.items():
        columns["cost" if len(answers.costs) == 1 else f"cost_{name}"] = cost_b[rows].tolist()
    return columns


def keep_profile(folder: Path, profile: RiskProfile) -> dict[str, Any]:
    """Write the profile as it was applied, overrides and all; returns file and sha256."""
    write_atomically(folder / PROFILE, f"# profile hash: {profile.hash}\n{profile.to_yaml()}")
    return {"file": PROFILE, "sha256": sha256(folder / PROFILE)}


def kept(
    folder: Path, data: Mapping[str, Any], names: Sequence[str], columns: Columns, costs: Sequence[CostOf]
) -> dict[str, Answers]:
    """The rows of some models as they were evaluated. Raises DataError for files that were changed since."""
    rows = {row["name"]: row for row in data["models"]}
    unknown = [name for name in names if name not in rows]
    if unknown:
        held = f"it holds {', '.join(rows)}"
        raise ConfigError(f"{folder}: there is no model {unknown[0]}; {held}; name two of them")
    paths = {name: _unchanged(folder, rows[name]["scores"]) for name in names}
    return {name: read_answers(path, columns, None, costs) for name, path in paths.items()}


def kept_profile(folder: Path, data: Mapping[str, Any]) -> RiskProfile:
    """The profile of the evaluation. Raises DataError, ProfileError."""
    path = _unchanged(folder, data["profile"])
    return RiskProfile.from_text(path.read_text(encoding="utf-8"), str(path))


def _unchanged(folder: Path, record: Mapping[str, Any]) -> Path:
    path = folder / str(record["file"])
    if not path.is_file():
        raise DataError(f"{path}: there is no such file, and eval.json names it; run rad eval again")
    if sha256(path) != record["sha256"]:
        raise DataError(f"{path}: it was changed after the evaluation (another sha256); run rad eval again")
    return path


def sha256(path: Path) -> str:
    """The digest of a file's bytes, in hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
