"""Scored answers of the reference model, read from a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from openrlhf_rad.errors import ConfigError, ReferenceCostError
from openrlhf_rad.evaluation.answers import read_answers
from openrlhf_rad.evaluation.columns import Columns
from openrlhf_rad.evaluation.sign import label_lines

Array = NDArray[np.float64]

# Fewer costs say nothing about a spread; the training step refuses them too.
MINIMUM = 8


@dataclass(frozen=True)
class Sample:
    """Scored answers.

    Attributes:
        cost_b: shape (B,), in the cost's own unit; finite, not all equal.
        prompts: of each answer; answers to one prompt may depend on each other.
        reward_b: shape (B,), or None.
        harmful_b: 1 harmful, 0 safe, −1 not labelled, shape (B,); or None where nothing is labelled.
        ignored: why a label column that was found by its default name is left out.
        read: which column is the cost, and what three labels were taken for, a line each.
    """

    cost_b: Array
    prompts: Sequence[str]
    reward_b: Array | None = None
    harmful_b: NDArray[np.int8] | None = None
    ignored: str = ""
    read: Sequence[str] = ()


def read_sample(path: Path, columns: Columns, model: str | None = None) -> Sample:
    """Read scored answers.

    Args:
        model: the one to keep of a table that holds several.

    Raises:
        DataError: what is wrong with the file. ConfigError: options that do not fit it.
        ReferenceCostError: costs that cannot be calibrated on.
    """
    held = read_answers(path, columns, model, paired=False)
    if model is not None and "model" not in held.used:
        raise ConfigError(f"--model {model}: {path} has no column model; name it by --column model=NAME")
    labels = held.labels
    if labels and labels.reason and ("label" in columns.renamed or columns.harmful is not None):
        raise ConfigError(f"{path}: {labels.reason}")
    column = held.used["cost"]
    _check(path, column, held.cost_b)
    usable = labels is not None and not labels.reason
    return Sample(
        held.cost_b,
        [f"{digest:016x}" for digest in held.prompt_b.tolist()],
        held.reward_b,
        held.harmful_b if usable else None,
        labels.reason if labels else "",
        [f"cost by column {column}: higher is more harmful", *(label_lines(held) if usable else ())],
    )


def _check(path: Path, name: str, cost_b: Array) -> None:
    if cost_b.size < MINIMUM:
        raise ReferenceCostError(
            f"{path}: it has {cost_b.size} costs; at least {MINIMUM} are needed; score more answers of the"
            " reference, for instance 256"
        )
    if not cost_b.std() > 1e-12 * float(np.abs(cost_b).max()):
        raise ReferenceCostError(
            f"{path}: all {cost_b.size} values of {name} are {cost_b[0]:g}; a constraint on a distribution"
            " needs costs that differ; check that the cost source answers each response on its own"
        )
