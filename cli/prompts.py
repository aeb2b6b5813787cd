"""Prompt files as far as the checks need them: are there prompts, and has each its key?"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from . import flags as flag
from .plan import BATCH, Plan

#: What OpenRLHF reads as a file; any other name may be one of a hub.
SUFFIXES = (".json", ".jsonl", ".csv", ".parquet", ".arrow")
#: Lines whose keys are checked; counting goes on to the end of the file.
CHECKED = 20_000


@dataclass(frozen=True)
class PromptFile:
    """A prompt file: how many prompts (None where the format does not tell by its lines), what is wrong."""

    count: int | None
    problem: str | None = None


def is_file_name(name: str) -> bool:
    """Whether OpenRLHF would read this data set as a file or folder of this machine."""
    return name.endswith(SUFFIXES) or name.startswith((".", "/", "~"))


def files(plan: Plan, name: str) -> list[tuple[str, Path]]:
    """The files of a data set flag, as named and without a suffix ``@…``; none that is yet to be prepared."""
    words = [word.strip() for word in flag.value(plan.flags, name).split(",") if word.strip()]
    found = [(word, Path(word.split("@")[0])) for word in words if is_file_name(word.split("@")[0])]
    return [(word, path) for word, path in found if word not in plan.assets or path.exists()]


def steps(plan: Plan) -> int | None:
    """Rollouts that the run will make; None where the number of prompts is not known."""
    names = files(plan, "data.prompt_dataset")
    counts = [inspect(path, []).count for _, path in names]
    if not counts or len(counts) != len(flag.value(plan.flags, "data.prompt_dataset").split(",")):
        return None
    most = flag.whole(plan.flags, "data.max_samples", 10**8)
    sizes = [min(most, count) for count in counts if count is not None]
    if len(sizes) < len(counts):
        return None
    if words := flag.value(plan.flags, "data.prompt_probs"):
        total = _blended(sizes, words, flag.whole(plan.flags, "train.seed", 42))
    else:
        total = sum(sizes)
    batch = max(1, flag.whole(plan.flags, *BATCH))
    episodes = flag.whole(plan.flags, "train.num_episodes", 1)
    return None if total is None else -(-min(most, total) // batch) * episodes


def _blended(sizes: list[int], words: str, seed: int) -> int | None:
    """Prompts of data sets blended by --data.prompt_probs: drawn until each is used up, shorter ones again.

    Draws as ``datasets.interleave_datasets``, by which OpenRLHF blends, to the same number. None for
    probabilities that it would refuse.
    """
    try:
        share_k = np.array([float(word) for word in words.split(",")])
        if share_k.size != len(sizes) or (share_k <= 0).any() or 0 in sizes:
            return None
        generator = np.random.default_rng(seed)
        left_k, total = np.array(sizes), 0
        while True:
            block = generator.choice(len(sizes), size=1000, p=share_k)
            drawn = np.bincount(block, minlength=len(sizes))
            if (drawn >= left_k).all():
                last = [np.flatnonzero(block == k)[left - 1] for k, left in enumerate(left_k) if left > 0]
                return total + int(max(last)) + 1
            left_k, total = left_k - drawn, total + block.size
    except ValueError:  # no numbers, or they do not add up to 1
        return None


def inspect(path: Path, keys: list[str]) -> PromptFile:
    """Read a prompt file. The problem is a text of place, value, rule and fix."""
    if not path.exists():
        return PromptFile(None, f"{path}: there is no such file; check the path")
    if path.is_dir():
        empty = not any(path.iterdir())
        return PromptFile(None, f"{path}: the folder is empty; it must hold a data set" if empty else None)
    if path.suffix != ".jsonl":
        fix = "write one prompt a line, as JSON"
        empty = path.stat().st_size == 0
        return PromptFile(None, f"{path}: the file is empty; a run needs prompts; {fix}" if empty else None)
    return _lines(path, keys)


def _lines(path: Path, keys: list[str]) -> PromptFile:
    count = 0
    with open(path, encoding="utf-8", errors="replace") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            count += 1
            if count <= CHECKED and (problem := _line_problem(line, keys)):
                return PromptFile(None, f"{path}:{number}: {problem}")
    if count == 0:
        example = json.dumps(dict.fromkeys(keys, "…"), ensure_ascii=False)
        return PromptFile(
            0, f"{path}: the file holds no prompt; a run needs prompts; write lines like {example}"
        )
    return PromptFile(count)


def _line_problem(line: str, keys: list[str]) -> str | None:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        return f"the line is not JSON ({error.msg}); every line holds one prompt; mend the line"
    if not isinstance(row, dict):
        return f"the line is no mapping; it must hold {', '.join(keys)}; mend the line"
    for key, role in zip(keys, ("input", "label"), strict=False):
        if key not in row:
            held = ", ".join(row) or "nothing"
            return f"{key} is missing, the line holds {held}; add it, or name the key by --data.{role}_key"
    return None
