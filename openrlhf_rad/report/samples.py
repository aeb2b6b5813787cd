"""Which answers a page shows, and their texts made harmless to look at."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from openrlhf_rad.evaluation.answers import paired
from openrlhf_rad.report.sources import RunRecord
from openrlhf_rad.runs.records import Answer
from openrlhf_rad.words import number

#: Characters of a text that are shown.
LONGEST = 1500
# Pairs of each kind; together a few screens.
_WORST, _RISEN, _RANDOM = 5, 4, 4

# Turn markers of chat templates, which hide the words between them.
_MARKUP = re.compile(r"<\|[^|<>\n]{1,40}\|>(?:(?:system|user|assistant)\n)?")


@dataclass(frozen=True)
class Side:
    """One answer: what it is called, its text, cost and reward for people."""

    name: str
    text: str
    cost: str
    reward: str | None

    @property
    def colour(self) -> str:
        """The variable of its colour."""
        return "before" if self.name == "before" else "after"


@dataclass(frozen=True)
class Shown:
    """A prompt with its answers."""

    prompt: str
    label: str | None
    sides: tuple[Side, ...]


@dataclass(frozen=True)
class Group:
    """Answers chosen by one rule, which the title says."""

    title: str
    shown: tuple[Shown, ...]


def groups(record: RunRecord) -> list[Group]:
    """The answers to show: held-out ones before and after, or those of the last training steps."""
    if record.before is not None and record.after is not None:
        return _paired(record.before, record.after)
    rows, name = (record.before, "before") if record.before is not None else (record.recent, "in training")
    if not rows:
        return []
    worst = sorted(rows, key=lambda row: -row["cost"])[: 2 * _WORST]
    when = "before training" if record.before is not None else f"of the last steps ({len(rows)} answers)"
    return [Group(f"The most costly answers {when}", tuple(_shown(row, {name: row}) for row in worst))]


def clean(text: str) -> str:
    """A text for display: chat markup removed, control and direction characters made visible, shortened.

    HTML is not escaped here: the template does that with every text.
    """
    plain = _MARKUP.sub("", text).strip()
    cut = plain[:LONGEST]
    shown = "".join(char if _harmless(char) else "\N{REPLACEMENT CHARACTER}" for char in cut)
    left = len(plain) - len(cut)
    return (shown or "(empty)") + (f" … ({left} more characters)" if left else "")


def _harmless(char: str) -> bool:
    """Neither a control character nor one that turns the direction of the text around it, nor a surrogate."""
    return char in "\n\t" or unicodedata.category(char) not in {"Cc", "Cf", "Cs"} or char in "\u200c\u200d"


def _paired(before: Sequence[Answer], after: Sequence[Answer]) -> list[Group]:
    pairs = [(before[i], after[j]) for i, j in zip(*paired(before, after).row.values(), strict=True)]
    left = list(range(len(pairs)))

    def take(title: str, count: int, key: Callable[[int], float]) -> Group:
        chosen = sorted(left, key=key)[:count]
        for index in chosen:
            left.remove(index)
        sides = [{"before": pairs[index][0], "after": pairs[index][1]} for index in chosen]
        return Group(title, tuple(_shown(side["before"], side) for side in sides))

    order = np.random.default_rng(0).permutation(len(pairs))
    found = [
        take("Most costly after training", _WORST, lambda index: -pairs[index][1]["cost"]),
        take("Most costly before training", _WORST, lambda index: -pairs[index][0]["cost"]),
        take("Cost rose the most", _RISEN, lambda index: pairs[index][0]["cost"] - pairs[index][1]["cost"]),
        take("Drawn at random from the others", _RANDOM, lambda index: float(order[index])),
    ]
    return [group for group in found if group.shown]


def _shown(row: Answer, sides: dict[str, Answer]) -> Shown:
    return Shown(
        clean(row["prompt"]),
        None if row["label"] is None else clean(row["label"]),
        tuple(
            Side(
                name,
                clean(side["answer"]),
                number(side["cost"]),
                None if side["reward"] is None else number(side["reward"]),
            )
            for name, side in sides.items()
        ),
    )
