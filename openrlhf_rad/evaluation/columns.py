"""The columns of a table of answers, by the role that they play."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from openrlhf_rad.errors import ConfigError
from openrlhf_rad.evaluation.costs import SINGLE, CostOf

#: Role → names under which its column is looked for, in this order.
NAMES: Mapping[str, tuple[str, ...]] = {
    "prompt": ("prompt", "prompt_id", "input", "test_case"),
    "answer": ("answer", "response", "output", "completion", "generation"),
    "reward": ("reward",),
    "cost": ("cost",),
    "segment": ("segment", "label"),
    "model": ("model",),
    "seed": ("seed",),
    "sample": ("sample",),
}


@dataclass(frozen=True)
class Columns:
    """Which column plays which role; a role that is not renamed is looked for under its usual names."""

    renamed: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, words: Iterable[str], costs: Sequence[CostOf] = SINGLE) -> Columns:
        """Read ``cost=harm_score``, ``cost.privacy=leaks`` and so on. Raises ConfigError, all at once."""
        roles = [*NAMES, *(f"cost.{cost.name}" for cost in costs if len(costs) > 1)]
        renamed: dict[str, str] = {}
        problems = []
        for word in words:
            role, equals, name = word.partition("=")
            if role not in roles or not equals or not name:
                close = difflib.get_close_matches(role, roles, 1)
                hint = f"did you mean {close[0]}=…?" if close else "write for instance cost=harm_score"
                problems.append(
                    f"--column {word}: it must be ROLE=NAME with a role of {', '.join(roles)}; {hint}"
                )
            elif role in renamed:
                problems.append(f"--column {word}: {role} is given twice; remove one")
            else:
                renamed[role] = name
        if problems:
            raise ConfigError("\n".join(problems))
        return cls(renamed)

    def find(self, role: str, held: Iterable[str]) -> str | None:
        """The column that plays a role among those a file holds, in whatever case; None for none."""
        names = (self.renamed[role],) if role in self.renamed else NAMES[role]
        present = {name.casefold(): name for name in held} | {name: name for name in held}
        found = (present.get(name) or present.get(name.casefold()) for name in names)
        return next((name for name in found if name), None)

    def wanted(self, role: str) -> str:
        """The name to tell a user who lacks the column."""
        return self.renamed.get(role, NAMES[role][0])

    def find_cost(self, cost: CostOf, held: Iterable[str]) -> str | None:
        """The column of a constraint's cost among those a file holds, None where there is none.

        A column that the user named; else ``cost_NAME``, or the key NAME of the column ``costs``, with the
        name of the constraint or of its source; else, of the first constraint, ``cost``.
        """
        words = list(dict.fromkeys(name for name in (cost.name, cost.source) if name))
        present = set(held)
        roles = [f"cost.{word}" for word in words] + (["cost"] if cost.first else [])
        named = next((self.renamed[role] for role in roles if role in self.renamed), None)
        if named is not None:
            return named if named in present else None
        names = [name for word in words for name in (f"cost_{word}", f"costs.{word}")]
        return next((name for name in [*names, *(["cost"] if cost.first else [])] if name in present), None)

    def wanted_cost(self, cost: CostOf, costs: Sequence[CostOf]) -> str:
        """The name to tell a user who lacks the column of a cost."""
        role = cost_role(cost, costs)
        usual = "cost" if role == "cost" else f"cost_{cost.name}"
        return self.renamed.get(role, usual)


def cost_role(cost: CostOf, costs: Sequence[CostOf]) -> str:
    """How ``--column`` calls a cost: of a profile with one constraint ``cost``."""
    return "cost" if len(costs) == 1 else f"cost.{cost.name}"
