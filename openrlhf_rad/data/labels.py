"""Answers that people labelled for harm: scores, flags or pairs, in the shapes of their publishers.

What a cost is fitted to (``rad cost fit``) and checked by (``rad cost check``). Harm is counted from 0 to 1.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from openrlhf_rad.data.load import open_source, shaped_rows
from openrlhf_rad.data.records import MISSING, cell, prompt_of, text, word
from openrlhf_rad.data.shapes import SAFETY, Shape
from openrlhf_rad.errors import DataError, did_you_mean
from openrlhf_rad.harm import read_labels
from openrlhf_rad.tables import Row, finite, named_columns, shown

#: Answers to one prompt are a pair where their harm differs by at least this.
GAP = 0.25
#: Harm from which an answer counts as harmful where answers are parted in two.
HALF = 0.5
#: What a cost was fitted to, and what it is worth: a file beside its checkpoint.
REPORT = "cost.json"
#: Role → names under which its column is looked for. A column ``label`` mostly speaks of prompts.
NAMES: Mapping[str, tuple[str, ...]] = {
    "prompt": ("prompt", "input", "question"),
    "answer": ("answer", "response", "output", "completion", "generation"),
    "score": ("score", "harm", "harm_score", "human_score", "rating", "severity"),
    "label": ("is_safe", "safe", "is_harmful", "harmful", "is_unsafe", "unsafe", "toxic"),
    "cost": (),
}


@dataclass(frozen=True)
class Example:
    """One answer.

    Attributes:
        harm: in [0, 1]; None where people said of it only whether it is worse than another.
        kind: ``human``, or the kind of a weak label (:mod:`openrlhf_rad.data.weak`).
        cost: of a table that holds costs too.
    """

    prompt: str
    answer: str
    harm: float | None
    kind: str = "human"
    cost: float | None = None


@dataclass(frozen=True)
class Labels:
    """Labelled answers, each once.

    Attributes:
        order: indices (worse, better) of pairs that people compared as such.
    """

    examples: Sequence[Example]
    order: Sequence[tuple[int, int]] = field(default_factory=tuple)

    @cached_property
    def pairs(self) -> list[tuple[int, int]]:
        """Indices (worse, better): those people compared, and answers to one prompt of different harm."""
        groups: dict[str, list[int]] = {}
        for i, example in enumerate(self.examples):
            if example.harm is not None:
                groups.setdefault(example.prompt, []).append(i)
        harm = [0.0 if one.harm is None else one.harm for one in self.examples]
        graded = [
            (i, j) for group in groups.values() for i in group for j in group if harm[i] - harm[j] >= GAP
        ]
        return list(dict.fromkeys([*self.order, *graded]))

    def where(self, kept: Sequence[int]) -> Labels:
        """Some of the answers, in that order, with the pairs whose answers are both kept."""
        place = {int(old): new for new, old in enumerate(kept)}
        order = [(place[i], place[j]) for i, j in self.order if i in place and j in place]
        return Labels([self.examples[i] for i in place], order)


class _Gathered:
    """Answers as they come, each once; the harm of an answer that is met again is averaged."""

    def __init__(self) -> None:
        self.place: dict[tuple[str, str], int] = {}
        self.harms: list[list[float]] = []
        self.costs: list[float | None] = []
        self.order: list[tuple[int, int]] = []

    def take(self, prompt: str, answer: str, harm: float | None, cost: float | None = None) -> int:
        """The index of an answer."""
        index = self.place.setdefault((prompt, answer), len(self.harms))
        if index == len(self.harms):
            self.harms.append([])
            self.costs.append(cost)
        if harm is not None:
            self.harms[index].append(harm)
        return index

    def labels(self) -> Labels:
        """All of them."""
        means = [sum(held) / len(held) if held else None for held in self.harms]
        examples = [
            Example(prompt, answer, harm, cost=cost)
            for (prompt, answer), harm, cost in zip(self.place, means, self.costs, strict=True)
        ]
        return Labels(examples, list(dict.fromkeys(self.order)))


def digest(prompt: str) -> str:
    """By what a prompt is known again without its text."""
    return hashlib.blake2b(prompt.encode(errors="replace"), digest_size=8).hexdigest()


def label_columns(words: Iterable[str]) -> dict[str, str]:
    """Read ``score=harm``, ``score=-safety``, ``label=is_safe``. Raises ConfigError with every fault."""
    return named_columns(words, NAMES, "score=harm")


def load_labels(
    source: str | Path,
    *,
    columns: Mapping[str, str] | None = None,
    harmful: str | None = None,
    scale: tuple[float, float] | None = None,
    shape: str | None = None,
    where: Mapping[str, str] | None = None,
    config: str | None = None,
    split: str | None = None,
) -> Labels:
    """The labelled answers of a table, a short name or a data set of a hub.

    Args:
        columns: role of :data:`NAMES` → column, where it has another name; of a score or a cost ``-x`` and
            ``1-x`` turn x round.
        harmful: the word of the labels' column that means harmful.
        scale: the scores that mean harmless and most harmful; by default the least and the largest seen.
        shape, where, config, split: as :func:`~openrlhf_rad.data.load.load_prompts`.

    Raises:
        DataError: with every bad row: sides of a pair that are equal, scores that are not numbers, labels of
            which nobody knows which is harmful, or that are all the same.
        EnvironmentProblem: the hub, or a package that reads it, is not there.
    """
    named = dict(columns or {})
    problems: list[str] = []
    held = _Gathered()
    scores = _Scores(scale)
    flags: list[tuple[int, str]] = []
    of_flags = ""
    count = 0
    plain = named.get("prompt")
    for _, row, reader in shaped_rows(open_source(source, config, split), shape, plain, where):
        count += 1
        if reader.answers is not None and not {"answer", "score", "label"} & named.keys():
            _published(row, reader, held, problems)
            continue
        if reader.pair is not None and "answer" not in named:
            _pair(row, reader, held, problems)
            continue
        role, column = _labelled_by(row, named)
        answer_column = _found(row, "answer", named)
        prompt = prompt_of(row, plain or reader.needs[0], problems)[0]
        answer = text(row, answer_column, problems, blank=True)
        cost = _number(row, named["cost"], problems) if "cost" in named else None
        index = held.take(prompt, answer, None, cost)
        if role == "score":
            scores.take(index, _number(row, column, problems))
        else:
            of_flags = column
            flags.append((index, word(row, column, problems)))
    _settle(flags, of_flags, harmful, held)
    scores.settle(held, problems)
    if problems:
        raise DataError(problems)
    if not count:
        asked = ", ".join(f"{column}={value}" for column, value in (where or {}).items())
        raise DataError(f"{source}: no row has {asked}; check the value")
    found = held.labels()
    _refuse_constant(found, source)
    return found


class _Scores:
    """Scores, put on the scale from 0 to 1 once all are known."""

    def __init__(self, scale: tuple[float, float] | None) -> None:
        self._scale = scale
        self._taken: list[tuple[int, float]] = []

    def take(self, index: int, value: float | None) -> None:
        if value is not None:
            self._taken.append((index, value))

    def settle(self, held: _Gathered, problems: list[str]) -> None:
        """Give every answer its harm."""
        if not self._taken:
            return
        seen = [value for _, value in self._taken]
        low, high = self._scale or (min(seen), max(seen))
        outside = [value for value in seen if not low <= value <= high]
        if outside:
            problems.append(
                f"--scale is {low:g},{high:g} and {len(outside)} of {len(seen)} scores lie outside, the first"
                f" is {outside[0]:g}; name the scores that mean harmless and most harmful"
            )
        for index, value in self._taken:
            held.harms[index].append((value - low) / (high - low) if high > low else 0.0)


def _published(row: Row, reader: Shape, held: _Gathered, problems: list[str]) -> None:
    """A row of BeaverTails or PKU-SafeRLHF: flags of its answers, and a pair where it holds one."""
    assert reader.answers is not None
    prompt = prompt_of(row, "prompt", problems)[0]
    for answer, harm in reader.answers(row, problems):
        held.take(prompt, answer, harm)
    if reader.pair is not None:
        _pair(row, reader, held, problems)


def _pair(row: Row, reader: Shape, held: _Gathered, problems: list[str]) -> None:
    assert reader.pair is not None
    before = len(problems)
    pair = reader.pair(row, SAFETY, problems)
    if len(problems) > before:
        return
    if pair.chosen == pair.rejected:
        problems.append(f"{row.place}: {EQUAL_SIDES}")
        return
    worse, better = (held.take(pair.prompt, answer, None) for answer in (pair.rejected, pair.chosen))
    held.order.append((worse, better))


#: What is said of a pair that says nothing.
EQUAL_SIDES = "both answers of the pair are the same, so that it cannot say which is worse; remove the row"


def _labelled_by(row: Row, named: Mapping[str, str]) -> tuple[str, str]:
    """Whether rows are labelled by score or by flag, and the column. Raises DataError where by neither."""
    for role in ("score", "label"):
        if role in named:
            return role, _found(row, role, named)
    for role in ("score", "label"):
        for name in NAMES[role]:
            if cell(row, name) is not MISSING:
                return role, name
    raise DataError(
        f"{row.place}: nothing says how harmful the answer is; the row holds {', '.join(row.values)}; name"
        " its scores by --column score=NAME, or its flags by --column label=NAME"
    )


def _found(row: Row, role: str, named: Mapping[str, str]) -> str:
    """The column of a role. Raises DataError where the row has none."""
    names = (named[role],) if role in named else NAMES[role]
    for name in names:
        if cell(row, _plain(name)) is not MISSING:
            return name
    hint = did_you_mean(names[0], list(row.values)) or f"name it by --column {role}=NAME"
    raise DataError(
        f"{row.place}: column {_plain(names[0])} is missing; the row holds {', '.join(row.values)}; {hint}"
    )


def _plain(column: str) -> str:
    """The column behind ``-x`` and ``1-x``."""
    return column.removeprefix("1-").removeprefix("-")


def _number(row: Row, column: str, problems: list[str]) -> float | None:
    """The finite number in a column, turned round where its name says so; notes a problem else."""
    raw = cell(row, _plain(column))
    value: float | None = float(raw) if isinstance(raw, bool) else finite(raw, text=True)
    if value is None:
        said = "missing" if raw is MISSING else shown(raw)
        problems.append(f"{row.place}: {_plain(column)} is {said}; it must be a finite number; mend the row")
        return None
    whole = 1.0 if column.startswith("1-") else 0.0
    return value if _plain(column) == column else whole - value


def _settle(flags: Sequence[tuple[int, str]], column: str, harmful: str | None, held: _Gathered) -> None:
    """Give every flagged answer its harm. Raises DataError where nobody knows which word means harm."""
    if not flags:
        return
    found = read_labels(column, {name for _, name in flags}, harmful)
    unclear = sorted(name for name, code in found.taken.items() if code < 0)
    if unclear:
        reason = found.reason or f"{column} holds {unclear[0]!r}, neither harmful nor safe"
        raise DataError(reason if "--harmful" in reason else f"{reason}; name the harmful one with --harmful")
    for index, name in flags:
        held.harms[index].append(float(found.taken[name]))


def _refuse_constant(labels: Labels, source: str | Path) -> None:
    harms = {example.harm for example in labels.examples if example.harm is not None}
    if len(harms) == 1 and not labels.order:
        (only,) = harms
        said = {0.0: "harmless", 1.0: "harmful"}.get(only, f"{only:g}")
        raise DataError(
            f"{source}: all {len(labels.examples)} answers are labelled {said}; nothing can be learned or"
            " checked by labels that are all the same; add answers of the other kind"
        )
