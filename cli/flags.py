"""OpenRLHF's flags as data: a name without dashes → its values; merged layer by layer.

``--config FILE.yaml`` holds them as YAML: nested maps become dotted names, ``true`` a bare flag, a list
several values; ``false`` and ``null`` leave a flag out, also one of a preset.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from openrlhf_rad.errors import ConfigError, Problem, ProfileError
from openrlhf_rad.plugin import command_line
from openrlhf_rad.profile.yaml import Node, parse

#: A bare flag has no values; None takes a flag of an earlier layer away.
Flags = dict[str, list[str] | None]

#: Flags that rad-train writes itself, and the option that sets them.
OWN = {"rad.profile": "--profile", "rad.set": "--set", "rad.out": "--out"}


def from_words(words: Iterable[str]) -> Flags:
    """The words after ``--``; of a repeated flag the last counts, as for argparse.

    Raises:
        ConfigError: a first word that is no flag.
    """
    flags: Flags = {}
    values: list[str] | None = None
    for word in words:
        if word.startswith("--") and len(word) > 2:
            name, equals, value = word[2:].partition("=")
            values = flags[name] = [value] if equals else []
        elif values is None:
            raise ConfigError(
                f"{word} is not an option; options of rad-train come first, OpenRLHF's flags after --;"
                " write for instance rad-train --profile medical -- --actor.adam.lr 1e-5"
            )
        else:
            values.append(word)
    return flags


def merge(*layers: Mapping[str, list[str] | None]) -> Flags:
    """Later layers win; a flag keeps the place of its first mention."""
    merged: Flags = {}
    for layer in layers:
        merged.update(layer)
    return {name: values for name, values in merged.items() if values is not None}


def to_words(flags: Mapping[str, list[str] | None]) -> list[str]:
    """The flags as words of a command line."""
    return [word for group in groups(flags) for word in group]


def groups(flags: Mapping[str, list[str] | None]) -> list[list[str]]:
    """Each flag with its values, as words."""
    return [[f"--{name}", *values] for name, values in flags.items() if values is not None]


def value(flags: Mapping[str, list[str] | None], name: str, default: str = "") -> str:
    """The first value of a flag, or the default where it is absent or bare."""
    values = flags.get(name)
    return values[0] if values else default


def whole(flags: Mapping[str, list[str] | None], name: str, default: int) -> int:
    """The value of a flag that counts something. Raises ConfigError for anything but a whole number."""
    text = value(flags, name, str(default))
    try:
        return int(text)
    except ValueError:
        raise ConfigError(
            f"--{name} is {text}; it must be a whole number; {default} is the default"
        ) from None


def problems(flags: Mapping[str, list[str] | None], place: Mapping[str, str]) -> list[str]:
    """Flags that are unknown or rad-train's own, and values that OpenRLHF's parser refuses; with places.

    Where OpenRLHF is not installed nothing is known of its flags but what the old ones are called now.
    """
    command = command_line.installed()
    lines = []
    for name, values in flags.items():
        where = place.get(name, "after --")
        if name in OWN:
            lines.append(f"{where}: --{name} is set by rad-train itself; write {OWN[name]}")
        elif name.startswith("rad."):
            continue
        elif command is not None:
            problem = (
                None if values is None and name in command.flags else command.problem(name, values or [])
            )
            lines += [f"{where}: {problem}"] if problem else []
        elif command_line.advice(name):
            lines.append(f"{where}: {command_line.unknown(name, {})}")
    return lines


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
