"""What ``--baseline NAME=SOURCE`` and ``--reward SOURCE`` may be, and how each becomes a table of scores."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from openrlhf_rad.data import Prompt, load_prompts
from openrlhf_rad.data.load import names_a_file
from openrlhf_rad.errors import ConfigError, DataError
from openrlhf_rad.evaluation.columns import Columns
from openrlhf_rad.evaluation.constraints import SINGLE, Costs
from openrlhf_rad.jobs.presets import place as resolved
from openrlhf_rad.naming import cost_roles
from openrlhf_rad.profile.costs import ClassifierSettings, EnsembleSettings, JudgeSettings, digest_of
from openrlhf_rad.profile.language import plain
from openrlhf_rad.secrets import redact_url
from openrlhf_rad.tables import FORMATS, column_names, is_table, place

Kind = Literal["model", "classifier", "judge", "ensemble", "function", "remote_url"]


@dataclass(frozen=True)
class Source:
    """A model to evaluate: a table of answers, or a checkpoint that is to answer.

    Attributes:
        name: as it stands in tables and file names. role: baseline, candidate or model.
    """

    name: str
    location: str
    role: str

    @property
    def table(self) -> Path | None:
        """The file of answers; None for a checkpoint."""
        return Path(self.location) if is_table(self.location) else None


@dataclass(frozen=True)
class Rating:
    """A source of rewards or costs; a classifier and a judge have settings."""

    role: Literal["reward", "cost"]
    kind: Kind
    location: str
    settings: ClassifierSettings | EnsembleSettings | JudgeSettings | None = None

    def __str__(self) -> str:
        """The kind and the place, without what an address may hold of secrets."""
        place = redact_url(self.location) if self.kind == "remote_url" else self.location
        return f"{self.kind} {place}" + (f", settings {digest_of(self.settings)}" if self.settings else "")

    @property
    def plain(self) -> dict[str, Any]:
        """For a request of another process."""
        settings = None if self.settings is None else plain(self.settings)
        return {"role": self.role, "kind": self.kind, "location": self.location, "settings": settings}

    @property
    def fingerprint(self) -> str:
        """A name for the folder of its scores; another source, or another content of a file, has another."""
        rubric = self.settings.rubric if isinstance(self.settings, JudgeSettings) else None
        path = Path(self.location if self.kind == "function" else rubric or "")
        content = path.read_bytes() if path.is_file() else b""
        text = json.dumps(self.plain, sort_keys=True).encode()
        return f"{self.role}-{hashlib.sha256(text + content).hexdigest()[:12]}"


def parse_sources(baseline: str, candidate: str, others: Sequence[str]) -> list[Source]:
    """All models: baseline, the others, candidate. Raises ConfigError with every problem."""
    problems: list[str] = []
    found: list[Source] = []
    kinds = ", ".join(FORMATS)
    for role, word in (
        ("baseline", baseline),
        *(("model", word) for word in others),
        ("candidate", candidate),
    ):
        name, equals, location = word.partition("=")
        if not equals or not name or not location:
            problems.append(
                f"--{role} {word}: it must be NAME=SOURCE; write for instance --{role} sft=answers.jsonl"
            )
        elif not re.fullmatch(r"[\w.+-]+", name) or name.startswith("."):
            problems.append(
                f"--{role} {word}: the name {name!r} names files too; it may hold letters, digits, . _ +"
                f" and -"
            )
        elif name in {source.name for source in found}:
            problems.append(f"--{role} {word}: the name {name} is given twice; every model needs its own")
        else:
            found.append(Source(name, resolved(location, Path()), role))
    for source in found:
        if source.table is not None and not source.table.is_file():
            problems.append(
                f"--{source.role} {source.name}={source.location}: there is no such file; check the path"
            )
        elif source.table is None and _names_no_checkpoint(source.location):
            problems.append(
                f"--{source.role} {source.name}={source.location}: it is neither a table ({kinds}) nor a"
                " folder with a config.json; name a file of answers or a checkpoint"
            )
    if problems:
        raise ConfigError("\n".join(problems))
    return found


def _names_no_checkpoint(location: str) -> bool:
    """Whether a path holds no checkpoint; other names may be of a hub."""
    local = location.startswith((".", "/", "~"))
    return local and not (Path(location).expanduser() / "config.json").is_file()


def parse_rating(role: Literal["reward", "cost"], text: str) -> Rating:
    """``file.py``, ``http://…`` or a checkpoint, as OpenRLHF tells them apart."""
    location = resolved(text, Path())
    if location.startswith(("http://", "https://")):
        return Rating(role, "remote_url", location)
    if location.endswith(".py"):
        return Rating(role, "function", str(Path(location).absolute()))
    return Rating(role, "model", location)


@dataclass(frozen=True)
class Sampling:
    """How models answer; vLLM's names."""

    samples: int = 1
    temperature: float = 1.0
    top_p: float = 1.0
    max_tokens: int = 256
    max_len: int = 2048
    seed: int = 0
    tensor_parallel_size: int = 1


@dataclass(frozen=True)
class AnswerPlan:
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
    asked: Costs = field(default_factory=lambda: SINGLE)
    labels: frozenset[str] = frozenset()

    @cached_property
    def questions(self) -> list[Prompt]:
        """The prompts that checkpoints answer. Raises DataError, EnvironmentProblem."""
        return load_prompts(self.prompts or "")[: self.limit]

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
        for name, cost in self.asked.items():
            if name in self.costs and not self.columns.find_cost(cost, held):
                wanted.setdefault(self.costs[name], []).append(name)
        single = len(self.asked) == 1
        found = [
            ("cost" if single else f"cost of {', '.join(names)}", rating, names)
            for rating, names in wanted.items()
        ]
        if self.reward and not self.columns.find("reward", held):
            found.append(("reward", self.reward, []))
        return found

    def problems(self, sources: Sequence[Source]) -> list[str]:
        """Whatever is missing, and what is wrong with a file of prompts."""
        found = []
        for source in sources:
            if source.table is None and self.prompts is None:
                found.append(
                    f"{source.name} is a checkpoint and there are no prompts; name them by --prompts FILE"
                )
            held = [] if source.table is None else column_names(source.table)
            lacking = [
                name
                for name, cost in self.asked.items()
                if name not in self.costs and not self.columns.find_cost(cost, held)
            ]
            found += [self._lacks(source, name, held) for name in lacking]
        if self.prompts and any(source.table is None for source in sources):
            try:
                if names_a_file(Path(self.prompts).expanduser()):
                    self.questions  # noqa: B018 - reads them
            except DataError as error:
                found += str(error).split("\n")
        return found

    def _lacks(self, source: Source, cost: str, held: Sequence[str]) -> str:
        """A cost that is neither in the table nor to be had."""
        fix = "add cost: {model: …}, {classifier: …}, {judge: …}, {function: …} or"
        fix += " {remote_url: …} to it, or --set cost.function=FILE.py"
        what = "costs"
        if len(self.asked) > 1:
            what = f"costs for the constraint {cost}"
            fix = f"add constraints.{cost}.cost to it, as {{function: FILE.py}} for instance"
        if source.table is None:
            return f"{source.location} has no {what} and the profile names no source of them; {fix}"
        role = cost_roles(self.asked)[cost]
        return (
            f"{place(source.table, 1)}: the column {self.columns.wanted_cost(cost, self.asked)} is missing,"
            f" the columns are {', '.join(held)}; there are no {what} and the profile names no source of"
            f" them; add the column, name it by --column {role}=NAME, or {fix}"
        )
