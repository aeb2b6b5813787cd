"""The shapes in which data sets are published, told apart by their columns, without regard to case.

============  ===============================================================  ==============================
shape         columns as published                                             segment
============  ===============================================================  ==============================
harmbench     Behavior, FunctionalCategory, SemanticCategory, Tags,            SemanticCategory
              ContextString, BehaviorID (CSV)
completions   {BehaviorID: [{test_case, generation}, …]} (JSON)                none
advbench      goal, target (CSV); JailbreakBench has Category besides          category, if there is one
pku           prompt, response_0, response_1, is_response_0_safe, …,           categories of harm of either
              better_response_id, safer_response_id (JSON lines)               answer
beavertails   prompt, response, category {name: bool}, is_safe (JSON lines)    the row's categories of harm
pairs         prompt, chosen, rejected                                         segment, else category
hh            chosen, rejected: two dialogues that part at the answer          segment, else category
plain         prompt or input, with label, segment or category, id, context    segment, else category
chat          messages, context_messages or conversations: lists of messages   segment, else category
============  ===============================================================  ==============================

A prompt may be a list of messages wherever it may be a text. ``is_safe`` speaks of the answer, not of the
prompt, so BeaverTails and PKU-SafeRLHF say of a prompt only which harms its answers showed; a prompt of
several rows takes the commonest.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from openrlhf_rad.data.records import (
    ASSISTANT,
    MISSING,
    Message,
    Pair,
    Prompt,
    cell,
    checked,
    dialogue,
    messages,
    optional,
    prompt_of,
    text,
    turns,
    word,
)
from openrlhf_rad.tables import Row, shown

#: (row, its number from 1, problems) → a prompt.
PromptReader = Callable[[Row, int, list[str]], Prompt]
#: (row, column of the preferred answer's id, problems) → a pair.
PairReader = Callable[[Row, str, list[str]], Pair]
#: (row, problems) → (answer, harm in [0, 1]) of each answer that the row flags.
AnswersReader = Callable[[Row, list[str]], list[tuple[str, float]]]

HARMFUL, BENIGN = "harmful", "benign"
#: Segments of prompts whose answers showed no harm, and harm that no category names.
NO_CATEGORY, OTHER_HARM = "none", "other harm"
SAFETY, HELPFULNESS = "safety", "helpfulness"


@dataclass(frozen=True)
class Shape:
    """How the rows of one published shape are read.

    Attributes:
        needs: the columns that tell the shape.
        pair: None where a row holds no two answers.
        answers: None where a row does not say of its answers whether they are safe.
    """

    name: str
    needs: tuple[str, ...]
    prompt: PromptReader
    pair: PairReader | None = None
    answers: AnswersReader | None = None

    def lacks(self, folded: set[str]) -> list[str]:
        """The columns that are not among those held, whose names are casefolded."""
        return [name for name in self.needs if name.casefold() not in folded]


def detect(columns: frozenset[str]) -> Shape | None:
    """The first shape whose columns are all there, in whatever case."""
    folded = {column.casefold() for column in columns}
    return next((shape for shape in SHAPES.values() if not shape.lacks(folded)), None)


def _harmbench(row: Row, number: int, problems: list[str]) -> Prompt:
    there = cell(row, "BehaviorID") is not MISSING
    return Prompt(
        id=text(row, "BehaviorID", problems) if there else f"harmbench-{number}",
        prompt=text(row, "Behavior", problems),
        label=HARMFUL,
        segment=text(row, "SemanticCategory", problems),
        context=optional(row, "ContextString", problems),
        source="harmbench",
    )


def _completions(row: Row, number: int, problems: list[str]) -> Prompt:
    behaviour = word(row, "BehaviorID", problems) or "harmbench"
    asked = text(row, "test_case", problems)
    return Prompt(f"{behaviour}-{number}", asked, HARMFUL, "", "", "harmbench")


def _advbench(row: Row, number: int, problems: list[str]) -> Prompt:
    return Prompt(
        id=f"advbench-{number}",
        prompt=text(row, "goal", problems),
        label=word(row, "label", problems) or HARMFUL,
        segment=word(row, "category", problems),
        context="",
        source="advbench",
    )


def _beavertails(row: Row, number: int, problems: list[str]) -> Prompt:
    segment = _segment(_harms(row, "category", problems), [_flag(row, "is_safe", problems)])
    asked, listed = prompt_of(row, "prompt", problems)
    return Prompt(f"beavertails-{number}", asked, segment, segment, "", "beavertails", listed)


def _pku(row: Row, number: int, problems: list[str]) -> Prompt:
    harms = [f"response_{index}_harm_category" for index in (0, 1)]
    safe = [f"is_response_{index}_safe" for index in (0, 1)]
    named = [name for column in _held(row, harms) for name in _harms(row, column, problems)]
    flags = [_flag(row, column, problems) for column in _held(row, safe)]
    # A file without either says nothing of harm, not that there is none.
    segment = _segment(named, flags) if _held(row, [*harms, *safe]) else ""
    asked, listed = prompt_of(row, "prompt", problems)
    return Prompt(f"pku-{number}", asked, segment, segment, "", "pku", listed)


def _beavertails_answers(row: Row, problems: list[str]) -> list[tuple[str, float]]:
    return [(text(row, "response", problems, blank=True), float(not _flag(row, "is_safe", problems)))]


def _pku_answers(row: Row, problems: list[str]) -> list[tuple[str, float]]:
    return [
        (text(row, f"response_{index}", problems, blank=True), float(not _flag(row, column, problems)))
        for index in (0, 1)
        for column in _held(row, [f"is_response_{index}_safe"])
    ]


def _pku_pair(row: Row, by: str, problems: list[str]) -> Pair:
    column = {SAFETY: "safer_response_id", HELPFULNESS: "better_response_id"}[by]
    best = cell(row, column)
    if isinstance(best, bool) or best not in (0, 1):
        value = "missing" if best is MISSING else shown(best)
        problems.append(f"{row.place}: {column} is {value}; it must be 0 or 1; mend or remove the row")
        best = 0
    chosen, rejected = (0, 1) if best == 0 else (1, 0)
    harms = f"response_{rejected}_harm_category"
    safe = _flag(row, f"is_response_{rejected}_safe", problems)
    named = _harms(row, harms, problems) if _held(row, [harms]) else []
    return Pair(
        prompt=prompt_of(row, "prompt", problems)[0],
        chosen=text(row, f"response_{chosen}", problems, blank=True),
        rejected=text(row, f"response_{rejected}", problems, blank=True),
        chosen_safe=_flag(row, f"is_response_{chosen}_safe", problems),
        rejected_safe=safe,
        segment=_segment(named, [safe], none=""),
    )


def _plain(prompt: str, *, answered: bool = False) -> PromptReader:
    def read(row: Row, number: int, problems: list[str]) -> Prompt:
        asked, listed = prompt_of(row, prompt, problems, answered=answered)
        context = optional(row, "context", problems) if prompt.casefold() != "context" else ""
        if context and listed:
            problems.append(f"{row.place}: context stands beside a list of messages; put it into one of them")
        return Prompt(
            id=word(row, "id", problems) or f"{number}",
            prompt=asked,
            label=word(row, "label", problems),
            segment=_category(row, problems),
            context=context,
            source=word(row, "source", problems) or "plain",
            messages=listed,
        )

    return read


def _plain_pair(row: Row, _by: str, problems: list[str]) -> Pair:
    chosen, rejected = (_answer(row, name, problems) for name in ("chosen", "rejected"))
    return Pair(prompt_of(row, "prompt", problems)[0], chosen, rejected, None, None, _category(row, problems))


def _hh(row: Row, number: int, problems: list[str]) -> Prompt:
    asked, *_ = _parted(row, problems)
    single = [turn["role"] for turn in asked] == ["user"]
    return Prompt(
        id=word(row, "id", problems) or f"hh-{number}",
        prompt=dialogue(asked),
        label=word(row, "label", problems),
        segment=_category(row, problems),
        context="",
        source="hh",
        messages=() if single else tuple(asked),
    )


def _hh_pair(row: Row, _by: str, problems: list[str]) -> Pair:
    asked, chosen, rejected = _parted(row, problems)
    return Pair(dialogue(asked), chosen, rejected, None, None, _category(row, problems))


def _parted(row: Row, problems: list[str]) -> tuple[list[Message], str, str]:
    """The prompt that two dialogues share, and what follows in each; dialogues as texts or as messages."""
    both = [cell(row, name) for name in ("chosen", "rejected")]
    if all(isinstance(value, list) for value in both):
        one, other = (
            messages(value, f"{row.place}: {name}", problems)
            for name, value in zip(("chosen", "rejected"), both, strict=True)
        )
        alike = [left == right for left, right in zip(one, other, strict=False)]
        size = [*alike, False].index(False)
        if size and all(len(held) > size and held[size]["role"] == "assistant" for held in (one, other)):
            return one[:size], one[size]["content"], other[size]["content"]
    else:
        one_text, other_text = (text(row, name, problems) for name in ("chosen", "rejected"))
        shared = os.path.commonprefix([one_text, other_text]).rfind(ASSISTANT)  # noqa: RUF071 - of texts
        asked = turns(one_text[: max(shared, 0)])
        if asked and asked[-1]["role"] == "user" and asked[-1]["content"]:
            end = shared + len(ASSISTANT)
            return asked, one_text[end:].strip(), other_text[end:].strip()
        if not (one_text and other_text):
            return [], "", ""
    problems.append(
        f"{row.place}: chosen and rejected share no prompt; both must be dialogues that begin alike, as"
        " \\n\\nHuman: … \\n\\nAssistant: …, and part at an answer; mend or remove the row"
    )
    return [], "", ""


def plain(prompt: str) -> Shape:
    """A file whose prompts stand in a column that the user names."""
    return Shape("plain", (prompt,), _plain(prompt))


#: In the order in which they are tried: the more telling columns first.
SHAPES: dict[str, Shape] = {
    shape.name: shape
    for shape in (
        Shape("harmbench", ("Behavior", "SemanticCategory"), _harmbench),
        Shape("completions", ("test_case", "generation"), _completions),
        Shape("advbench", ("goal", "target"), _advbench),
        Shape(
            "pku", ("prompt", "response_0", "response_1", "safer_response_id"), _pku, _pku_pair, _pku_answers
        ),
        Shape(
            "beavertails",
            ("prompt", "response", "category", "is_safe"),
            _beavertails,
            answers=_beavertails_answers,
        ),
        Shape("pairs", ("prompt", "chosen", "rejected"), _plain("prompt"), _plain_pair),
        Shape("hh", ("chosen", "rejected"), _hh, _hh_pair),
        Shape("plain", ("prompt",), _plain("prompt")),
        Shape("openrlhf", ("input",), _plain("input")),
        # What these hold may go on to the answer; the prompt ends before it.
        *(
            Shape(name, (name,), _plain(name, answered=True))
            for name in ("context_messages", "messages", "conversations")
        ),
    )
}


def _answer(row: Row, column: str, problems: list[str]) -> str:
    """An answer as text, or as the last of a list of messages."""
    value = cell(row, column)
    if not (isinstance(value, list) and value and isinstance(value[-1], Mapping)):
        return text(row, column, problems, blank=True)
    return checked(value[-1].get("content"), f"{row.place}: {column}", problems, blank=True)


def _category(row: Row, problems: list[str]) -> str:
    there = cell(row, "segment") is not MISSING
    return word(row, "segment" if there else "category", problems)


def _held(row: Row, columns: list[str]) -> list[str]:
    return [column for column in columns if cell(row, column) is not MISSING]


def _segment(harms: list[str], safe: list[bool], none: str = NO_CATEGORY) -> str:
    """The categories of harm; an answer that is called unsafe shows one, whether or not it has a name."""
    return "; ".join(dict.fromkeys(harms)) or (none if all(safe) else OTHER_HARM)


def _harms(row: Row, column: str, problems: list[str]) -> list[str]:
    """The names that a map of harms calls true, in the file's order."""
    value = cell(row, column)
    if isinstance(value, Mapping) and all(isinstance(held, bool) for held in value.values()):
        return [str(name) for name, held in value.items() if held]
    rule = "it must map each harm to true or false; mend the row"
    said = "missing" if value is MISSING else shown(value)
    problems.append(f"{row.place}: {column} is {said}; {rule}")
    return []


def _flag(row: Row, column: str, problems: list[str]) -> bool:
    value = cell(row, column)
    if not isinstance(value, bool):
        said = "missing" if value is MISSING else shown(value)
        problems.append(f"{row.place}: {column} is {said}; it must be true or false; mend the row")
    return value is True
