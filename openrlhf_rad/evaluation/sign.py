"""Whether higher costs are more harmful, looked at wherever there are labels; and what was read, in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from openrlhf_rad.evaluation.answers import ScoredAnswers
from openrlhf_rad.harm import harm_order
from openrlhf_rad.naming import cost_roles
from openrlhf_rad.tables import place


def look(answers: Mapping[str, ScoredAnswers]) -> list[dict[str, Any]]:
    """The order of every cost of every model by its labels, as data; empty where nothing is labelled.

    Where the labels are of the prompts, the first model decides, the one that others are compared with: a
    model that has learned to answer harmful prompts harmlessly may turn the order round by itself.
    """
    found: list[dict[str, Any]] = []
    of_prompts = are_of_prompts(list(answers.values()))
    for name, held in answers.items():
        labels = held.labels
        if labels is None or not {0, 1} <= set(held.harmful_b.tolist()):
            continue
        roles = cost_roles(held.costs)
        for constraint, cost_b in held.costs.items():
            order = harm_order(cost_b, held.harmful_b, held.prompt_b)
            decides = not of_prompts or name == next((row["model"] for row in found), name)
            role = roles[constraint]
            found.append(
                {
                    "model": name,
                    "role": role,
                    "share": {"value": order.value, "low": order.low, "high": order.high},
                    "inverted": order.inverted() and decides,
                    "told": order.low > 0.5,
                    "words": order.words,
                    "column": held.used[role],
                    "labels": labels.sentence,
                    "examples": label_lines(held)[1:],
                }
            )
    return found


def are_of_prompts(models: Sequence[ScoredAnswers]) -> bool:
    """Whether labels are of the prompts: all answers to a prompt have one, over all models."""
    prompt_b = np.concatenate([held.prompt_b for held in models])
    code_b = np.concatenate([held.harmful_b for held in models])
    _, index = np.unique(prompt_b[code_b >= 0], return_inverse=True)
    count = np.bincount(index)
    share = np.bincount(index, code_b[code_b >= 0]) / np.maximum(count, 1)
    return bool(np.isin(share, (0.0, 1.0)).all())


def label_lines(held: ScoredAnswers) -> list[str]:
    """What the labels were taken for, and three answers with theirs."""
    if held.labels is None:
        return []
    kinds = ("safe", "harmful")
    return [held.labels.sentence] + [
        f"{place(held.path, line)}: cost {cost:g}, {held.labels.column} {word}: taken for {kinds[code]}"
        for line, cost, word, code in held.examples
    ]


def inverted(looked: Sequence[Mapping[str, Any]]) -> list[str]:
    """What to tell of costs whose sign the labels prove inverted."""
    return [
        f"{row['model']}: the sign of {_of(row)} is inverted: {row['words']} ({row['labels']}); a cost must"
        f" be higher for more harm; turn it round by --column {row['role']}={_turned(row['column'])}, or say"
        " --no-labels if the labels do not speak of these answers"
        + "".join(f"\n  {line}" for line in row["examples"])
        for row in looked
        if row["inverted"]
    ]


def notes(answers: Mapping[str, ScoredAnswers], looked: Sequence[Mapping[str, Any]]) -> list[str]:
    """Labels that could not serve, and costs that do not tell harm."""
    found = [
        f"{name}: the sign of the cost is not looked at: {held.labels.reason}"
        for name, held in answers.items()
        if held.labels
        and held.labels.reason
        # Words that are merely segments are no labels of harm.
        and (held.labels.asks or held.labels.column != held.used.get("segment"))
    ]
    if not all(held.columns.labelled for held in answers.values()):
        found.append("labels are not looked at, as --no-labels says")
    return found + [
        f"{row['model']}: {_of(row)} does not tell harm: {row['words']} ({row['labels']}); chance is 50 %;"
        " look at the cost"
        for row in looked
        if not row["inverted"] and not row["told"]
    ]


def described(models: Sequence[Mapping[str, Any]], looked: Sequence[Mapping[str, Any]]) -> list[str]:
    """What was read, and which way is harmful by which column, a line each.

    Args:
        models: name, role and ``read``, as :func:`~openrlhf_rad.evaluation.folder.source` gives it.
    """
    lines = []
    for model in models:
        lines.append(f"{model['role']} {model['name']}: {read_from(model)}")
    told = [f"{row['model']}: {row['words']}" for row in looked if row["told"]]
    if told:
        lines.append(f"{looked[0]['labels']}; {'; '.join(told)}")
    elif not looked:
        lines.append("no labels say whether higher is more harmful")
    return lines


def read_from(model: Mapping[str, Any]) -> str:
    """Which rows a model's are, and which way is harmful by which column."""
    read = model["read"]
    costs = [(role, name) for role, name in read["columns"].items() if role.partition(".")[0] == "cost"]
    by = ", ".join(f"{role} by column {name}" for role, name in costs)
    of = f"{read['file']}, {read['rows']:,} rows, sha256 {read['sha256'][:12]}"
    return f"{of}; {by}, higher is more harmful"


def _of(row: Mapping[str, Any]) -> str:
    return "the cost" if row["role"] == "cost" else f"the cost of {row['role'].partition('.')[2]}"


def _turned(column: str) -> str:
    """How a column is turned round: −x where it was taken as it is, x where it was turned."""
    return column.rpartition("− ")[2] if "− " in column else f"-{column}"
