"""Prompt files as far as the checks need them: are there prompts, and has each its key?"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from openrlhf_rad.errors import DataError
from openrlhf_rad.tables import rows, shown
from openrlhf_rad.tables.formats import SCALARS, as_text

from . import flags as flag
from .plan import BATCH, HELDOUT, Plan

#: What OpenRLHF reads as a file; any other name may be one of a hub.
SUFFIXES = (".json", ".jsonl", ".csv", ".parquet", ".arrow")
#: Rows whose values are checked; counting goes on to the end of the file.
CHECKED = 20_000


@dataclass(frozen=True)
class PromptFile:
    """A prompt file: how many prompts (None where the format does not tell), what is wrong, the labels."""

    count: int | None
    problem: str | None = None
    labels: frozenset[str] = frozenset()


def is_file_name(name: str) -> bool:
    """Whether OpenRLHF would read this data set as a file or folder of this machine."""
    return name.endswith(SUFFIXES) or name.startswith((".", "/", "~"))


def files(plan: Plan, name: str) -> list[tuple[str, Path]]:
    """The files of a data set flag, as named and without a suffix ``@…``; none that is yet to be prepared."""
    words = [word.strip() for word in flag.value(plan.flags, name).split(",") if word.strip()]
    named = [(word, Path(word.split("@")[0])) for word in words if is_file_name(word.split("@")[0])]
    return [(word, path) for word, path in named if word not in plan.assets or path.exists()]


def steps(plan: Plan) -> int | None:
    """Rollouts that the run will make; None where the number of prompts is not known."""
    names = files(plan, "data.prompt_dataset")
    counts = [inspect(path, {}).count for _, path in names]
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


def heldout(plan: Plan) -> int | None:
    """Held-out answers before training, and as many after; None where their number is not known."""
    named = flag.value(plan.flags, HELDOUT)
    counts = [inspect(path, {}).count for _, path in files(plan, HELDOUT)]
    known = [count for count in counts if count is not None]
    if named and (not counts or len(known) < len(counts)):
        return None
    return sum(known) * flag.whole(plan.flags, "rad.heldout_samples", 1)


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
    except ValueError:  # not numbers, or they do not add up to 1
        return None


def inspect(path: Path, keys: Mapping[str, str], *, messages: bool = False) -> PromptFile:
    """Read a prompt file. The problem is a text of place, value, rule and fix.

    Args:
        keys: role (``input``, ``label``) → the key that each row must have.
        messages: whether a prompt may be a list of messages, for the chat template.
    """
    if not path.exists():
        return PromptFile(None, f"{path}: there is no such file; check the path")
    if path.is_dir():
        empty = not any(path.iterdir())
        return PromptFile(None, f"{path}: the folder is empty; it must hold a data set" if empty else None)
    try:
        if not _readable(path):
            return PromptFile(None)
        labels = set()
        for row in islice(rows(path, list(keys.values())), CHECKED):
            if problem := _row_problem(row.values, keys, messages):
                return PromptFile(None, f"{row.place}: {problem}")
            labels.add(as_text(row.values.get(keys.get("label", ""))) or "")
        return PromptFile(_count(path), labels=frozenset(labels - {""}))
    except DataError as error:
        return PromptFile(None, str(error))


def _readable(path: Path) -> bool:
    """Whether rows can be looked at: OpenRLHF also reads Arrow files."""
    if path.stat().st_size == 0:
        raise DataError(f"{path}: the file is empty; a run needs prompts; write one a line, as JSON")
    if path.suffix == ".parquet":
        return importlib.util.find_spec("pyarrow") is not None
    return path.suffix != ".arrow"


def _count(path: Path) -> int:
    if path.suffix == ".jsonl":
        with open(path, "rb") as file:
            return sum(not line.isspace() for line in file)
    return sum(1 for _ in rows(path, []))


def _row_problem(row: Mapping[str, Any], keys: Mapping[str, str], messages: bool) -> str | None:
    for role, key in keys.items():
        if key not in row:
            held = ", ".join(row) or "nothing"
            return f"{key} is missing, the row holds {held}; add it, or name the key by --data.{role}_key"
    prompt, label = row[keys["input"]] if "input" in keys else "text", row.get(keys.get("label", ""))
    if isinstance(prompt, list):
        if not messages:
            fix = "add --data.apply_chat_template, which takes them"
            return f"{keys['input']} is a list of messages; a prompt must be a text; {fix}"
        if not prompt or not all(
            isinstance(one, dict) and {"role", "content"} <= one.keys() for one in prompt
        ):
            rule = "its items must be messages with role and content"
            return f"{keys['input']} is a list; {rule}; mend the row"
    elif not isinstance(prompt, str) or not prompt.strip():
        return f"{keys['input']} is {shown(prompt)}; a prompt must be a text; mend the row or remove it"
    if label is not None and not isinstance(label, SCALARS):
        rule = "a label must be a text, a number or a truth value"
        fix = "mend the row, or name another key by --data.label_key"
        return f"{keys['label']} is {shown(label)}; {rule}; {fix}"
    return None
