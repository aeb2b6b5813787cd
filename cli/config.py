"""``--config FILE.yaml``: OpenRLHF's flags as YAML.

Nested maps become dotted names, ``true`` a bare flag, a list several values; ``false`` and ``null`` leave a
flag out, also one of a preset.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from openrlhf_rad.errors import ConfigError, ProfileError
from openrlhf_rad.profile.document import Document, parse

from .flags import Flags


@dataclass(frozen=True)
class Config:
    """The flags of a file, and where each one's value stands as ``file:line:column``."""

    flags: Flags
    places: dict[str, str]


def load(path: Path) -> Config:
    """Read a file of flags.

    Raises:
        ConfigError: with every problem, one a line.
    """
    try:
        document = parse(path.read_text(encoding="utf-8-sig"), str(path))
    except FileNotFoundError:
        raise ConfigError(f"--config {path}: there is no such file; check the path") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"--config {path}: it cannot be read ({error}); check the path") from None
    except ProfileError as error:
        raise ConfigError(str(error)) from None
    if document.data is None:
        return Config({}, {})
    if not isinstance(document.data, dict):
        kind = "a list" if isinstance(document.data, list) else "one value"
        raise ConfigError(
            f"{document.place('')}: the file holds {kind}; it must be a mapping of OpenRLHF's flags;"
            " write for instance rollout.batch_size: 16"
        )
    return _flags(document)


def _flags(document: Document) -> Config:
    problems = list(document.problems)
    config = Config({}, {})
    for name, path, raw in _leaves(document.data, "", ""):
        place = document.place(path)
        if name in config.places:
            first = config.places[name]
            problems.append(
                f"{place}: {name} is given twice; a flag may appear once; the first is at {first}"
            )
            continue
        config.places[name] = place
        try:
            config.flags[name] = _values(raw)
        except ValueError as error:
            problems.append(f"{place}: {name} {error}")
    if problems:
        raise ConfigError("\n".join(problems))
    return config


def _leaves(data: dict[str, Any], name: str, path: str) -> Iterator[tuple[str, str, Any]]:
    """(flag, key of its place, value); a leading ``--`` of a name is forgiven."""
    for key, held in data.items():
        full = f"{name}.{key.removeprefix('--')}" if name else key.removeprefix("--")
        where = f"{path}.{key}" if path else key
        if isinstance(held, dict) and held:
            yield from _leaves(held, full, where)
        else:
            yield full, where, held


def _values(raw: Any) -> list[str] | None:
    """The words of a value; None leaves the flag out. Raises ValueError with rule and fix."""
    if raw is None or raw is False:
        return None
    if raw is True:
        return []
    if isinstance(raw, dict):
        raise ValueError("is an empty mapping; it must hold flags; remove it")
    items = raw if isinstance(raw, list) else [raw]
    if not items:
        raise ValueError("is an empty list; a flag takes at least one value; write null to leave it out")
    if any(isinstance(item, list | dict | bool) or item is None for item in items):
        raise ValueError("is a list of more than texts and numbers; write it as [a, b]")
    return [str(item) for item in items]
