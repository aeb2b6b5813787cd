"""Prompts as lists of messages, as chat templates take them, and as dialogues in one text."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from openrlhf_rad.data.cells import cell, checked, text
from openrlhf_rad.tables import Row, shown

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
    found = messages(value, f"{row.place}: {column}", problems)
    while answered and found and found[-1]["role"] == "assistant":
        found.pop()
    if found and found[-1]["role"] == "assistant":
        problems.append(
            f"{row.place}: {column} ends with a message of the assistant; a prompt ends before the answer;"
            " remove that message"
        )
    single = [turn["role"] for turn in found] == ["user"]
    return dialogue(found), () if single else tuple(found)


def messages(value: Sequence[Any], place: str, problems: list[str]) -> list[Message]:
    """A list of messages, checked; notes problems, which begin with the place.

    Roles and contents stand under role and content, or as ShareGPT has them, under from and value. A content
    may be a list of parts; parts of text alone, since no model here sees images.
    """
    found = []
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
        found.append({"role": role, "content": words})
    if not any(message["role"] == "user" for message in found):
        problems.append(f"{place} holds no message of the user; a prompt needs one; mend or remove the row")
    return found


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
