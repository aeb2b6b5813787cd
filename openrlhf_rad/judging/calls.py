"""The requests: answers to the same prompts as pairs, the judging prompt, both orders of each pair.

The k-th answer to a prompt in a file of the baseline is paired with the k-th in the candidate's. Several
files of a model are its seeds; one file against several stands against each of them. Of a table that holds
several models the rows of one are taken, which is named; never all of them.

Each request is known by a hash of all that its reply depends on.

The prompt is a text file with the placeholders {prompt}, {answer_a}, {answer_b} and {format}. A placeholder
is a name in braces; any other brace stands for itself, so that a file may show JSON. All are filled in one
pass: what an answer holds is never taken for a placeholder.
"""

from __future__ import annotations

import hashlib
import importlib.resources
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from openrlhf_rad.data.records import prompt_of, text, word
from openrlhf_rad.errors import DataError, did_you_mean
from openrlhf_rad.evaluation.columns import Columns
from openrlhf_rad.judging.verdict import FORMS, VerdictForm
from openrlhf_rad.tables import column_names, rows

NEEDED = ("prompt", "answer_a", "answer_b")
_PLACEHOLDER = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")


@dataclass(frozen=True)
class JudgingPrompt:
    """A checked judging prompt, and where it came from."""

    text: str
    source: str

    @property
    def sha256(self) -> str:
        """Tells two prompts apart in results."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    def render(self, **values: str) -> str:
        """The text that the judge reads; ``format`` says how to write the verdict."""
        return _PLACEHOLDER.sub(lambda match: values[match[1]], self.text)


def load_judging_prompt(
    path: Path | None = None, shipped: str = "prompt.txt", needed: Sequence[str] = NEEDED
) -> JudgingPrompt:
    """The prompt of a file, or a shipped one. Raises DataError with every fault of the file.

    Args:
        needed: the placeholders that it must have; it may have ``{format}`` besides.
    """
    if path is None:
        text = importlib.resources.files("openrlhf_rad.judging").joinpath(shipped).read_text(encoding="utf-8")
        return JudgingPrompt(text, f"{shipped} as shipped")
    try:
        content = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise DataError(f"{path}: there is no such file; check the path") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: byte {error.start} is not UTF-8; save the file as UTF-8") from None
    except OSError as error:
        raise DataError(f"{path}: it cannot be read ({error.strerror}); check path and rights") from None
    problems = _problems(content, str(path), needed)
    if problems:
        raise DataError(problems)
    return JudgingPrompt(content, str(path))


def _problems(content: str, source: str, needed: Sequence[str]) -> list[str]:
    problems, seen, places = [], set(), (*needed, "format")
    for number, line in enumerate(content.splitlines(), 1):
        for match in _PLACEHOLDER.finditer(line):
            seen.add(match[1])
            if match[1] not in places:
                known = ", ".join(f"{{{name}}}" for name in places)
                hint = did_you_mean(match[1], places) or "remove it"
                place = f"{source}:{number}:{match.start() + 1}"
                problems.append(f"{place}: {match[0]} is not a placeholder; they are {known}; {hint}")
    absent = [f"{{{name}}}" for name in needed if name not in seen]
    if absent:
        problems.append(
            f"{source}: {', '.join(absent)} is missing; the judge must see it; add it to the text"
        )
    return problems


#: Rough, for English; encodings that count exactly are not on every machine and differ between models.
BYTES_A_TOKEN = 4


@dataclass(frozen=True)
class Judge:
    """Who judges, and how it is asked. The key is not here: nothing of this is secret.

    Attributes:
        request: keys put into each request's body last; None leaves one out.
    """

    model: str
    base_url: str
    prompt: JudgingPrompt
    form: str = "line"
    temperature: float = 0.0
    max_tokens: int = 1024
    response_format: bool = True
    request: Mapping[str, Any] = field(default_factory=dict)

    @property
    def reads(self) -> VerdictForm:
        """How verdicts are written and read."""
        return FORMS[self.form]

    def body(self, match: Match, *, candidate_first: bool) -> dict[str, Any]:
        """The JSON of one request."""
        first, second = (
            (match.candidate, match.baseline) if candidate_first else (match.baseline, match.candidate)
        )
        content = self.prompt.render(
            prompt=match.prompt, answer_a=first, answer_b=second, format=self.reads.instruction
        )
        body: dict[str, Any] = {
            "model": self.model,
            "messages": [{"role": "user", "content": content}],
            "temperature": self.temperature,
            "max_tokens": self.max_tokens,
        }
        if self.reads.response_format and self.response_format:
            body["response_format"] = self.reads.response_format
        body |= self.request
        return {key: value for key, value in body.items() if value is not None}


@dataclass(frozen=True, slots=True)
class Call:
    """One request: a pair in one order.

    Attributes:
        key: hash of the address and the whole body, so of model, prompt, both answers, order and temperature.
        size: of the body's texts in bytes.
    """

    match: Match
    candidate_first: bool
    key: str
    size: int


def plan(judge: Judge, matches: Iterable[Match]) -> list[Call]:
    """Both orders of every pair; equal answers are a tie that nobody need be asked about."""
    return [
        _call(judge, match, candidate_first)
        for match in matches
        if match.baseline != match.candidate
        for candidate_first in (False, True)
    ]


def _call(judge: Judge, match: Match, candidate_first: bool) -> Call:
    body = judge.body(match, candidate_first=candidate_first)
    size = sum(len(message["content"].encode()) for message in body["messages"])
    return Call(match, candidate_first, request_key(judge.base_url, body), size)


def request_key(base_url: str, body: Mapping[str, Any]) -> str:
    """A hash of the address and the whole request, by which its reply is kept."""
    exact = json.dumps([base_url, body], sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(exact.encode()).hexdigest()


@dataclass(frozen=True)
class CallEstimate:
    """What asking will cost at most: an estimate of the tokens in, a bound of the tokens out.

    Attributes:
        cached: replies that are there already. price: in the unit of the prices; None where none were given.
    """

    calls: int
    cached: int
    tokens_in: int
    tokens_out: int
    price: float | None

    @property
    def sentence(self) -> str:
        """For the terminal."""
        there = f" ({self.cached:,} more are in the cache)" if self.cached else ""
        price = "" if self.price is None else f": at most about {self.price:,.2f} at the prices given"
        return (
            f"{self.calls:,} calls{there}, about {self.tokens_in:,} tokens in ({BYTES_A_TOKEN} bytes a token)"
            f" and at most {self.tokens_out:,} out{price}"
        )


def estimate(
    calls: Sequence[Call],
    there: int,
    max_tokens: int,
    price_in: float | None = None,
    price_out: float | None = None,
) -> CallEstimate:
    """The cost of the calls yet to be made; prices are for a million tokens."""
    tokens_in = sum(-(-call.size // BYTES_A_TOKEN) for call in calls)
    tokens_out = len(calls) * max_tokens
    price = None
    if price_in is not None and price_out is not None:
        price = (tokens_in * price_in + tokens_out * price_out) / 1e6
    return CallEstimate(len(calls), there, tokens_in, tokens_out, price)


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
    baseline: str
    candidate: str


@dataclass(frozen=True)
class AnswerSource:
    """A file of answers, and the model whose rows are meant where it holds several; None for its only one."""

    path: Path
    model: str | None = None


@dataclass(frozen=True)
class _Answers:
    """One source: prompt → (answer, place) in the file's order."""

    path: Path
    by_prompt: dict[str, list[tuple[str, str]]]


