"""The end of a log that may still grow: the answers of the last training steps."""

from __future__ import annotations

import json
from pathlib import Path

from openrlhf_rad.errors import RadError
from openrlhf_rad.runs.records import Sample, check_answer

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
    rows = [_sample(line, f"{path}: line {place} from its end") for place, line in _numbered(lines)]
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


def _numbered(lines: list[bytes]) -> list[tuple[int, bytes]]:
    return [(len(lines) - place, line) for place, line in enumerate(lines) if line.strip()]


def _sample(line: bytes, where: str) -> Sample:
    try:
        row = json.loads(line.decode("utf-8", errors="replace"))
    except json.JSONDecodeError as error:
        raise RadError(
            f"{where}: it is not JSON ({error.msg}); every line must be one whole record;"
            " mend the line or remove it"
        ) from None
    answer = check_answer(row, where)
    if not isinstance(row.get("step"), int):
        raise RadError(f"{where}: step is missing; every sample needs a whole step; remove the line")
    return Sample(**answer, step=row["step"])
