"""Two models' answers to the same prompts, as pairs.

The k-th answer to a prompt in a red file is paired with the k-th in the blue one. Several files of a model
are its seeds; one file against several stands against each of them. Of a table that holds several models the
rows of one are taken, which is named; never all of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from openrlhf_rad.data.records import prompt_of, text, word
from openrlhf_rad.errors import DataError
from openrlhf_rad.evaluation.columns import Columns
from openrlhf_rad.tables import column_names, rows

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
class Source:
    """A file of answers, and the model whose rows are meant where it holds several; None for its only one."""

    path: Path
    model: str | None = None


@dataclass(frozen=True)
class _Answers:
    """One source: prompt → (answer, place) in the file's order."""

    path: Path
    by_prompt: dict[str, list[tuple[str, str]]]


def find(names: Sequence[str], evaluation: Path | None) -> list[Source]:
    """What is named: FILE, MODEL=FILE, or a model of an evaluation's ``answers/``. Raises DataError."""
    found = []
    for name in names:
        model, equals, file = name.partition("=")
        path, chosen = (Path(file), model) if equals and not Path(name).is_file() else (Path(name), None)
        if evaluation is not None and not path.is_file():
            files = [evaluation / "answers" / f"{path}{suffix}" for suffix in _FORMATS]
            wanted, path = path, next((file for file in files if file.is_file()), files[0])
            if not path.is_file():
                there = sorted(file.stem for file in (evaluation / "answers").glob("*") if file.is_file())
                held = f"it holds {', '.join(there)}" if there else "it holds no answers"
                raise DataError(f"{evaluation}: no answers of {wanted}; {held}; check the name or the folder")
        found.append(Source(path, chosen))
    return found


def pair(red: Sequence[Source], blue: Sequence[Source], columns: Columns | None = None) -> list[Match]:
    """All pairs of answers, by seed, then in the order of the red file.

    Raises:
        DataError: rows that cannot be read, or prompts that are not the same in every file; all at once.
    """
    if len(red) != len(blue) and 1 not in (len(red), len(blue)):
        rule = "seeds are paired one to one, or one file stands against all of the other model's"
        raise DataError(f"--red names {len(red)} files and --blue {len(blue)}; {rule}; name as many of each")
    read = {source: _read(source, columns or Columns()) for source in dict.fromkeys([*red, *blue])}
    problems = [line for source in read for line in _differences(read[red[0]], read[source])]
    if problems:
        raise DataError(problems)
    count = max(len(red), len(blue))
    sides = [
        [read[source] for source in (list(held) * count if len(held) == 1 else held)] for held in (red, blue)
    ]
    return [
        Match(seed, prompt, number, one, two)
        for seed, (left, right) in enumerate(zip(*sides, strict=True), 1)
        for prompt, held in left.by_prompt.items()
        for number, ((one, _), (two, _)) in enumerate(zip(held, right.by_prompt[prompt], strict=True), 1)
    ]


def _read(source: Source, columns: Columns) -> _Answers:
    held = column_names(source.path)
    prompt, answer = (columns.find(role, held) or columns.wanted(role) for role in ("prompt", "answer"))
    model = columns.find("model", held)
    if model is None and "model" in columns.renamed:
        wanted = columns.renamed["model"]
        raise DataError(f"{source.path}: there is no column {wanted}; the columns are {', '.join(held)}")
    problems: list[str] = []
    models: dict[str, None] = {}
    by_prompt: dict[str, list[tuple[str, str]]] = {}
    for row in rows(source.path):
        if model is not None:
            models.setdefault(name := word(row, model, problems))
            if source.model is not None and name != source.model:
                continue
        asked, _ = prompt_of(row, prompt, problems)
        # An empty answer is an answer; only a missing one is not.
        by_prompt.setdefault(asked, []).append((text(row, answer, problems, blank=True), row.place))
    if source.model is None and len(models) > 1:
        problems.insert(
            0,
            f"{source.path}: the column {model} names {_listed(models)}; the answers of one are to be judged;"
            f" name it, for instance --red {next(iter(models))}={source.path}",
        )
    if problems:
        raise DataError(problems)
    if not by_prompt:
        raise DataError(
            f"{source.path}: no row has {model} {source.model}; the file holds {_listed(models)}; name one of"
            " them"
        )
    return _Answers(source.path, by_prompt)


def _listed(models: Iterable[str]) -> str:
    return ", ".join(name or "none" for name in models)


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