def find(names: Sequence[str], evaluation: Path | None) -> list[AnswerSource]:
    """What is named: FILE, MODEL=FILE, or a model of an evaluation's ``answers/``. Raises DataError."""
    sources = []
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
        sources.append(AnswerSource(path, chosen))
    return sources


def pair(
    baseline: Sequence[AnswerSource], candidate: Sequence[AnswerSource], columns: Columns | None = None
) -> list[Match]:
    """All pairs of answers, by seed, then in the order of the baseline file.

    Raises:
        DataError: rows that cannot be read, or prompts that are not the same in every file; all at once.
    """
    if len(baseline) != len(candidate) and 1 not in (len(baseline), len(candidate)):
        rule = "seeds are paired one to one, or one file stands against all of the other model's"
        raise DataError(
            f"--baseline names {len(baseline)} files and --candidate {len(candidate)}; {rule}; name as many"
            " of each"
        )
    read = {source: _read(source, columns or Columns()) for source in dict.fromkeys([*baseline, *candidate])}
    problems = [line for source in read for line in _differences(read[baseline[0]], read[source])]
    if problems:
        raise DataError(problems)
    count = max(len(baseline), len(candidate))
    sides = [
        [read[source] for source in (list(held) * count if len(held) == 1 else held)]
        for held in (baseline, candidate)
    ]
    return [
        Match(seed, prompt, number, one, two)
        for seed, (left, right) in enumerate(zip(*sides, strict=True), 1)
        for prompt, held in left.by_prompt.items()
        for number, ((one, _), (two, _)) in enumerate(zip(held, right.by_prompt[prompt], strict=True), 1)
    ]


def _read(source: AnswerSource, columns: Columns) -> _Answers:
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
            f" name it, for instance --baseline {next(iter(models))}={source.path}",
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
