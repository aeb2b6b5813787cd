"""The shapes in which data sets are published, told apart by their columns.

============  ===============================================================  ==============================
shape         columns as published                                             segment
============  ===============================================================  ==============================
harmbench     Behavior, FunctionalCategory, SemanticCategory, Tags,            SemanticCategory
              ContextString, BehaviorID (CSV)
advbench      goal, target (CSV)                                               none
pku           prompt, response_0, response_1, is_response_0_safe, …,           categories of harm of either
              better_response_id, safer_response_id (JSON lines)               answer
beavertails   prompt, response, category {name: bool}, is_safe (JSON lines)    the row's categories of harm
plain         prompt or input, with label, segment or category, id, context    segment, else category
============  ===============================================================  ==============================

``is_safe`` speaks of the answer, not of the prompt, so BeaverTails and PKU-SafeRLHF say of a prompt only
which harms its answers showed; a prompt of several rows takes the commonest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from openrlhf_rad.data.cells import text
from openrlhf_rad.data.records import Pair, Prompt
from openrlhf_rad.tables import Row, shown

#: (row, its number from 1, problems) → a prompt.
PromptReader = Callable[[Row, int, list[str]], Prompt]
#: (row, column of the preferred answer's id, problems) → a pair.
PairReader = Callable[[Row, str, list[str]], Pair]

SAFETY, HELPFULNESS = "safety", "helpfulness"
NO_CATEGORY = "none"


@dataclass(frozen=True)
class Shape:
    """How the rows of one published shape are read.

    Attributes:
        needs: the columns that tell the shape.
        pair: None where a row holds no two answers.
    """

    name: str
    needs: frozenset[str]
    prompt: PromptReader
    pair: PairReader | None = None


def detect(columns: frozenset[str]) -> Shape | None:
    """The first shape whose columns are all there."""
    return next((shape for shape in SHAPES.values() if shape.needs <= columns), None)


def _harmbench(row: Row, number: int, problems: list[str]) -> Prompt:
    return Prompt(
        id=text(row, "BehaviorID", problems) if "BehaviorID" in row.values else f"harmbench-{number}",
        prompt=text(row, "Behavior", problems),
        label="harmful",
        segment=text(row, "SemanticCategory", problems),
        context=_optional(row, "ContextString", problems),
        source="harmbench",
    )


def _advbench(row: Row, number: int, problems: list[str]) -> Prompt:
    return Prompt(f"advbench-{number}", text(row, "goal", problems), "harmful", "", "", "advbench")


def _beavertails(row: Row, number: int, problems: list[str]) -> Prompt:
    segment = "; ".join(_harms(row, "category", problems)) or NO_CATEGORY
    return Prompt(f"beavertails-{number}", text(row, "prompt", problems), segment, segment, "", "beavertails")


def _pku(row: Row, number: int, problems: list[str]) -> Prompt:
    columns = [f"response_{index}_harm_category" for index in (0, 1)]
    harms = [name for column in columns if column in row.values for name in _harms(row, column, problems)]
    segment = "; ".join(dict.fromkeys(harms)) or NO_CATEGORY
    return Prompt(f"pku-{number}", text(row, "prompt", problems), segment, segment, "", "pku")


def _pku_pair(row: Row, by: str, problems: list[str]) -> Pair:
    column = {SAFETY: "safer_response_id", HELPFULNESS: "better_response_id"}[by]
    best = row.values.get(column)
    if isinstance(best, bool) or best not in (0, 1):
        problems.append(f"{row.place}: {column} is {shown(best)}; it must be 0 or 1; mend or remove the row")
        best = 0
    chosen, rejected = (0, 1) if best == 0 else (1, 0)
    harms = f"response_{rejected}_harm_category"
    return Pair(
        prompt=text(row, "prompt", problems),
        chosen=text(row, f"response_{chosen}", problems, blank=True),
        rejected=text(row, f"response_{rejected}", problems, blank=True),
        chosen_safe=_flag(row, f"is_response_{chosen}_safe", problems),
        rejected_safe=_flag(row, f"is_response_{rejected}_safe", problems),
        segment="; ".join(_harms(row, harms, problems)) if harms in row.values else "",
    )


def _plain(prompt: str) -> PromptReader:
    def read(row: Row, number: int, problems: list[str]) -> Prompt:
        category = "segment" if "segment" in row.values else "category"
        return Prompt(
            id=_word(row, "id", problems) or f"{number}",
            prompt=text(row, prompt, problems),
            label=_word(row, "label", problems),
            segment=_word(row, category, problems),
            context=_optional(row, "context", problems),
            source=_word(row, "source", problems) or "plain",
        )

    return read


def _plain_pair(row: Row, _by: str, problems: list[str]) -> Pair:
    chosen, rejected = (text(row, name, problems, blank=True) for name in ("chosen", "rejected"))
    return Pair(text(row, "prompt", problems), chosen, rejected, None, None, _word(row, "segment", problems))


def plain(prompt: str) -> Shape:
    """A file whose prompts stand in a column that the user names."""
    return Shape("plain", frozenset({prompt}), _plain(prompt))


#: In the order in which they are tried: the more telling columns first.
SHAPES: dict[str, Shape] = {
    shape.name: shape
    for shape in (
        Shape("harmbench", frozenset({"Behavior", "SemanticCategory"}), _harmbench),
        Shape("advbench", frozenset({"goal", "target"}), _advbench),
        Shape("pku", frozenset({"prompt", "response_0", "response_1", "safer_response_id"}), _pku, _pku_pair),
        Shape("beavertails", frozenset({"prompt", "response", "category", "is_safe"}), _beavertails),
        Shape("pairs", frozenset({"prompt", "chosen", "rejected"}), _plain("prompt"), _plain_pair),
        Shape("plain", frozenset({"prompt"}), _plain("prompt")),
        Shape("openrlhf", frozenset({"input"}), _plain("input")),
    )
}


def _harms(row: Row, column: str, problems: list[str]) -> list[str]:
    """The names that a map of harms calls true, in the file's order."""
    value = row.values.get(column)
    if isinstance(value, Mapping) and all(isinstance(held, bool) for held in value.values()):
        return [str(name) for name, held in value.items() if held]
    rule = "it must map each harm to true or false; mend the row"
    problems.append(f"{row.place}: {column} is {shown(value)}; {rule}")
    return []


def _flag(row: Row, column: str, problems: list[str]) -> bool:
    value = row.values.get(column)
    if not isinstance(value, bool):
        problems.append(f"{row.place}: {column} is {shown(value)}; it must be true or false; mend the row")
    return value is True


def _optional(row: Row, column: str, problems: list[str]) -> str:
    """A text that may be absent, null or empty."""
    return "" if row.values.get(column) is None else text(row, column, problems, blank=True).strip()


def _word(row: Row, column: str, problems: list[str]) -> str:
    """A name that may be absent, null or a number."""
    value = row.values.get(column)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    return _optional(row, column, problems)
