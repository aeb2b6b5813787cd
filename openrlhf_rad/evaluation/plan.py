"""What an evaluation does with each source before it can compare: read, answer, score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from openrlhf_rad.errors import ConfigError
from openrlhf_rad.evaluation.columns import Columns, cost_role
from openrlhf_rad.evaluation.costs import SINGLE, CostOf
from openrlhf_rad.evaluation.sources import Rating, Source
from openrlhf_rad.evaluation.work import Sampling
from openrlhf_rad.tables import column_names, place


@dataclass(frozen=True)
class Plan:
    """How each source becomes a table.

    Attributes:
        prompts: file or data set; needed where a checkpoint is to answer.
        costs, reward: needed where answers have no scores; costs by the name of the constraint.
        asked: the costs of the profile's constraints, one each.
        labels: of the profile's segments. A prompt of a data set whose label is one of them is of that
            segment; other prompts are of the segment that the data set gives them.
        rescore: score also the answers that have scores.
        texts: keep the texts of all answers in the evaluation's folder, also of tables that hold scores.
        limit: answer only the first so many prompts.
    """

    out: Path
    columns: Columns
    prompts: str | None = None
    costs: Mapping[str, Rating] = field(default_factory=dict)
    reward: Rating | None = None
    template: str | None = None
    sampling: Sampling = field(default_factory=Sampling)
    rescore: bool = False
    texts: bool = False
    limit: int | None = None
    asked: Sequence[CostOf] = SINGLE
    labels: frozenset[str] = frozenset()

    def steps(self, source: Source) -> list[str]:
        """What will be done for a source, in words."""
        if source.table is None:
            found = [f"answer {self.prompts} with {source.location}, {self.sampling.samples} a prompt"]
        else:
            found = [f"read {source.table}"]
        return found + [
            f"{what} by {rating.kind} {rating.location}" for what, rating, _ in self.ratings(source)
        ]

    def ratings(self, source: Source) -> list[tuple[str, Rating, list[str]]]:
        """What a source lacks, as far as there is a source for it: (in words, rating, its constraints).

        Constraints that share a source of costs share its scores.
        """
        held: list[str] = [] if source.table is None or self.rescore else column_names(source.table)
        wanted: dict[Rating, list[str]] = {}
        for cost in self.asked:
            if cost.name in self.costs and not self.columns.find_cost(cost, held):
                wanted.setdefault(self.costs[cost.name], []).append(cost.name)
        single = len(self.asked) == 1
        found = [
            ("cost" if single else f"cost of {', '.join(names)}", rating, names)
            for rating, names in wanted.items()
        ]
        if self.reward and not self.columns.find("reward", held):
            found.append(("reward", self.reward, []))
        return found

    def check(self, sources: Sequence[Source]) -> None:
        """Raise ConfigError for whatever is missing, before anything starts."""
        problems = []
        for source in sources:
            if source.table is None and self.prompts is None:
                problems.append(
                    f"{source.name} is a checkpoint and there are no prompts; name them by --prompts FILE"
                )
            held = [] if source.table is None else column_names(source.table)
            lacking = [
                cost
                for cost in self.asked
                if cost.name not in self.costs and not self.columns.find_cost(cost, held)
            ]
            problems += [self._lacks(source, cost, held) for cost in lacking]
        if problems:
            raise ConfigError("\n".join(problems))

    def _lacks(self, source: Source, cost: CostOf, held: Sequence[str]) -> str:
        """A cost that is neither in the table nor to be had."""
        fix = "add cost: {model: …}, {function: …} or {remote_url: …} to it, or --set cost.function=FILE.py"
        what = "costs"
        if len(self.asked) > 1:
            what = f"costs for the constraint {cost.name}"
            fix = f"add constraints.{cost.name}.cost to it, as {{function: FILE.py}} for instance"
        if source.table is None:
            return f"{source.location} has no {what} and the profile names no source of them; {fix}"
        role = cost_role(cost, self.asked)
        return (
            f"{place(source.table, 1)}: the column {self.columns.wanted_cost(cost, self.asked)} is missing,"
            f" the columns are {', '.join(held)}; there are no {what} and the profile names no source of"
            f" them; add the column, name it by --column {role}=NAME, or {fix}"
        )
