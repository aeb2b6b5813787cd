"""Two models' answers to the same prompts, as pairs.

The k-th answer to a prompt in a red file is paired with the k-th in the blue one. Several files of a model
are its seeds; one file against several stands against each of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from openrlhf_rad.data.cells import text
from openrlhf_rad.errors import DataError
from openrlhf_rad.tables import rows

_FORMATS = (".jsonl", ".parquet", ".csv")


@dataclass(frozen=True, slots=True)
class Match:
    """An answer of each model to one prompt.

    Attributes:
        seed: 1, 2, …; number: which of the answers to the prompt, from 1.
    """

    seed: int
    prompt: str
    number: int
    red: str
    blue: str


@dataclass(frozen=True)
class _Answers:
    """One file: prompt → (answer, place) in the file's order."""

    path: Path
    by_prompt: dict[str, list[tuple[str, str]]]


def find(names: Sequence[str], evaluation: Path | None) -> list[Path]:
    """The files that are named: paths, or models of an evaluation's folder ``answers/``. Raises DataError."""
    paths = []
    for name in names:
        path = Path(name)
        if evaluation is not None and not path.is_file():
            found = [evaluation / "answers" / f"{name}{suffix}" for suffix in _FORMATS]
            path = next((file for file in found if file.is_file()), found[0])
            if not path.is_file():
                there = sorted(file.stem for file in (evaluation / "answers").glob("*") if file.is_file())
                held = f"it holds {', '.join(there)}" if there else "it holds no answers"
                raise DataError(f"{evaluation}: no answers of {name}; {held}; check the name or the folder")
        paths.append(path)
    return paths


def pair(
    red: Sequence[Path], blue: Sequence[Path], prompt_column: str = "prompt", answer_column: str = "answer"
) -> list[Match]:
    """All pairs of answers, by seed, then in the order of the red file.

    Raises:
        DataError: rows that cannot be read, or prompts that are not the same in every file; all at once.
    """
    if len(red) != len(blue) and 1 not in (len(red), len(blue)):
        rule = "seeds are paired one to one, or one file stands against all of the other model's"
        raise DataError(f"--red names {len(red)} files and --blue {len(blue)}; {rule}; name as many of each")
    columns = (prompt_column, answer_column)
    read = {path: _read(path, *columns) for path in dict.fromkeys([*red, *blue])}
    problems = [line for path in read for line in _differences(read[red[0]], read[path])]
    if problems:
        raise DataError(problems)
    count = max(len(red), len(blue))
    sides = [
        [read[path] for path in (list(paths) * count if len(paths) == 1 else paths)] for paths in (red, blue)
    ]
    return [
        Match(seed, prompt, number, one, two)
        for seed, (left, right) in enumerate(zip(*sides, strict=True), 1)
        for prompt, held in left.by_prompt.items()
        for number, ((one, _), (two, _)) in enumerate(zip(held, right.by_prompt[prompt], strict=True), 1)
    ]


def _read(path: Path, prompt_column: str, answer_column: str) -> _Answers:
    problems: list[str] = []
    by_prompt: dict[str, list[tuple[str, str]]] = {}
    for row in rows(path):
        prompt = text(row, prompt_column, problems)
        # An empty answer is an answer; only a missing one is not.
        answer = text(row, answer_column, problems, blank=True)
        by_prompt.setdefault(prompt, []).append((answer, row.place))
    if problems:
        raise DataError(problems)
    return _Answers(path, by_prompt)


def _differences(first: _Answers, other: _Answers) -> list[str]:
    """What keeps two files from being answers to the same prompts."""
    problems = []
    for here, there in ((first, other), (other, first)):
        for prompt, held in here.by_prompt.items():
            if prompt not in there.by_prompt:
                rule = f"{there.path} has no answer to it; both need the same prompts"
                problems.append(f"{held[0][1]}: prompt is {_quote(prompt)}; {rule}; add or remove it")
    for prompt, held in other.by_prompt.items():
        wanted = len(first.by_prompt.get(prompt, held))
        if len(held) != wanted:
            rule = f"{first.path} has {wanted}; both need as many"
            problems.append(f"{held[-1][1]}: prompt {_quote(prompt)} has {len(held)} answers; {rule}")
    return problems


def _quote(prompt: str) -> str:
    words = " ".join(prompt.split())
    return f'"{words}"' if len(words) <= 60 else f'"{words[:59]}…"'
