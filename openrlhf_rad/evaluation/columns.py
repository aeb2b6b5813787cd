"""The columns of a table of answers, by the role that they play."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from openrlhf_rad.evaluation.constraints import SINGLE, CostOf, Costs
from openrlhf_rad.naming import cost_columns, cost_roles
from openrlhf_rad.tables import named_columns

Value = TypeVar("Value", float, NDArray[np.float64])

#: Role → names under which its column is looked for, in this order.
NAMES: Mapping[str, tuple[str, ...]] = {
    "prompt": ("prompt", "prompt_id", "input", "test_case"),
    "answer": ("answer", "response", "output", "completion", "generation"),
    "reward": ("reward",),
    "cost": ("cost",),
    "segment": ("segment", "label"),
    "label": ("is_safe", "safe", "is_harmful", "harmful", "is_unsafe", "unsafe", "toxic", "label"),
    "model": ("model",),
    "seed": ("seed",),
    "sample": ("sample",),
}
#: ``-x`` and ``1-x``: a column turned round.
_TURNED = re.compile(r"(1?)\s*-\s*(.+)")


@dataclass(frozen=True)
class CostColumn:
    """A column of costs, as it is or turned round.

    Attributes:
        whole: the cost is ``whole`` less the column's value; None where it is the value itself.
    """

    name: str
    whole: float | None = None

    def cost(self, value: Value) -> Value:
        """The cost, higher for more harm, of the column's value."""
        return value if self.whole is None else self.whole - value

    def __str__(self) -> str:
        return self.name if self.whole is None else f"{f'{self.whole:g} ' if self.whole else ''}− {self.name}"


@dataclass(frozen=True)
class Columns:
    """Which column plays which role; a role that is not renamed is looked for under its usual names.

    Attributes:
        harmful: the label that means harmful; None: labels speak for themselves.
        labelled: whether labels are looked at, to check the sign of the costs.
    """

    renamed: Mapping[str, str] = field(default_factory=dict)
    harmful: str | None = None
    labelled: bool = True

    @classmethod
    def parse(
        cls,
        words: Sequence[str],
        costs: Costs = SINGLE,
        harmful: str | None = None,
        *,
        labelled: bool = True,
    ) -> Columns:
        """Read ``cost=harm_score``, ``cost=-safety_score``, ``cost.privacy=leaks``. Raises ConfigError."""
        roles = list(dict.fromkeys([*NAMES, *cost_roles(costs).values()]))
        problems = []
        if not labelled and (harmful is not None or any(word.startswith("label=") for word in words)):
            problems.append("--no-labels: labels are named too, by --column label=… or --harmful; drop one")
        renamed = named_columns(words, roles, "cost=harm_score", problems)
        return cls(renamed, harmful, labelled)

    @property
    def of_a_copy(self) -> Columns:
        """Those of a table that was made here: the usual names, and the labels under their own."""
        label = {role: name for role, name in self.renamed.items() if role == "label"}
        return replace(self, renamed=label)

    def find(self, role: str, held: Iterable[str]) -> str | None:
        """The column that plays a role among those a file holds, in whatever case; None for none."""
        if role == "label" and not self.labelled:
            return None
        names = (self.renamed[role],) if role in self.renamed else NAMES[role]
        present = _spellings(held)
        return next((found for name in names if (found := _spelled(name, present))), None)

    def wanted(self, role: str) -> str:
        """The name to tell a user who lacks the column."""
        return self.renamed.get(role, NAMES[role][0])

    def find_cost(self, cost: CostOf, held: Iterable[str]) -> CostColumn | None:
        """The column of a constraint's cost among those a file holds, None where there is none.

        A column that the user named, ``-x`` and ``1-x`` turning x round; else ``cost_NAME``, or the key NAME
        of the column ``costs``, with the name of the constraint or of its source; else, of the first
        constraint, ``cost``.
        """
        words = list(dict.fromkeys(name for name in (cost.name, cost.source) if name))
        present = _spellings(held)
        roles = [f"cost.{word}" for word in words] + (["cost"] if cost.first else [])
        named = next((self.renamed[role] for role in roles if role in self.renamed), None)
        if named is not None:
            return _turned(named, present)
        names = [name for word in words for name in (f"cost_{word}", f"costs.{word}")]
        names += ["cost"] if cost.first else []
        return next((CostColumn(found) for name in names if (found := _spelled(name, present))), None)

    def wanted_cost(self, name: str, costs: Costs) -> str:
        """The name to tell a user who lacks the column of a cost."""
        return self.renamed.get(cost_roles(costs)[name], cost_columns(costs)[name])


def _turned(word: str, present: Mapping[str, str]) -> CostColumn | None:
    """The column that a word of the user means; a column of just that name comes first."""
    if name := _spelled(word, present):
        return CostColumn(name)
    match = _TURNED.fullmatch(word)
    name = _spelled(match[2], present) if match else None
    return CostColumn(name, float(match[1] or 0)) if match and name else None


def _spellings(held: Iterable[str]) -> Mapping[str, str]:
    """The columns of a file by their names, and without regard to case where that leaves no doubt."""
    names = list(held)
    folded = [name.casefold() for name in names]
    alone = {fold: name for fold, name in zip(folded, names, strict=True) if folded.count(fold) == 1}
    return alone | {name: name for name in names}


def _spelled(name: str, present: Mapping[str, str]) -> str | None:
    return present.get(name) or present.get(name.casefold())
