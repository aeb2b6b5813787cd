"""What a profile takes over: one merge for `extends`, for `constraints` and `segments`, and for `--set`.

Mappings are merged key by key; a cost and a list are replaced whole. An entry's text is its risk. What
belongs to one value of a key (a level and a margin to a form, gains to a method of `dual`, the memory to its
estimate) goes when another value is named. The three differ in this:

=========  ===========================  ===========================  ===================================
a merge    `null`                       what belongs to a choice     a risk of parameters alone
=========  ===========================  ===========================  ===================================
`extends`  takes an inherited one back  goes with another value      changes the base's
`entry`    is a value                   goes where a value is named  is not valid
`set`      is a value                   stays, as written            changes the file's
=========  ===========================  ===========================  ===================================

The base of `extends` is a shipped profile, by its name, or a file, by a path relative to the file that names
it; never an address. Name and description are a file's own.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

from openrlhf_rad.errors import Place, Problem, ProfileError, did_you_mean, shown
from openrlhf_rad.method.spectrum import ALIASES
from openrlhf_rad.profile.files import Found, find, resolve_paths
from openrlhf_rad.profile.language import BELONGS
from openrlhf_rad.profile.risk import WHOLE, expand
from openrlhf_rad.profile.yaml import Node, Problems, from_plain, parse

#: The keys of a profile.
KEYS = (
    "name",
    "description",
    "extends",
    "risk",
    "units",
    "values",
    "constraint",
    "constraints",
    "segments",
    "dual",
    "transport",
    "cost",
    "reference",
    "evaluate",
    "watches",
)
#: As many files as a reader can follow.
MAX_DEPTH = 8
_OWN = ("name", "description", "extends")

Merge = Literal["extends", "entry", "set"]


class Base(NamedTuple):
    """A file's nodes, the folder that its relative paths start from, and what tells the file from others."""

    root: Node
    problems: list[Problem]
    found: Found


def merge(base: Node, child: Node, how: Merge) -> Node:
    """The mapping of a child over its base's."""
    kept = dict(base.keys)
    for choice, names in BELONGS.items():
        if choice in child.keys and how != "set":
            same = choice in kept and kept[choice].plain() == child.keys[choice].plain()
            for name in () if same and how == "extends" else names:
                kept.pop(name, None)
    for name, node in child.keys.items():
        if node.value is None and how == "extends":
            kept.pop(name, None)
            continue
        held = _mergeable(base, kept.get(name), node, how)
        both = held is not None and isinstance(held.value, dict) and isinstance(node.value, dict)
        # Of a cost --set changes the keys of the source that is there; another source takes its place.
        same = name != "cost" or (how == "set" and held is not None and held.keys.keys() == node.keys.keys())
        kept[name] = merge(held, node, how) if held is not None and both and same else node
    return replace(base if how == "set" else child, value=kept)


def _mergeable(parent: Node, held: Node | None, node: Node, how: Merge) -> Node | None:
    """The base's value as what the child's can be merged into; None where it is to be replaced."""
    if held is None or not isinstance(node.value, dict):
        return held
    if node.key.rpartition(".")[2] == "risk":
        return None if how == "extends" and any(name in node.value for name in WHOLE) else _risk(held, node)
    if isinstance(held.value, str) and parent.key.rpartition(".")[2] in ("constraints", "segments"):
        return replace(held, value={"risk": held.named(f"{held.key}.risk")})
    return held


def _risk(held: Node, node: Node) -> Node | None:
    """The base's risk in the long form, without the parameters that the child sets."""
    if isinstance(held.value, str):
        faults = Problems([])
        expanded = expand(faults, held)
        if expanded is None or faults.found:
            return None
        held = expanded
    names = {ALIASES.get(name, name) for name in node.keys}
    value = {name: child for name, child in held.keys.items() if ALIASES.get(name, name) not in names}
    return replace(held, value=value) if isinstance(held.value, dict) else None


def read_file(source: Found) -> tuple[Node, Problems]:
    """The nodes of a text and all that it extends, and what is wrong with them so far.

    Raises:
        ProfileError: text that is not YAML; all else is left to the checks of the whole.
    """
    chain = [_read(source)]
    problems = Problems([source.source])
    while "extends" in (here := chain[-1].root).keys:
        base = _base(here.keys["extends"], chain)
        if isinstance(base, str):
            named = here.keys["extends"]
            problems.unreadable(Problem(named.place, "extends", shown(named.value), base))
            # Much may be missing that the base would have said.
            problems.incomplete = True
            break
        chain.append(base)
    for one in chain:
        for problem in one.problems:
            problems.unreadable(problem)
    problems.sources = [one.found.source for one in chain]
    root = chain[-1].root
    for one in reversed(chain[:-1]):
        kept = {name: node for name, node in root.keys.items() if name not in _OWN}
        root = merge(replace(root, value=kept), one.root, "extends")
    root.keys.pop("extends", None)
    return root, problems


def _base(named: Node, chain: list[Base]) -> Base | str:
    """What `extends` names, or rule and fix."""
    written = named.value
    if fault := _fault(written, len(chain)):
        return fault
    here = chain[-1].found
    try:
        base = _read(find(written, beside=here.folder, source=here.source))
    except ProfileError as error:
        return "; ".join(error.problems)
    if base.found.identity in (known.found.identity for known in chain):
        return f"it comes back to {base.found.source}, which extends this one; remove one extends"
    return base


def _fault(written: Any, depth: int) -> str:
    if not isinstance(written, str) or not written.strip():
        return "it must be the name of a shipped profile or a path; write extends: general-assistant"
    if "://" in written:
        return "it must be a shipped name or a path, never an address; copy the file and name its path"
    if Path(written).is_absolute() or written.startswith("~"):
        return "a path must be relative to this file, so that both can move; write for instance ./base.yaml"
    return f"files may extend one another {MAX_DEPTH} deep; merge some of them" if depth > MAX_DEPTH else ""


def _read(source: Found) -> Base:
    root, problems = parse(source.text, source.source)
    root = _long_form(root)
    return Base(root, problems + resolve_paths(root, source.folder), source)


def _long_form(root: Node) -> Node:
    """The short form `medical: cvar α=0.9` as the long one; anything else as it is."""
    if len(root.keys) != 1:
        return root
    ((name, held),) = root.keys.items()
    risk = isinstance(held.value, str) or any(word in held.keys for word in WHOLE)
    # A name close to a key is far likelier a typo of it than a profile of that name.
    if name in KEYS or did_you_mean(name, KEYS) or not risk:
        return root
    named = Node(name, "name", held.key_place, held.key_place)
    return replace(root, value={"name": named, "risk": held.named("risk")})


def override(root: Node, key: str, value: Any) -> Node:
    """The profile with the value at a dotted key replaced, as by `--set key=value`; see :func:`merge`.

    Relative paths start from the working directory.

    Raises:
        ProfileError: the key names no value of a profile.
    """
    place, names = Place(f"--set {key}"), key.split(".")
    if not all(names):
        rule = "it names no value; keys look like dual.step; write --set dual.step=0.1"
        raise ProfileError(Problem(place, rule))
    if key == "extends":
        rule = "a profile's base is merged when it is read; write extends in the file"
        raise ProfileError(Problem(place, rule))
    node = from_plain(value, key, place)
    for depth in range(len(names) - 1, 0, -1):
        node = Node({names[depth]: node}, ".".join(names[:depth]), place, place)
    tree = Node({names[0]: node}, "", place, place)
    resolve_paths(tree, Path.cwd())
    return merge(root, tree, "set")
