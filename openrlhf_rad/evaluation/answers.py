"""The scores of models' answers as compact arrays, checked row by row; the texts stay in their file."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from openrlhf_rad.errors import DataError
from openrlhf_rad.evaluation.columns import Columns, CostColumn
from openrlhf_rad.evaluation.constraints import SINGLE, Costs
from openrlhf_rad.harm import LabelWords, examples, read_labels, refused
from openrlhf_rad.naming import cost_roles
from openrlhf_rad.tables import Batch, batches, column_names, finite, numbers_are_texts, pick, place, shown
from openrlhf_rad.tables.formats import as_text

Array = NDArray[np.float64]
#: Problems of one file that are told; the others are counted.
_TOLD = 5


@dataclass(frozen=True)
class ScoredAnswers:
    """Scored answers in the order of their file.

    Attributes:
        path, columns: where the texts are.
        row_b: index of each answer in its file, from 0.
        line_b: its line, from 1, for messages.
        prompt_b: a 64-bit digest of each prompt.
        sample_b: which of a prompt's answers it is; without columns ``sample`` and ``seed`` all 0.
        reward_b: higher is better; None when the file has none.
        segment_b: index into ``segments``, −1 for none.
        costs: constraint → cost_b, the first constraint's first; higher is more harmful.
        used: role → the column that plays it, a cost's perhaps turned round.
        label_b: 1 harmful, 0 safe, −1 not labelled: of the answer, or of its prompt.
        refused_b: whether the answer is empty or refuses; None where there are no labels, or no texts.
        labels: what the labels were taken for; None where there is no such column.
        examples: (line, cost of the first constraint, label, 1 or 0) of up to three answers, both kinds among
            them.
    """

    path: Path
    columns: Columns
    row_b: NDArray[np.int64]
    line_b: NDArray[np.int64]
    prompt_b: NDArray[np.uint64]
    sample_b: NDArray[np.int64]
    reward_b: Array | None
    segment_b: NDArray[np.int32]
    segments: tuple[str, ...]
    costs: Mapping[str, Array]
    used: Mapping[str, str]
    label_b: NDArray[np.int8]
    refused_b: NDArray[np.bool_] | None
    labels: LabelWords | None
    examples: Sequence[tuple[int, float, str, int]] = ()

    @property
    def order(self) -> NDArray[np.intp]:
        """The answers by prompt, then by sample: what pairs those of several models."""
        order: NDArray[np.intp] = np.lexsort((self.sample_b, self.prompt_b))
        return order

    @property
    def harmful_b(self) -> NDArray[np.int8]:
        """``label_b`` of the answer: a refusal of a harmful prompt is no harm, and may cost the least."""
        if self.refused_b is None:
            return self.label_b
        return np.where(self.refused_b & (self.label_b == 1), np.int8(-1), self.label_b)

    @property
    def cost_b(self) -> Array:
        """The costs of the first constraint."""
        return next(iter(self.costs.values()))

    def texts(self, rows: Sequence[int], *roles: str) -> list[list[Any]]:
        """The values of some roles for rows of the file; None where it lacks the column."""
        names = [self.columns.find(role, column_names(self.path)) for role in roles]
        found = pick(self.path, rows, [name for name in names if name])
        return [[row.get(name) if name else None for name in names] for row in found]

    def prompt_text(self, index: int) -> str:
        """The prompt of answer ``index``, shortened, with its place and column, for a message."""
        text = str(self.texts([int(self.row_b[index])], "prompt")[0][0])
        column = self.columns.find("prompt", column_names(self.path))
        return f"{place(self.path, int(self.line_b[index]))}: {column} {shown(text)}"


def read_answers(
    path: Path,
    columns: Columns,
    model: str | None = None,
    costs: Costs = SINGLE,
    *,
    paired: bool = True,
) -> ScoredAnswers:
    """Read a table of scored answers, streamed.

    Args:
        model: of a table that holds several models (column ``model``), the one to keep.
        costs: those to read, one a constraint.
        paired: whether every row needs its prompt; else one without stands for itself.

    Raises:
        DataError: every problem found, each with file, line and column.
    """
    held = column_names(path)
    found = {role: columns.find(role, held) for role in ("prompt", "reward", "segment")}
    found |= {role: columns.find(role, held) for role in ("model", "seed", "sample")}
    if label := columns.find("label", held):
        # Texts are read only to tell refusals from harm.
        found |= {"label": label, "answer": columns.find("answer", held)}
    roles = cost_roles(costs)
    taken = {roles[name]: columns.find_cost(cost, held) for name, cost in costs.items()}
    price = {role: column.name if column else None for role, column in taken.items()}
    wanted = {role: columns.wanted_cost(name, costs) for name, role in roles.items()}
    wanted |= {role: columns.wanted(role) for role in found}
    problems = [
        f"{place(path, 1)}: the column {wanted[role]} is missing, the columns are {', '.join(held)};"
        f" add it, or name the column by --column {role}=NAME"
        for role, name in {"prompt": found["prompt"], **price}.items()
        if name is None and (paired or role != "prompt" or "prompt" in columns.renamed)
    ]
    if problems:
        raise DataError("\n".join(problems))
    names = {role: name or wanted[role] for role, name in {**found, **price}.items()}
    reader = _Reader(
        path,
        names,
        {role: column for role, column in taken.items() if column},
        model,
        columns.harmful,
        paired=paired,
    )
    seen: set[str] = set()
    for batch in batches(path, list(dict.fromkeys(names.values()))):
        reader.take(batch)
        seen.update(batch.columns)
    renamed = {
        role: names.get(role, word)
        for role, word in columns.renamed.items()
        if role in names or role == "answer"
    }
    _refuse_typos(path, renamed, seen | set(held), held)
    used = {role: str(taken.get(role) or name) for role, name in names.items() if name in seen}
    return reader.finish(columns, roles, used)


def _refuse_typos(path: Path, renamed: Mapping[str, str], seen: set[str], held: Sequence[str]) -> None:
    """A column that the user names and no row has would be left out without a word."""
    problems = [
        f"{place(path, 1)}: the column {name} of --column {role}={name} is missing, the columns are"
        f" {', '.join(held)}; name one of them, or leave the option out"
        for role, name in renamed.items()
        if name not in seen
    ]
    if problems:
        raise DataError("\n".join(problems))


class _Reader:
    """Collects batches; bad values are noted and told together at the end."""

    def __init__(
        self,
        path: Path,
        names: dict[str, str],
        costs: Mapping[str, CostColumn],
        model: str | None,
        harmful: str | None,
        *,
        paired: bool,
    ) -> None:
        self._path, self._names, self._model, self._harmful = path, names, model, harmful
        self._spelled, self._paired = numbers_are_texts(path), paired
        self._columns = costs
        # Constraints that share a column share its numbers, and its problems.
        self._costs = {role: next(one for one in costs if names[one] == names[role]) for role in costs}
        self._codes: dict[str, dict[str, int]] = {"segment": {}, "seed": {}, "sample": {}, "label": {}}
        roles = (*names, *self._codes, "row", "line", "refused")
        self._parts: dict[str, list[Any]] = {role: [] for role in roles}
        self._problems: list[str] = []
        self._bad = 0
        self._first = 0
        self._models: set[Any] = set()

    def take(self, batch: Batch) -> None:
        line_b = np.asarray(batch.lines, dtype=np.int64)
        row_b = np.arange(self._first, self._first + line_b.size)
        self._first += line_b.size
        keep = self._keep(batch, line_b.size)
        self._put("row", row_b, keep)
        self._put("line", line_b, keep)
        self._put("prompt", self._prompts(batch, line_b, row_b), keep)
        for role in (*dict.fromkeys(self._costs.values()), "reward"):
            self._put(role, self._numbers(role, batch, line_b, keep), keep)
        for role, codes in self._codes.items():
            self._put(role, self._coded(role, batch, codes, line_b.size), keep)
        self._put("refused", self._refused(batch, line_b.size), keep)

    def finish(self, columns: Columns, roles: Mapping[str, str], used: Mapping[str, str]) -> ScoredAnswers:
        part = {role: np.concatenate(held) for role, held in self._parts.items() if held}
        reward_b: Array | None = part["reward"]
        missing = np.flatnonzero(np.isnan(part["reward"]))
        if missing.size == part["reward"].size:
            reward_b = None
        elif missing.size:
            line = int(part["line"][missing[0]])
            self._note(line, f"{self._names['reward']} is missing, as in {missing.size - 1} other rows")
        if self._bad:
            more = [f"{self._path}: {self._bad - _TOLD} more such problems"] if self._bad > _TOLD else []
            raise DataError("\n".join([*self._problems, *more]))
        if self._model is None and len(self._models) > 1:
            raise DataError(
                f"{self._path}: the column {self._names['model']} holds the models"
                f" {', '.join(sorted(map(str, self._models)))}; answers of several models are no distribution"
                " of one; name the one that is meant by --model"
            )
        if not part["row"].size:
            raise DataError(
                f"{self._path}: no row has {self._names['model']} {self._model}; the file holds"
                f" {', '.join(sorted(map(str, self._models)))}; name one of them"
            )
        sample_b = part["seed"] * (len(self._codes["sample"]) + 1) + part["sample"]
        costs = {role: column.cost(part[self._costs[role]]) for role, column in self._columns.items()}
        first, words = next(iter(costs.values())), list(self._codes["label"])
        labels, label_b = self._labels(words, part["label"])
        texts = labels is not None and "answer" in used
        answers = ScoredAnswers(
            self._path,
            columns,
            part["row"],
            part["line"],
            part["prompt"],
            sample_b,
            reward_b,
            part["segment"].astype(np.int32) - 1,
            tuple(map(str, self._codes["segment"])),
            {name: costs[role] for name, role in roles.items()},
            used,
            label_b,
            part["refused"] if texts else None,
            labels,
        )
        shown = [
            (int(part["line"][i]), float(first[i]), words[part["label"][i] - 1], int(label_b[i]))
            for i in examples(answers.harmful_b)
        ]
        answers = replace(answers, examples=shown)
        _refuse_duplicates(answers, bool(self._codes["sample"] or self._codes["seed"]))
        return answers

    def _put(self, role: str, values: NDArray[Any], keep: NDArray[np.bool_] | None) -> None:
        self._parts[role].append(values if keep is None else values[keep])

    def _keep(self, batch: Batch, size: int) -> NDArray[np.bool_] | None:
        """Which rows belong to the model; all while the file holds one model only."""
        held = batch.columns.get(self._names["model"])
        if held is None:
            return None
        model_b = _plain(held)
        self._models.update(model_b)
        if self._model is None:
            return None
        return np.fromiter((str(name) == self._model for name in model_b), bool, size)

    def _prompts(
        self, batch: Batch, line_b: NDArray[np.int64], row_b: NDArray[np.int64]
    ) -> NDArray[np.uint64]:
        held = batch.columns.get(self._names["prompt"])
        texts = [None] * line_b.size if held is None else _plain(held)
        digests = []
        for text, line, row in zip(texts, line_b, row_b, strict=True):
            whose = f"prompt {text}"
            if text is None or text == "":
                whose = f"row {row}"
                if self._paired:
                    missing = f"{self._names['prompt']} is missing; every answer needs its prompt"
                    self._note(int(line), missing)
            digests.append(hashlib.blake2b(whose.encode(errors="replace"), digest_size=8).digest())
        return np.frombuffer(b"".join(digests), dtype=np.uint64)

    def _numbers(
        self, role: str, batch: Batch, line_b: NDArray[np.int64], keep: NDArray[np.bool_] | None
    ) -> Array:
        """The values of a numeric column; NaN for a missing reward; what else is not a number is told."""
        name = self._names[role]
        held = batch.columns.get(name)
        if held is None:
            held = [None] * line_b.size
        value_b = _fast(held)
        if value_b is not None and np.isfinite(value_b).all():
            return value_b
        found = np.full(line_b.size, np.nan)
        for i, value in enumerate(_plain(held)):
            if keep is not None and not keep[i]:
                continue
            if value is None or value == "":
                if role != "reward":
                    self._note(int(line_b[i]), f"{name} is missing; every answer needs a cost")
                continue
            number = finite(value, text=self._spelled)
            if number is None:
                self._note(int(line_b[i]), f"{name} is {shown(value)}; it must be a finite number")
            # A bad value is told and the file refused; only a gap is left as NaN, to be told apart.
            found[i] = 0.0 if number is None else number
        return found

    def _coded(self, role: str, batch: Batch, codes: dict[Any, int], size: int) -> NDArray[np.int64]:
        """Values as numbers from 1, 0 for none."""
        held = batch.columns.get(self._names.get(role, ""))
        if held is None:
            return np.zeros(size, dtype=np.int64)
        values = (as_text(value) for value in _plain(held))
        coded = (0 if not value else codes.setdefault(value, len(codes) + 1) for value in values)
        return np.fromiter(coded, np.int64, size)

    def _refused(self, batch: Batch, size: int) -> NDArray[np.bool_]:
        """Which answers are empty or refuse, where there are labels to read and texts to read them by."""
        held = batch.columns.get(self._names.get("answer", ""))
        if held is None:
            return np.zeros(size, dtype=bool)
        return np.fromiter((isinstance(text, str) and refused(text) for text in _plain(held)), bool, size)

    def _labels(
        self, words: Sequence[str], word_b: NDArray[np.int64]
    ) -> tuple[LabelWords | None, NDArray[np.int8]]:
        """What the labels say, in all and of each answer."""
        none_b = np.full(word_b.size, -1, dtype=np.int8)
        if not words:
            return None, none_b
        labels = read_labels(self._names["label"], words, self._harmful)
        code_k = np.array([-1, *(labels.taken[word] for word in words)], dtype=np.int8)
        return labels, none_b if labels.reason else code_k[word_b]

    def _note(self, line: int, text: str) -> None:
        self._bad += 1
        if len(self._problems) < _TOLD:
            self._problems.append(f"{place(self._path, line)}: {text}; mend the row or remove it")


def _refuse_duplicates(answers: ScoredAnswers, numbered: bool) -> None:
    """Raise DataError where two rows are the same sample of the same prompt; unnumbered ones may be many."""
    if not numbered:
        return
    order = np.lexsort((answers.sample_b, answers.prompt_b))
    same = (np.diff(answers.prompt_b[order]) == 0) & (np.diff(answers.sample_b[order]) == 0)
    if same.any():
        first, second = order[np.flatnonzero(same)[0] :][:2]
        raise DataError(
            f"{place(answers.path, int(answers.line_b[second]))}: the same prompt and sample stand in row"
            f" {int(answers.line_b[first])} already, and {int(same.sum()) - 1} other rows repeat one too; a"
            " sample of a prompt may appear once; remove the repeats, or number the samples"
        )


def _plain(held: Any) -> list[Any]:
    """A column as a list of Python values."""
    return held.to_pylist() if hasattr(held, "to_pylist") else list(held)


def _fast(held: Any) -> Array | None:
    """A numeric Parquet column, or a list of floats, as an array; None where values need a closer look."""
    if hasattr(held, "to_pylist"):
        kind = str(held.type)
        if held.null_count or not kind.startswith(("int", "uint", "float", "double", "halffloat")):
            return None
        return np.asarray(held.to_numpy(zero_copy_only=False), dtype=np.float64)
    return np.array(held, dtype=np.float64) if all(type(value) is float for value in held) else None
