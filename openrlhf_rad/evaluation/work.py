"""From sources to tables of scored answers: what is missing is generated and scored, the rest is read.

Models answer and score in processes of :mod:`openrlhf_rad.plugin.answering`, resumable.
"""

from __future__ import annotations

import hashlib
import json
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from openrlhf_rad.data.records import MISSING, cell, prompt_of, text
from openrlhf_rad.errors import ConfigError, DataError, EnvironmentProblem
from openrlhf_rad.evaluation.columns import CostColumn
from openrlhf_rad.evaluation.sources import AnswerPlan, Rating, Sampling, Source
from openrlhf_rad.files import explained, write_atomically
from openrlhf_rad.naming import cost_record
from openrlhf_rad.processes import MarkedProcess
from openrlhf_rad.progress import Show
from openrlhf_rad.tables import Row as TableRow
from openrlhf_rad.tables import column_names, finite, numbers_are_texts, place, rows, shown

#: Prompts or answers of one shard: what a kill can cost.
SHARD = 64
_POLL_SECONDS = 0.3
_LOG_LINES = 20
Row = dict[str, Any]


def generate_request(model: str, template: str | None, sampling: Sampling) -> Row:
    """A request for answers, without its paths."""
    return {"task": "generate", "model": model, "template": template, "sampling": asdict(sampling)}


def score_request(rating: Rating, template: str | None) -> Row:
    """A request for rewards or costs, without its paths."""
    return {"task": "score", **rating.plain, "template": template}


def likelihood_request(model: str, template: str | None) -> Row:
    """A request for −log π of answers under a model, without its paths."""
    return {"task": "likelihood", "model": model, "template": template}


def perform(
    what: str, request: Row, rows: Sequence[Mapping[str, Any]], folder: Path, show: Show
) -> list[Row]:
    """Do a request in a process of its own, or what is left of it, and return its rows.

    Args:
        what: for the progress bar. rows: the input of the process. folder: holds request, input and shards.

    Raises:
        ConfigError: the folder holds the work of another request. EnvironmentProblem: the process failed.
    """
    total = math.ceil(len(rows) / SHARD)
    _prepare(request, rows, folder)
    log = folder / "process.log"
    if _done(folder) < total:
        words = [sys.executable, "-m", "openrlhf_rad.plugin.answering", str(folder / "request.json")]
        (folder / "error.txt").unlink(missing_ok=True)
        process = MarkedProcess(words, log)
        try:
            while process.wait(_POLL_SECONDS) is None:
                show(what, _done(folder), total)
        finally:
            process.sweep(0.0)  # shards are written whole, so nothing is lost
        code = process.poll()
        if code or _done(folder) < total:
            raise EnvironmentProblem(_reason(what, code, folder, log))
    show(what, total, total)
    shards = [folder / f"{number:05d}.jsonl" for number in range(total)]
    return [
        json.loads(line) for path in shards for line in path.read_text(encoding="utf-8").split("\n") if line
    ]


def _prepare(request: Row, rows: Sequence[Mapping[str, Any]], folder: Path) -> None:
    """Write request and input; the same ones of an earlier call are left as they are."""
    with explained(folder, "nothing was changed"):
        folder.mkdir(parents=True, exist_ok=True)
    whole = request | {"rows": str(folder / "input.jsonl"), "out": str(folder), "shard": SHARD}
    texts = {
        "input.jsonl": "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows),
        "request.json": json.dumps(whole, indent=1, sort_keys=True, ensure_ascii=False) + "\n",
    }
    for name, content in texts.items():
        path = folder / name
        if path.exists() and path.read_text(encoding="utf-8") != content and _done(folder):
            raise ConfigError(
                f"{path}: it differs from what this command asks for ({_changed(path, content)}), and the"
                " folder holds results; a call goes on only with the same prompts and settings; name another"
                f" --out, or remove {folder}"
            )
    for name, content in texts.items():
        write_atomically(folder / name, content)


