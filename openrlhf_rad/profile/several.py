"""The sections `constraints` and `segments`: several constraints, each alone or split by labels of prompts.

An entry inherits what it does not say from the top level of the profile, and a segment from its constraint.
A level and a margin belong to a form, so they are inherited only where the form is; so with `dual`, where the
gains belong to a method and the memory to an estimate.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any

from openrlhf_rad.method.settings import Constraint, CostSource
from openrlhf_rad.method.spectrum import Spectrum
from openrlhf_rad.profile import sections
from openrlhf_rad.profile.checks import Layers, Problems
from openrlhf_rad.profile.dual_settings import BELONGS
from openrlhf_rad.profile.risk import build_risk
from openrlhf_rad.profile.sections import CONSTRAINT_KEYS, DUAL_KEYS

ENTRY_KEYS = ("risk", *CONSTRAINT_KEYS, "dual", "cost", "segments")
SEGMENT_KEYS = ("risk", *CONSTRAINT_KEYS, "dual")
#: Each costs a sort and a Sinkhorn run a step, and needs answers of its own.
MAX_CONSTRAINTS = 100
#: The name of the only constraint of a profile.
ONLY = "cost"
# Names become parts of the names of metrics.
NAME = "^[A-Za-z0-9][A-Za-z0-9_-]*$"
#: A label as data sets have it: Malware/Hacking, hate_speech,offensive_language, Privacy Violation.
LABEL = r"^\S([^\n\r]*\S)?$"


@dataclass(frozen=True)
class _Outer:
    """What an entry inherits."""

    constraint: tuple[tuple[str, dict[str, Any]], ...]
    dual: tuple[tuple[str, dict[str, Any]], ...]
    risk: Spectrum
    cost: CostSource | None


def several(
    problems: Problems, data: dict[str, Any], risk: Spectrum, cost: CostSource | None
) -> tuple[Constraint, ...]:
    """All constraints with their segments, in the order of the file; () where the file has neither section.

    Args:
        risk, cost: of the top level, which entries without their own inherit.
    """
    shared = _mapping(problems, data, "segments", "segments", "label: risk")
    outer = _Outer((_held(data, "constraint"),), (_held(data, "dual"),), risk, cost)
    if "constraints" not in data:
        if too_many := _too_many({ONLY: None}, shared):
            problems.add_text(problems.document.place("segments"), too_many, "put some of them together")
            return ()
        return (
            _with_segments(
                problems,
                Constraint(ONLY, risk, *_settings(problems, outer), cost),
                outer,
                (("segments", shared),),
            )
            if shared
            else ()
        )
    entries = _mapping(problems, data, "constraints", "constraints", "harm: {risk: cvar α=0.9}")
    if too_many := _too_many(entries, shared):
        problems.add_text(problems.document.place("constraints"), too_many, "put some of them together")
        return ()
    found: list[Constraint] = []
    for name, entry in entries.items():
        found += _entry(problems, name, entry, outer, shared)
    if not entries and isinstance(data["constraints"], dict):
        problems.add_text(
            problems.document.place("constraints"),
            "constraints is empty; it must hold one at least",
            "write harm: {risk: cvar α=0.9}, or remove it",
        )
    return tuple(found)


def _too_many(entries: dict[str, Any], shared: dict[str, Any]) -> str:
    """What is wrong with the number of constraints, counted before any is built."""
    own = (entry.get("segments") for entry in entries.values() if isinstance(entry, dict))
    count = len(entries) * (1 + len(shared)) + sum(len(held) for held in own if isinstance(held, dict))
    rule = f"a profile may hold {MAX_CONSTRAINTS}, each with samples and a λ of its own"
    return f"there are {count} constraints, segments counted; {rule}" if count > MAX_CONSTRAINTS else ""


def _entry(
    problems: Problems, name: str, entry: Any, outer: _Outer, shared: dict[str, Any]
) -> tuple[Constraint, ...]:
    path = f"constraints.{name}"
    _check_name(problems, path, name, "constraint")
    held = _long_form(problems, path, entry, ENTRY_KEYS)
    if held is None:
        return ()
    inner = _inner(problems, path, held, outer)
    if "cost" in held:
        inner = replace(inner, cost=sections.cost(problems, held, f"{path}.cost"))
    own = _mapping(problems, held, "segments", f"{path}.segments", "label: risk")
    plain = Constraint(name, inner.risk, *_settings(problems, inner), inner.cost)
    return _with_segments(problems, plain, inner, ((f"{path}.segments", own), ("segments", shared)))


def _with_segments(
    problems: Problems,
    plain: Constraint,
    outer: _Outer,
    segments: tuple[tuple[str, dict[str, Any]], ...],
) -> tuple[Constraint, ...]:
    """The constraint on prompts without a segment, then one for each segment; its own before shared ones."""
    found: dict[str, Constraint] = {}
    for path, mapping in segments:
        for label, raw in mapping.items():
            if label not in found:
                found[label] = _segment(problems, (path, label), raw, plain, outer)
    rest = Constraint(plain.name, plain.risk, plain.settings, plain.dual, plain.cost, excluded=tuple(found))
    return (rest, *found.values())


def _segment(
    problems: Problems, where: tuple[str, str], raw: Any, plain: Constraint, outer: _Outer
) -> Constraint:
    label, path = where[1], ".".join(where)
    _check_name(problems, path, label, "segment")
    inner = _inner(problems, path, _long_form(problems, path, raw, SEGMENT_KEYS) or {}, outer)
    return Constraint(
        f"{plain.name}.{label}", inner.risk, *_settings(problems, inner), plain.cost, segment=label
    )


def _long_form(problems: Problems, path: str, raw: Any, known: tuple[str, ...]) -> dict[str, Any] | None:
    """An entry as a mapping; a text is its risk. None, with the problem noted, for anything else."""
    if isinstance(raw, str):
        raw = {"risk": raw}
        problems.document.places[f"{path}.risk"] = problems.document.place(path)
    if not isinstance(raw, dict):
        problems.add(path, raw, "it must be a risk or a mapping", f"its keys are {', '.join(known)}")
        return None
    problems.unknown_keys(path, raw, known)
    return raw


def _inner(problems: Problems, path: str, held: dict[str, Any], outer: _Outer) -> _Outer:
    """What holds inside an entry: what it says, before what it inherits."""
    dual = sections.section(problems, held, f"{path}.dual", DUAL_KEYS)
    return _Outer(
        ((path, _only(held, CONSTRAINT_KEYS)), *outer.constraint),
        ((f"{path}.dual", dual), *outer.dual),
        build_risk(problems, held["risk"], f"{path}.risk") if "risk" in held else outer.risk,
        outer.cost,
    )


def _settings(problems: Problems, outer: _Outer) -> tuple[Any, Any]:
    """The constraint's and the dual's settings of nested mappings, the innermost first."""
    layers = list(outer.constraint)
    depth = next((place + 1 for place, (_, held) in enumerate(layers) if "form" in held), len(layers))
    constraint = sections.constraint(problems, Layers(*layers).without(("level", "margin"), depth))
    return constraint, sections.dual(problems, _dual_layers(outer), constraint.gradient)


def _dual_layers(outer: _Outer) -> Layers:
    """The mappings of `dual`, in which what belongs to a method or an estimate is inherited with it only."""
    layers = Layers(*outer.dual)
    for choice, names in BELONGS.items():
        depth = next((place + 1 for place, (_, held) in enumerate(outer.dual) if choice in held), None)
        layers = layers if depth is None else layers.without(names, depth)
    return layers


def _held(data: dict[str, Any], name: str) -> tuple[str, dict[str, Any]]:
    return name, data[name] if isinstance(data.get(name), dict) else {}


def _only(mapping: dict[str, Any], keys: tuple[str, ...]) -> dict[str, Any]:
    return {key: value for key, value in mapping.items() if key in keys}


def _mapping(problems: Problems, data: dict[str, Any], key: str, path: str, example: str) -> dict[str, Any]:
    held = data.get(key, {})
    if isinstance(held, dict):
        return held
    problems.add(path, held, "it must be a mapping from a name to what holds for it", f"write {example}")
    return {}


def _check_name(problems: Problems, path: str, name: str, what: str) -> None:
    if what == "segment" and not re.match(LABEL, name):
        rule = "the name of a segment must be a label as the data has it, without spaces around it"
        fix = "write the label, in quotes"
    elif what != "segment" and not re.match(NAME, name):
        rule = f"the name of a {what} must be letters, digits, dashes and underscores, for metrics carry it"
        fix = "rename it"
    else:
        return
    problems.add_text(problems.document.place(path, key=True), f"{path}: {name!r} is no name; {rule}", fix)
