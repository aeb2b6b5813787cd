"""OpenRLHF's flags as data: a name without dashes → its values; merged layer by layer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from openrlhf_rad.errors import ConfigError
from openrlhf_rad.plugin import command_line

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
    found = []
    for name, values in flags.items():
        where = place.get(name, "after --")
        if name in OWN:
            found.append(f"{where}: --{name} is set by rad-train itself; write {OWN[name]}")
        elif name.startswith("rad."):
            continue
        elif command is not None:
            problem = (
                None if values is None and name in command.flags else command.problem(name, values or [])
            )
            found += [f"{where}: {problem}"] if problem else []
        elif command_line.advice(name):
            found.append(f"{where}: {command_line.unknown(name, {})}")
    return found
