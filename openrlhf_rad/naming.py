"""What files and messages call each of the costs and constraints that a profile names.

Everywhere else they are mappings by name, however many there are. Files are older than several costs and call
the only one by a plain word; so the first has that word in some of them still. Both are decided here alone.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any


def spelled(names: Collection[str], each: str, only: str = "") -> dict[str, str]:
    """Name → ``each`` with the name in place of ``{}``, or ``only`` where there is but one."""
    return {name: each.format(name) if len(names) > 1 else only for name in names}


def prefixes(names: Collection[str]) -> dict[str, str]:
    """What a message about each begins with: ``harm: ``, or nothing where there is but one."""
    return spelled(names, "{}: ")


def cost_columns(names: Collection[str]) -> dict[str, str]:
    """The column of each cost in a table of numbers: ``cost``, or ``cost_harm``, ``cost_privacy``."""
    return spelled(names, "cost_{}", "cost")


def cost_roles(names: Collection[str]) -> dict[str, str]:
    """What ``--column`` calls each cost: ``cost``, or ``cost.harm``, ``cost.privacy``."""
    return spelled(names, "cost.{}", "cost")


def cost_arrays(names: Collection[str]) -> dict[str, str]:
    """The array of each cost in ``reference_costs.npz``: the first as a file of one cost has it."""
    return {name: f"costs_{name}" if place else "costs" for place, name in enumerate(names)}


def metric_scopes(constraints: Collection[str]) -> dict[str, str]:
    """What the columns of each constraint in ``metrics.jsonl`` begin with: ``harm/``, or nothing."""
    return spelled(constraints, "{}/")


def metric_columns(metrics: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Metrics of all constraints as columns of ``metrics.jsonl``; the first's have their plain names too."""
    scopes, first = metric_scopes(metrics), next(iter(metrics.values()), {})
    scoped = {f"{scopes[one]}{name}": value for one, held in metrics.items() for name, value in held.items()}
    return {**first, **scoped}


def split_constraints(row: Iterable[str]) -> list[str]:
    """The constraints with columns of their own in a step of ``metrics.jsonl``; a single one has none."""
    return [column.removesuffix("/lambda") for column in row if column.endswith("/lambda")]


def cost_record(costs: Mapping[str, float]) -> dict[str, Any]:
    """The costs of an answer in a line of JSON: ``cost`` is the first; of several all stand in ``costs``."""
    several = {"costs": dict(costs)} if len(costs) > 1 else {}
    return {"cost": next(iter(costs.values())), **several}


def recorded_costs(row: Mapping[str, Any], names: Collection[str]) -> Mapping[str, float]:
    """The costs by name of an answer that :func:`cost_record` has written; one that is absent is left out."""
    return row.get("costs", {}) if len(names) > 1 else dict.fromkeys(names, row["cost"])
