"""What ``--red NAME=SOURCE`` and ``--reward SOURCE`` may be."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from openrlhf_rad.errors import ConfigError
from openrlhf_rad.jobs.presets import place
from openrlhf_rad.secrets import redact_url
from openrlhf_rad.tables import FORMATS, is_table

Kind = Literal["model", "function", "remote_url"]


@dataclass(frozen=True)
class Source:
    """A model to evaluate: a table of answers, or a checkpoint that is to answer.

    Attributes:
        name: as it stands in tables and file names. role: red, blue or model.
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
    """A source of rewards or costs."""

    role: Literal["reward", "cost"]
    kind: Kind
    location: str

    def __str__(self) -> str:
        """The kind and the place, without what an address may hold of secrets."""
        return f"{self.kind} {redact_url(self.location) if self.kind == 'remote_url' else self.location}"

    @property
    def fingerprint(self) -> str:
        """A name for the folder of its scores; another source, or another content of a file, has another."""
        path = Path(self.location)
        content = path.read_bytes() if self.kind == "function" and path.is_file() else b""
        text = json.dumps(asdict(self), sort_keys=True).encode()
        return f"{self.role}-{hashlib.sha256(text + content).hexdigest()[:12]}"


def parse_sources(red: str, blue: str, others: Sequence[str]) -> list[Source]:
    """All models: red, the others, blue. Raises ConfigError with every problem."""
    problems: list[str] = []
    found: list[Source] = []
    kinds = ", ".join(FORMATS)
    for role, word in (("red", red), *(("model", word) for word in others), ("blue", blue)):
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
            found.append(Source(name, place(location, Path()), role))
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
    location = place(text, Path())
    if location.startswith(("http://", "https://")):
        return Rating(role, "remote_url", location)
    if location.endswith(".py"):
        return Rating(role, "function", str(Path(location).absolute()))
    return Rating(role, "model", location)