def _changed(path: Path, text: str) -> str:
    """Which keys of a request differ, or that the input does."""
    if path.name != "request.json":
        return "other prompts or answers"
    old, new = json.loads(path.read_text(encoding="utf-8")), json.loads(text)
    keys = [key for key in sorted({*old, *new}) if old.get(key) != new.get(key)]
    return ", ".join(f"{key} {old.get(key)} → {new.get(key)}" for key in keys)


def _done(folder: Path) -> int:
    return len(list(folder.glob("[0-9]" * 5 + ".jsonl")))


def _reason(what: str, code: int | None, folder: Path, log: Path) -> str:
    error = folder / "error.txt"
    if error.exists():
        return error.read_text(encoding="utf-8").rstrip("\n")
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-_LOG_LINES:]
    tail = "\n".join(lines)
    return (
        f"{tail}\n{what}: the process ended with exit code {code}, its last lines stand above; the whole log"
        f" is {log}; what was done is kept, run the command again to go on"
    )


ANSWERS, WORK = "answers", "work"
#: Columns that are kept besides prompt, answer and scores: by role, and by their own name.
_ROLES, _NAMES = ("segment", "seed", "sample"), ("label", "sent", "finished")
_TRUTH = {"true": True, "false": False}


def prepare(plan: AnswerPlan, source: Source, show: Show) -> Path:
    """The table of a source's scored answers: its own file, or one in the evaluation's folder.

    Raises:
        RadError: answers or scores could not be had.
    """
    ratings = plan.ratings(source)
    if source.table is not None and not ratings and not plan.texts:
        return source.table
    answers = _generated(plan, source, show) if source.table is None else _read(plan, source)
    for name, rating, constraints in ratings:
        folder = plan.out / WORK / source.name / f"{rating.fingerprint}-{_digest(answers)}"
        keys = ("prompt", "answer", "label", "sent", "finished")
        asked = [{key: row[key] for key in keys} for row in answers]
        if rating.kind == "model":  # the one kind that reads the chat format of prompts
            for one, row in zip(asked, answers, strict=True):
                one["prompt"] = row["messages"] or row["prompt"]
        request = score_request(rating, plan.template)
        for found in perform(f"{source.name}: {name}", request, asked, folder, show):
            answer, value = answers[found["index"]], found["value"]
            answer |= {"reward": value} if rating.role == "reward" else {}
            answer["costs"] |= dict.fromkeys(constraints, value)
    path = plan.out / ANSWERS / f"{source.name}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = (_line(row, plan.asked) for row in answers)
    write_atomically(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in lines))
    return path


def _line(row: Row, asked: Iterable[str]) -> Row:
    """A row as runs keep theirs."""
    costs, _ = row.pop("costs"), row.pop("messages")
    return row | cost_record({name: costs[name] for name in asked})


def _generated(plan: AnswerPlan, source: Source, show: Show) -> list[Row]:
    prompts = plan.questions
    if plan.template and any(prompt.messages for prompt in prompts):
        raise ConfigError(
            f"{plan.prompts}: prompts are lists of messages, and the template {plan.template!r} holds one"
            " text; leave --template and --preset out, so that the model's chat template takes them"
        )
    asked = [{"prompt": list(prompt.messages) or prompt.text} for prompt in prompts]
    request = generate_request(source.location, plan.template, plan.sampling)
    folder = plan.out / WORK / source.name / "answers"
    answers = []
    for row in perform(f"{source.name}: answers", request, asked, folder, show):
        prompt = prompts[row["index"]]
        bounded = prompt.label if prompt.label in plan.labels else None
        answers.append(
            {
                "prompt": prompt.text,
                "messages": list(prompt.messages),
                "answer": row["answer"],
                "label": prompt.label or None,
                "segment": bounded or prompt.segment or prompt.label or None,
                "sample": row["sample"],
                "sent": row["sent"],
                "finished": row["finished"],
                "costs": {},
            }
        )
    return answers


