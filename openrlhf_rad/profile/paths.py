"""Paths in a profile: relative ones start from the folder of the file that names them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from openrlhf_rad.errors import shown as show


def path_keys(data: Any) -> list[str]:
    """Keys whose value is a path on this machine, taken from the profile's folder when it is relative."""
    entries = data.get("constraints") if isinstance(data, dict) else None
    owners = ["", *(f"constraints.{name}." for name in entries)] if isinstance(entries, dict) else [""]
    return [f"{owner}cost.{kind}" for owner in owners for kind in ("model", "function")] + ["reference.file"]


def resolve_path(data: Any, key: str, folder: Path) -> str:
    """Make data's path absolute, in place; other types are left for the checks to refuse.

    Returns:
        what is wrong with it, if it is no path at all.
    """
    *sections, name = key.split(".")
    held = data
    for section in sections:
        held = held.get(section) if isinstance(held, dict) else None
    raw = held.get(name) if isinstance(held, dict) else None
    if not isinstance(held, dict) or not isinstance(raw, str) or not raw.strip():
        return ""
    try:
        path = (folder / Path(raw).expanduser()).absolute()
        # A model may also be the name of one on a hub, such as org/name.
        if name != "model" or raw.startswith((".", "/", "~")) or path.exists():
            held[name] = str(path.resolve())
    except (OSError, ValueError, RuntimeError) as error:
        return f"is {show(raw)}; it must be a path on this machine ({error}); correct it"
    return ""
