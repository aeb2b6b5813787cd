"""`extends`: a profile that takes over all that it does not say from another one.

The base is a shipped profile, by its name, or a file, by a path relative to the file that names it; never
an address. Mappings are merged key by key; a risk, a cost and a list are replaced whole; `null` takes an
inherited value back. A level and a margin belong to a form, so a new form begins with its own; likewise the
gains of a method of `dual` and the memory of its estimate. Name and description are a file's own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from openrlhf_rad.errors import ProfileError
from openrlhf_rad.errors import shown as show
from openrlhf_rad.method.measures import ALIASES
from openrlhf_rad.profile.document import Document
from openrlhf_rad.profile.dual_settings import BELONGS
from openrlhf_rad.profile.expression import parse_expression

#: As many files as a reader can follow.
MAX_DEPTH = 8
_OWN = ("name", "description", "extends")
# What belongs to one value of a key, and goes when the child names another.
_BELONGS = {"form": ("level", "margin"), **BELONGS}
# What a mapping under `risk` says itself; without one of them it only sets parameters of the base's risk.
_WHOLE_RISK = ("measure", "piecewise", "mixture")


class Base(NamedTuple):
    """A document, the folder that its relative paths start from, and what tells its file from others."""

    document: Document
    folder: Path
    identity: str


#: The base that a document names.
Reader = Callable[[str, Base], Base]


def extend(top: Base, read: Reader) -> None:
    """Merge the bases of a document into it, in place; what goes wrong becomes a problem of the document."""
    chain, document = [top], top.document
    while isinstance(chain[-1].document.data, dict) and "extends" in chain[-1].document.data:
        here = chain[-1].document
        found = _base(here.data["extends"], chain, read)
        if isinstance(found, str):
            place = here.place("extends")
            document.problems.append(f"{place}: extends is {show(here.data['extends'])}; {found}")
            # Much may be missing that the base would have said.
            document.incomplete = True
            break
        chain.append(found)
    if len(chain) > 1:
        merged = _merged([base.document for base in chain])
        document.data, document.places, document.texts = merged.data, merged.places, merged.texts
        document.problems += [line for base in chain[1:] for line in base.document.problems]
        document.sources = [base.document.source for base in chain]
    if isinstance(document.data, dict):
        document.data.pop("extends", None)


def _base(written: Any, chain: list[Base], read: Reader) -> Base | str:
    """What `extends` names, or rule and fix."""
    if fault := _fault(written, len(chain)):
        return fault
    try:
        base = read(written, chain[-1])
    except ProfileError as error:
        return "; ".join(error.problems)
    if base.identity in (known.identity for known in chain):
        return f"it comes back to {base.document.source}, which extends this one; remove one extends"
    return base


def _fault(written: Any, depth: int) -> str:
    if not isinstance(written, str) or not written.strip():
        return "it must be the name of a shipped profile or a path; write extends: general-assistant"
    if "://" in written:
        return "it must be a shipped name or a path, never an address; copy the file and name its path"
    if Path(written).is_absolute() or written.startswith("~"):
        return "a path must be relative to this file, so that both can move; write for instance ./base.yaml"
    return f"files may extend one another {MAX_DEPTH} deep; merge some of them" if depth > MAX_DEPTH else ""


def _merged(chain: list[Document]) -> Document:
    """One document of all, the first overriding the rest."""
    merged = chain[-1]
    for child in reversed(chain[:-1]):
        if not isinstance(merged.data, dict):
            merged.data = {}
        for key in _OWN:
            merged.data.pop(key, None)
            _forget(merged, key)
        _merge(merged, merged.data, child.data, "")
        merged.places.update(child.places)
        merged.texts.update(child.texts)
    return merged


def _merge(merged: Document, base: dict[str, Any], child: dict[str, Any], path: str) -> None:
    for choice, names in _BELONGS.items():
        if choice in child and child[choice] != base.get(choice):
            for key in names:
                base.pop(key, None)
                _forget(merged, _join(path, key))
    for key, value in child.items():
        dotted = _join(path, key)
        held = _held(merged, base.get(key), value, dotted)
        if value is None:
            base.pop(key, None)
            _forget(merged, dotted)
        elif isinstance(value, dict) and isinstance(held, dict) and key != "cost":
            base[key] = held
            _merge(merged, held, value, dotted)
        else:
            base[key] = value
            _forget(merged, dotted)


def _held(merged: Document, held: Any, value: Any, dotted: str) -> Any:
    """The base's value as what the child's can be merged into; None where it is to be replaced."""
    path, _, key = dotted.rpartition(".")
    if key == "risk" and isinstance(value, dict):
        return None if any(name in value for name in _WHOLE_RISK) else _risk(merged, held, value, dotted)
    entry = path.rpartition(".")[2] in ("constraints", "segments")
    if entry and isinstance(value, dict) and isinstance(held, str):
        # An entry's short form is its risk.
        place = merged.place(dotted)
        _forget(merged, dotted)
        merged.places[f"{dotted}.risk"] = place
        return {"risk": held}
    return held


def _risk(merged: Document, held: Any, value: dict[str, Any], dotted: str) -> Any:
    """The base's risk in the long form, without the parameters that the child sets."""
    if isinstance(held, str):
        parsed = parse_expression(held)
        if parsed.faults or not parsed.data:
            return None
        for path, offset in parsed.offsets.items():
            merged.places[f"{dotted}.{path}"] = merged.inside(dotted, offset)
        held = parsed.data
    if not isinstance(held, dict):
        return None
    names = {ALIASES.get(name, name) for name in value}
    return {name: held[name] for name in held if ALIASES.get(name, name) not in names}


def _forget(document: Document, path: str) -> None:
    """Drop the places of a value and of all below it."""
    for known in list(_below(document.places, path)):
        del document.places[known]


def _below(places: dict[str, str], path: str) -> Iterator[str]:
    return (known for known in places if known.rstrip(":") == path or known.startswith(f"{path}."))


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key
