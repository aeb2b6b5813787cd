"""Which answers a page shows, and their texts made harmless to look at."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from openrlhf_rad.evaluation.pairing import AFTER, BEFORE, paired
from openrlhf_rad.report.sources import RunRecord
from openrlhf_rad.runs.records import Answer

#: Characters of a text that are shown.
LONGEST = 1500
# Pairs of each kind; together a few screens.
_WORST, _RISEN, _RANDOM = 5, 4, 4

# Turn markers of chat templates, which hide the words between them.
_MARKUP = re.compile(r"<\|[^|<>\n]{1,40}\|>(?:(?:system|user|assistant)\n)?")


@dataclass(frozen=True)
class SampleGroup:
    """Answers chosen by one rule, which the title says; of each prompt one a side."""

    title: str
    shown: list[dict[str, Answer]]


def groups(record: RunRecord) -> list[SampleGroup]:
    """The answers to show: held-out ones before and after, or those of the last training steps."""
    if record.before is not None and record.after is not None:
        return _paired(record.before, record.after)
    rows, name = (record.before, "before") if record.before is not None else (record.recent, "in training")
    if not rows:
        return []
    worst = sorted(rows, key=lambda row: -row["cost"])[: 2 * _WORST]
    when = "before training" if record.before is not None else f"of the last steps ({len(rows)} answers)"
    return [SampleGroup(f"The most costly answers {when}", [{name: row} for row in worst])]


def clean(text: str | None) -> str:
    """A text for display: chat markup removed, control and direction characters made visible, shortened.

    HTML is not escaped here: the template does that with every text.
    """
    if text is None:
        return "(no text in the table)"
    plain = _MARKUP.sub("", text).strip()
    cut = plain[:LONGEST]
    shown = "".join(char if _harmless(char) else "\N{REPLACEMENT CHARACTER}" for char in cut)
    left = len(plain) - len(cut)
    return (shown or "(empty)") + (f" … ({left} more characters)" if left else "")


def _harmless(char: str) -> bool:
    """Neither a control character nor one that turns the direction of the text around it, nor a surrogate."""
    return char in "\n\t" or unicodedata.category(char) not in {"Cc", "Cf", "Cs"} or char in "\u200c\u200d"


def _paired(before: Sequence[Answer], after: Sequence[Answer]) -> list[SampleGroup]:
    pairs = [(before[i], after[j]) for i, j in zip(*paired(before, after).row.values(), strict=True)]
    left = list(range(len(pairs)))

    def take(title: str, count: int, key: Callable[[int], float]) -> SampleGroup:
        chosen = sorted(left, key=key)[:count]
        for index in chosen:
            left.remove(index)
        return SampleGroup(title, [dict(zip((BEFORE, AFTER), pairs[index], strict=True)) for index in chosen])

    order = np.random.default_rng(0).permutation(len(pairs))
    found = [
        take("Most costly after training", _WORST, lambda index: -pairs[index][1]["cost"]),
        take("Most costly before training", _WORST, lambda index: -pairs[index][0]["cost"]),
        take("Cost rose the most", _RISEN, lambda index: pairs[index][0]["cost"] - pairs[index][1]["cost"]),
        take("Drawn at random from the others", _RANDOM, lambda index: float(order[index])),
    ]
    return [group for group in found if group.shown]
