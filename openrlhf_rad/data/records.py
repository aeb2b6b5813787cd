"""What the rows of a data set are made into, and their cells: prompts, pairs, dialogues.

A column's name is met exactly, else without regard to case; ``prompt.text`` is the key text of the mapping in
prompt."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from openrlhf_rad.errors import DataError
from openrlhf_rad.tables import Row, shown
from openrlhf_rad.tables.formats import as_text

#: What a row holds in place of a column that it lacks.
MISSING = object()


def spelled(names: Sequence[str], column: str, place: str) -> str | None:
    """The name among a row's that a column has; None if none has.

    Raises:
        DataError: several differ from it in case alone.
    """
    spellings = _spellings(tuple(names), column)
    if len(spellings) > 1:
        raise DataError(
            f"{place}: {' and '.join(spellings)} differ in case alone, and either may be {column}; name one"
            " exactly, or rename the other"
        )
    return spellings[0] if spellings else None


@lru_cache(maxsize=1024)
def _spellings(names: tuple[str, ...], column: str) -> list[str]:
    if column in names:
        return [column]
    return [name for name in names if name.casefold().strip() == column.casefold()]


def cell(row: Row, column: str) -> Any:
    """The value of a column, or MISSING. Raises DataError as :func:`spelled` does."""
    return _inside(row.values, column, row.place)


def _inside(values: Mapping[str, Any], column: str, place: str) -> Any:
    name = spelled(list(values), column, place)
    if name is not None:
        return values[name]
    outer, dot, inner = column.partition(".")
    held = _inside(values, outer, place) if dot else MISSING
    return _inside(held, inner, place) if isinstance(held, Mapping) else MISSING


def text(row: Row, column: str, problems: list[str], *, blank: bool = False) -> str:
    """The text of a column; notes a problem and returns "" where there is none.

    Args:
        blank: whether a text without any character but white space may stand.
    """
    value = cell(row, column)
    if value is MISSING:
        held = ", ".join(row.values) or "nothing"
        problems.append(
            f"{row.place}: column {column} is missing; the row holds {held}; add it, or name the column"
        )
        return ""
    return checked(value, f"{row.place}: {column}", problems, blank=blank)


def checked(value: object, place: str, problems: list[str], *, blank: bool = False) -> str:
    """A value that must be text; notes a problem, which begins with the place, and returns "" for others."""
    if not isinstance(value, str):
        problems.append(f"{place} is {shown(value)}; it must be text; mend the row")
    elif not blank and not value.strip():
        problems.append(f"{place} is empty; it must hold text; mend or remove the row")
    elif not _encodes(value):
        problems.append(f"{place} holds half a surrogate pair, which is not text; mend the row")
    else:
        return value
    return ""


def optional(row: Row, column: str, problems: list[str]) -> str:
    """A text that may be absent, null or empty."""
    value = cell(row, column)
    return "" if value is None or value is MISSING else text(row, column, problems, blank=True).strip()


def word(row: Row, column: str, problems: list[str]) -> str:
    """A name that may be absent or null: a text, a number or a truth value, as JSON writes it."""
    value = cell(row, column)
    if isinstance(value, int | float) and math.isfinite(value):
        return as_text(value) or ""
    return optional(row, column, problems)


def _encodes(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


#: {"role": …, "content": text}.
Message = dict[str, str]

_ROLES = {"human": "user", "gpt": "assistant", "bot": "assistant"}
_TURN = re.compile(r"\n\n(Human|Assistant):[ \t]*")
#: Where a dialogue of hh-rlhf leaves off for the answer.
ASSISTANT = "\n\nAssistant:"


def prompt_of(
    row: Row, column: str, problems: list[str], *, answered: bool = False
) -> tuple[str, tuple[Message, ...]]:
    """A prompt as one text, and its messages where it is more than one of the user.

    Args:
        answered: whether the column's messages may go on to the answer, which is then left out.
    """
    value = cell(row, column)
    if not isinstance(value, list):
        asked = text(row, column, problems)
        if "<image>" in asked:
            problems.append(f"{row.place}: {column} holds <image>; only text can be asked; remove the row")
        return asked, ()
    talk = messages(value, f"{row.place}: {column}", problems)
    while answered and talk and talk[-1]["role"] == "assistant":
        talk.pop()
    if talk and talk[-1]["role"] == "assistant":
        problems.append(
            f"{row.place}: {column} ends with a message of the assistant; a prompt ends before the answer;"
            " remove that message"
        )
    single = [turn["role"] for turn in talk] == ["user"]
    return dialogue(talk), () if single else tuple(talk)


def messages(value: Sequence[Any], place: str, problems: list[str]) -> list[Message]:
    """A list of messages, checked; notes problems, which begin with the place.

    Roles and contents stand under role and content, or as ShareGPT has them, under from and value. A content
    may be a list of parts; parts of text alone, since no model here sees images.
    """
    talk = []
    for number, item in enumerate(value, 1):
        where = f"{place}, message {number}"
        if not isinstance(item, Mapping) or not (
            {"role", "content"} <= set(item) or {"from", "value"} <= set(item)
        ):
            problems.append(f"{where}, is {shown(item)}; it must hold role and content; mend the row")
            continue
        role, content = (item["role"], item["content"]) if "role" in item else (item["from"], item["value"])
        role = checked(role, f"{where}: role", problems).lower()
        role = _ROLES.get(role, role)
        words = _content(content, f"{where}: content", problems, blank=role != "user")
        talk.append({"role": role, "content": words})
    if not any(message["role"] == "user" for message in talk):
        problems.append(f"{place} holds no message of the user; a prompt needs one; mend or remove the row")
    return talk


def _content(value: Any, where: str, problems: list[str], *, blank: bool) -> str:
    if not isinstance(value, list | tuple):
        return checked(value, where, problems, blank=blank)
    kinds = {str(part.get("type", "text")) if isinstance(part, Mapping) else "text" for part in value}
    if kinds - {"text", "input_text"}:
        other = ", ".join(sorted(kinds - {"text", "input_text"}))
        problems.append(f"{where} holds {other}; only text can be asked; remove the row")
        return ""
    parts = [part.get("text") if isinstance(part, Mapping) else part for part in value]
    return "".join(checked(part, where, problems, blank=True) for part in parts)


def dialogue(turns: Sequence[Message]) -> str:
    """Messages as one text: a single one of the user as it is, else each with its role."""
    if [turn["role"] for turn in turns] == ["user"]:
        return turns[0]["content"]
    return "\n\n".join(f"{turn['role']}: {turn['content']}" for turn in turns)


def turns(words: str) -> list[Message]:
    """The messages of a dialogue of hh-rlhf, from its first ``Human:`` to where the answer begins."""
    parts = _TURN.split(words.removesuffix(ASSISTANT))
    roles = {"Human": "user", "Assistant": "assistant"}
    return [
        {"role": roles[role], "content": content.strip()}
        for role, content in zip(parts[1::2], parts[2::2], strict=True)
    ]


#: HarmBench puts a behaviour's context before it in this way.
_BETWEEN = "\n\n---\n\n"


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt of a data set.

    Attributes:
        id: unique within its source. label: the class that rewards and reports go by; "" if there is none.
        segment: the category of harm, for tables by segment; "" if there is none.
        prompt: of several messages, the dialogue in one text.
        context: a text that the prompt speaks of; "" for most.
        source: the shape that it was read in.
        messages: what a chat template is given where the prompt is more than one message of the user.
    """

    id: str
    prompt: str
    label: str
    segment: str
    context: str
    source: str
    messages: tuple[Message, ...] = ()

    @property
    def text(self) -> str:
        """What a model is asked, as one text: the context, if there is one, and the prompt."""
        return f"{self.context}{_BETWEEN}{self.prompt}" if self.context else self.prompt

    def line(self, *, chat: bool = False) -> dict[str, Any]:
        """The line that ``rad eval`` and OpenRLHF's ``--data.prompt_dataset`` read: keys prompt and label.

        Args:
            chat: write the prompt as a list of messages; all lines of a file must be of one kind.
        """
        single = [{"role": "user", "content": self.text}]
        return {
            "prompt": list(self.messages or single) if chat else self.text,
            "label": self.label,
            "segment": self.segment,
            "id": self.id,
            "source": self.source,
        }


@dataclass(frozen=True, slots=True)
class Pair:
    """Two answers to a prompt, and which was preferred.

    Attributes:
        chosen_safe, rejected_safe: whether each answer was called safe; None where nobody said.
        segment: the categories of harm of the rejected answer, joined by "; "; "" if none.
    """

    prompt: str
    chosen: str
    rejected: str
    chosen_safe: bool | None
    rejected_safe: bool | None
    segment: str
