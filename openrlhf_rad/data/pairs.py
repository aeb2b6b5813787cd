"""Pairs as OpenRLHF's train_rm reads them: the model learns to score ``chosen`` higher.

A reward is to be higher for the more helpful answer, a cost for the more *harmful* one: pairs of harm are
written the other way round than published sets have them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from openrlhf_rad.data.labels import EQUAL_SIDES, label_columns, load_labels
from openrlhf_rad.data.load import load_pairs
from openrlhf_rad.errors import DataError

#: Words in the name of a published set that say what its pairs were compared by.
_SAYS = {"helpful": "helpfulness", "harmless": "harm"}


@dataclass(frozen=True)
class TrainingPair:
    """Two answers to a prompt, of which ``chosen`` is to score higher."""

    prompt: str
    chosen: str
    rejected: str

    def line(self, *, chat: bool = False) -> dict[str, Any]:
        """As train_rm reads it; ``chat``: as messages, for --data.apply_chat_template."""
        if not chat:
            return {"prompt": self.prompt, "chosen": self.chosen, "rejected": self.rejected}
        return {
            "prompt": [{"role": "user", "content": self.prompt}],
            "chosen": [{"role": "assistant", "content": self.chosen}],
            "rejected": [{"role": "assistant", "content": self.rejected}],
        }


def load_training_pairs(
    source: str | Path,
    *,
    by: Literal["helpfulness", "harm"],
    columns: Sequence[str] = (),
    harmful: str | None = None,
    shape: str | None = None,
    where: Mapping[str, str] | None = None,
    config: str | None = None,
    split: str | None = None,
) -> list[TrainingPair]:
    """The pairs of a published set, or of labelled answers, with the sign of a reward or of a cost.

    Args:
        by: helpfulness: chosen is the more helpful answer. harm: the more harmful one, by flags, scores or
            comparisons.
        columns, harmful: of labelled answers, as :func:`~openrlhf_rad.data.labels.load_labels`.

    Raises:
        DataError: with every bad row; a set whose name says that it was compared by the other; no pairs.
    """
    named = [word for word in (str(source), config, split) if word]
    for word, meant in _SAYS.items():
        if meant != by and any(word in name.casefold() for name in named):
            raise DataError(
                f"{source}: its name says {word}, and pairs by {by} are asked for; name the other part of the"
                f" set, or write --by {meant}"
            )
    if by == "harm":
        labels = load_labels(
            source,
            columns=label_columns(columns),
            harmful=harmful,
            shape=shape,
            where=where,
            config=config,
            split=split,
        )
        texts = [(e.prompt, e.answer) for e in labels.examples]
        found = [TrainingPair(*texts[worse], texts[better][1]) for worse, better in labels.pairs]
    else:
        held = load_pairs(source, by="helpfulness", shape=shape, where=where, config=config, split=split)
        equal = [pair.prompt for pair in held if pair.chosen == pair.rejected]
        if equal:
            raise DataError([f"{source}: prompt {prompt[:60]!r}: {EQUAL_SIDES}" for prompt in equal])
        found = [TrainingPair(pair.prompt, pair.chosen, pair.rejected) for pair in held]
    if not found:
        raise DataError(f"{source}: no two answers to one prompt differ by {by}; pairs need such answers")
    return found