def _read(plan: AnswerPlan, source: Source) -> list[Row]:
    """A table's rows with the usual names; scores that are there are kept, rows of other models are not."""
    assert source.table is not None
    held = column_names(source.table)
    names = {role: plan.columns.find(role, held) for role in ("prompt", "answer", "reward", "model", *_ROLES)}
    missing = [role for role in ("prompt", "answer") if names[role] is None]
    if missing:
        raise ConfigError(
            f"{place(source.table, 1)}: the column {plan.columns.wanted(missing[0])} is missing and the"
            f" answers are to be scored; the columns are {', '.join(held)}; add it, or name the column by"
            f" --column {missing[0]}=NAME"
        )
    costs = {
        name: column for name, one in plan.asked.items() if (column := plan.columns.find_cost(one, held))
    }
    used = {role: name for role, name in names.items() if name}
    spelled = numbers_are_texts(source.table)
    kept = [*_NAMES, *((label,) if (label := plan.columns.find("label", held)) else ())]
    problems: list[str] = []
    models: set[str] = set()
    found: list[Row] = []
    for item in rows(source.table, [*used.values(), *(column.name for column in costs.values()), *kept]):
        if "model" in used:
            models.add(name := str(_cell(item, used["model"])))
            if name != source.name:
                continue
        row = _row(item, used, kept, problems)
        row["costs"] = {name: _cost(item, column, spelled) for name, column in costs.items()}
        found.append(row)
    if problems:
        raise DataError(problems)
    if not found:
        raise DataError(
            f"{source.table}: no row has {names['model']} {source.name}; the file holds"
            f" {', '.join(sorted(models))}; name one of them"
        )
    return [_from_texts(row) for row in found] if spelled else found


def _row(item: TableRow, names: Mapping[str, str], kept: Sequence[str], problems: list[str]) -> Row:
    """A row of a table by the usual names, and what is kept under its own."""
    row: Row = {role: _cell(item, name) for role, name in names.items() if role != "model"}
    row |= {name: _cell(item, name) for name in kept}
    said = str(row["finished"]).lower()
    if said not in (*_TRUTH, "none", ""):
        rule = "it must be true or false, or be left out; mend the row"
        problems.append(f"{item.place}: finished is {shown(row['finished'])}; {rule}")
    row["finished"] = _TRUTH.get(said)
    # The prompt as it was sent, or whether it is that itself, as in the tables of a run.
    row["sent"] = _TRUTH.get(str(row["sent"]).lower(), row["sent"]) or None
    if row["sent"] is not True and not isinstance(row["sent"], str | None):
        rule = "it must be a text, true, or be left out; mend the row"
        problems.append(f"{item.place}: sent is {shown(row['sent'])}; {rule}")
    row["prompt"], messages = prompt_of(item, names["prompt"], problems)
    row["messages"] = list(messages)
    row["answer"] = text(item, names["answer"], problems, blank=True)
    return row


def _cell(item: TableRow, column: str) -> Any:
    """A value by the name that :func:`~openrlhf_rad.tables.column_names` gives it; None for none."""
    value = cell(item, column)
    return None if value is MISSING else value


def _cost(item: TableRow, column: CostColumn, spelled: bool) -> Any:
    """The cost in a row; what is not a number is told by the reader of the scores."""
    held = _cell(item, column.name)
    number = finite(held, text=spelled)
    return held if number is None else column.cost(number)


def _from_texts(row: Row) -> Row:
    """A row of CSV, where an empty cell is none and scores are spelled."""
    plain = {name: None if value == "" and name != "answer" else value for name, value in row.items()}
    return plain | ({"reward": _number(plain["reward"])} if "reward" in plain else {})


def _number(value: Any) -> Any:
    """The number that a cell spells; what is none is told by the reader of the scores."""
    number = finite(value, text=True)
    return value if number is None else number


def _digest(rows: Sequence[Mapping[str, Any]]) -> str:
    """Which answers were scored: scores of other answers are not taken for theirs."""
    text = json.dumps([[row["prompt"], row["answer"]] for row in rows], ensure_ascii=False)
    return hashlib.sha256(text.encode(errors="replace")).hexdigest()[:12]
