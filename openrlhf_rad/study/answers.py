"""The scored answers of all models, the data that every table and figure is made from; as Parquet files.

Of the exact world the parameters of the policies are kept, from which the probability of every answer
follows; of a job the costs and rewards of sampled answers by the number of their prompt. No text is kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from openrlhf_rad.errors import DataError
from openrlhf_rad.study.exact import HELD_OUT, OTHER, Prompts
from openrlhf_rad.study.spec import START
from openrlhf_rad.tables.formats import arrow, write_parquet

Array = NDArray[np.float64]
Columns = Mapping[str, Sequence[Any] | NDArray[Any]]
#: The tables of a study, by file: three of the exact world, one of a job; what is told of every run; of the
#: exact world also what models went through on average, every tenth step, and the steps of H5.
PROMPTS, WORLDS, POLICIES, ANSWERS, RUNS, PATHS, STEPS = (
    "prompts",
    "worlds",
    "policies",
    "answers",
    "runs",
    "paths",
    "steps",
)


@dataclass(frozen=True)
class ModelScores:
    """One model's answers to one set of prompts, as many to each; arrays are of shape (P, K).

    Attributes:
        mass_pk: the probability of each answer given its prompt, rows of sum 1.
        other_pk: costs from a source that took no part in training; None where there is none.
    """

    mass_pk: Array
    cost_pk: Array
    reward_pk: Array
    other_pk: Array | None = None


#: (model, seed, set of prompts) → scores.
Table = dict[tuple[str, int, str], ModelScores]


def write_table(folder: Path, name: str, columns: Columns) -> None:
    """Write one table, whole or not at all. Raises EnvironmentProblem: no pyarrow, or the disk is full."""
    folder.mkdir(parents=True, exist_ok=True)
    write_parquet(_file(folder, name), columns, "zstd")


def read_table(folder: Path, name: str) -> dict[str, NDArray[Any]]:
    """The columns of one table. Raises DataError where it is missing, EnvironmentProblem without pyarrow."""
    path = _file(folder, name)
    if not path.is_file():
        raise DataError(f"{path}: there is no such file; run the study, which writes it")
    _, parquet = arrow(path)
    table = parquet.read_table(path)
    return {column: table[column].to_numpy() for column in table.column_names}


def read_scores(folder: Path) -> Table:
    """All scores of a study's data, of either kind."""
    return _sampled(folder) if _file(folder, ANSWERS).is_file() else _enumerated(folder)


def _enumerated(folder: Path) -> Table:
    held, answers, policies = (read_table(folder, name) for name in (PROMPTS, WORLDS, POLICIES))
    features = [name for name in held if name.startswith("x")]
    worlds: dict[tuple[int, str], Prompts] = {}
    for seed in np.unique(held["seed"]):
        for name in (HELD_OUT, OTHER):
            mine = (held["seed"] == seed) & (held["set"] == name)
            theirs = (answers["seed"] == seed) & (answers["set"] == name)
            shape = int(mine.sum()), -1
            start, reward, cost = (
                answers[key][theirs].astype(np.float64).reshape(shape) for key in ("start", "reward", "cost")
            )
            feature_pd = np.stack([held[key][mine] for key in features], axis=1).astype(np.float64)
            worlds[int(seed), name] = Prompts(feature_pd, start, reward, cost)
    table: Table = {}
    for model, seed, weights in zip(*(policies[key] for key in ("model", "seed", "weights")), strict=True):
        weight_da = np.asarray(weights, dtype=np.float64).reshape(len(features), -1)
        for name in (HELD_OUT, OTHER):
            world = worlds[int(seed), name]
            table[str(model), int(seed), name] = ModelScores(
                world.policy(weight_da), world.cost_pa, world.reward_pa
            )
    return table


def _sampled(folder: Path) -> Table:
    columns = read_table(folder, ANSWERS)
    order = np.lexsort([columns[key] for key in ("sample", "prompt", "set", "seed", "model")])
    columns = {name: values[order] for name, values in columns.items()}
    label = list(zip(*(columns[key] for key in ("model", "seed", "set")), strict=True))
    starts = [i for i, key in enumerate(label) if i == 0 or key != label[i - 1]]
    table: Table = {}
    for first, last in zip(starts, [*starts[1:], len(label)], strict=True):
        part = {name: values[first:last] for name, values in columns.items()}
        prompts = int(np.unique(part["prompt"]).size)
        shaped = {
            key: part[key].astype(np.float64).reshape(prompts, -1)
            for key in ("cost", "reward", "independent")
            if key in part and not np.isnan(part[key].astype(np.float64)).any()
        }
        mass_pk = np.full_like(shaped["cost"], 1 / shaped["cost"].shape[1])
        table[str(part["model"][0]), int(part["seed"][0]), str(part["set"][0])] = ModelScores(
            mass_pk, shaped["cost"], shaped["reward"], shaped.get("independent")
        )
    # The start is the same under every seed.
    seeds = {seed for model, seed, _ in table if model != START}
    for (model, _, name), scores in list(table.items()):
        if model == START:
            table |= {(START, seed, name): scores for seed in seeds}
    return table


def _file(folder: Path, name: str) -> Path:
    return folder / f"{name}.parquet"
