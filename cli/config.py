"""``--config FILE.yaml``: OpenRLHF's flags as YAML.

Nested maps become dotted names, ``true`` a bare flag, a list several values; ``false`` and ``null`` leave a
flag out, also one of a preset.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from openrlhf_rad.errors import ConfigError, Problem, ProfileError
from openrlhf_rad.profile.yaml import Node, parse

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
        root, problems = parse(path.read_text(encoding="utf-8-sig"), str(path))
    except FileNotFoundError:
        raise ConfigError(f"--config {path}: there is no such file; check the path") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"--config {path}: it cannot be read ({error}); check the path") from None
    except ProfileError as error:
        raise ConfigError(str(error)) from None
    if root.value is None:
        return Config({}, {})
    if not isinstance(root.value, dict):
        kind = "a list" if isinstance(root.value, list) else "one value"
        rule, fix = "it must be a mapping of OpenRLHF's flags", "write for instance rollout.batch_size: 16"
        raise ConfigError(str(Problem(root.place, "the file", kind, rule, fix, "holds")))
    return _flags(root, [str(problem) for problem in problems])


def _flags(root: Node, problems: list[str]) -> Config:
    config = Config({}, {})
    for name, node in _leaves(root, ""):
        if name in config.places:
            first = config.places[name]
            problems.append(
                f"{node.place}: {name} is given twice; a flag may appear once; the first is at {first}"
            )
            continue
        config.places[name] = str(node.place)
        try:
            config.flags[name] = _values(node.plain())
        except ValueError as error:
            problems.append(f"{node.place}: {name} {error}")
    if problems:
        raise ConfigError("\n".join(problems))
    return config


def _leaves(mapping: Node, name: str) -> Iterator[tuple[str, Node]]:
    """Each flag and its value; a leading ``--`` of a name is forgiven."""
    for key, held in mapping.keys.items():
        full = f"{name}.{key.removeprefix('--')}" if name else key.removeprefix("--")
        if held.keys:
            yield from _leaves(held, full)
        else:
            yield full, held


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
