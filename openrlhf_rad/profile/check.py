"""Nodes to the records of a profile; every problem of a file is found in one go.

An entry of `constraints` inherits what it does not say from the top level of the profile, and a segment from
its constraint (:func:`~openrlhf_rad.profile.inherit.merge`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from openrlhf_rad.errors import Place, Problem, did_you_mean, shown
from openrlhf_rad.method.constraint import FORMS
from openrlhf_rad.method.settings import (
    Constraint,
    ConstraintSettings,
    CostSource,
    DualSettings,
    TransportSettings,
)
from openrlhf_rad.method.spectrum import MEAN, Spectrum
from openrlhf_rad.profile.costs import COSTS, check_source, values_of, written_out
from openrlhf_rad.profile.inherit import KEYS, merge
from openrlhf_rad.profile.language import (
    ADDRESS,
    BELONGS,
    SECTIONS,
    TILTED,
    ConstraintKeys,
    DualKeys,
    EvaluateSettings,
    ReferenceSettings,
    Shared,
    TransportKeys,
    WatchSettings,
    auto_of,
    fields_of,
    is_number,
    key_of,
    unused_keys,
)
from openrlhf_rad.profile.risk import read_risk
from openrlhf_rad.profile.yaml import Node, Problems, from_plain, scalar

#: Each costs a sort and a Sinkhorn run a step, and needs answers of its own.
MAX_CONSTRAINTS = 100
#: The name of the only constraint of a profile.
ONLY = "cost"
# Names of profiles become names of folders; those of constraints parts of the names of metrics.
PROFILE_NAME = "^[A-Za-z0-9][A-Za-z0-9._-]*$"
NAME = "^[A-Za-z0-9][A-Za-z0-9_-]*$"
#: A label as data sets have it: Malware/Hacking, hate_speech,offensive_language, Privacy Violation.
LABEL = r"^\S([^\n\r]*\S)?$"
_FIELDS = {model: fields_of(model) for model in (Shared, *SECTIONS.values(), *COSTS.values())}
SEGMENT_KEYS = ("risk", *_FIELDS[ConstraintKeys], "dual")
ENTRY_KEYS = (*SEGMENT_KEYS, "values", "cost", "segments")
Record = TypeVar("Record")
_EMPTY = from_plain({}, "", Place(""))
# A file with more short forms is no profile.
_MAX_SHORT = 30


@dataclass(frozen=True)
class _Outer:
    """What an entry inherits: the mappings `constraint` and `dual`, a risk, a cost and its values."""

    constraint: Node
    dual: Node
    risk: Spectrum
    cost: CostSource | None
    values: tuple[float, ...]


def build(root: Node, problems: Problems) -> dict[str, Any]:
    """The fields of a profile. Raises one ProfileError with all problems."""
    if not isinstance(root.value, dict) or not (root.value or problems.incomplete):
        held = shown(root.value) if root.value else "empty"
        fix = "the shortest profile is one line, medical: cvar α=0.9"
        problems.note(Problem(root.place, "the profile", held, "it must be a mapping", fix))
        problems.refuse()
    mixed = "risk" not in root.keys and _mixed_forms(problems, root)
    if not mixed:
        problems.unknown_keys(root, KEYS)
    sections = {
        name: _section(problems, root, name, _FIELDS[model])
        for name, model in SECTIONS.items()
        if name != "cost"  # it stands in entries too
    }
    cost = _cost(problems, root)
    risk = _top_risk(problems, root, mixed=mixed)
    shared = read(problems, Shared, root, Shared())
    outer = _Outer(sections["constraint"], sections["dual"], risk, cost, shared.values or values_of(cost))
    plan = read(problems, TransportKeys, sections["transport"], TransportSettings())
    several = _several(problems, root, outer, plan)
    settings = _settings(problems, outer, None if several else plan)
    only = Constraint(ONLY, outer.risk, *settings, outer.cost, values=outer.values)
    if several and "risk" not in root.keys:
        only = replace(only, risk=several[0].risk)
    reference = read(problems, ReferenceSettings, sections["reference"], ReferenceSettings())
    if reference.file is not None and len(several) > 1:
        rule = "a file of costs has one column, and this profile several constraints or segments"
        named = sections["reference"].keys["file"]
        problems.add(named, rule, "remove it: the reference is then sampled")
    built = {
        "name": _name(problems, root),
        "description": _text(problems, root, "description", ""),
        "constraints": several or (only,),
        "shared": only if several else None,
        "units": shared.units,
        "transport": plan,
        "reference": reference,
        "evaluate": read(problems, EvaluateSettings, sections["evaluate"], EvaluateSettings()),
        "watches": read(problems, WatchSettings, sections["watches"], WatchSettings()),
    }
    if problems.found:
        problems.refuse()
    return built


def dual_defaults(gradient: str) -> DualSettings:
    """What holds where a profile says nothing; ``python benchmarks/dual.py --gradients`` measured it."""
    usual = DualSettings()
    if gradient != "tilted":
        return usual
    return replace(usual, initial=TILTED * usual.initial, step=TILTED * usual.step, max=TILTED * usual.max)


def check_dual(problems: Problems, node: Node, settings: DualSettings) -> None:
    """Note what does not go together in a `dual` mapping."""
    if settings.initial > settings.max:
        name = "initial" if "initial" in node.keys else "max"
        held, value = node.keys[name], getattr(settings, name)
        path = held.key.rpartition(".")[0]
        rule = f"{path}.initial ({settings.initial:g}) must be at most {path}.max ({settings.max:g})"
        problems.add(held, rule, f"write {path}.initial: {settings.max:g}", f"{value:g}")
    if settings.method == "log" and settings.initial == 0:
        held = node.keys["initial"]
        rule = "with method log it must be > 0, for λ moves in proportion to itself"
        problems.add(held, rule, f"write {held.key}: 1, or another method", "0")
    for choice, needed, what in (("method", "pid", "method pid"), ("estimate", "ema", "an average")):
        chosen = getattr(settings, choice)
        if choice in node.keys and node.keys[choice].value != chosen:
            continue  # not valid, which is said already
        for name in BELONGS[choice]:
            if name in node.keys and name in unused_keys(settings):
                held = node.keys[name]
                rule = f"it belongs to {what}, and the {choice} is {chosen}"
                problems.add(
                    held, rule, f"write {held.key.rpartition('.')[0]}.{choice}: {needed}, or remove it"
                )


def _settings(
    problems: Problems, outer: _Outer, transport: TransportSettings | None
) -> tuple[ConstraintSettings, DualSettings]:
    """The settings of two mappings; without a transport nothing trains by them, the gap is not checked."""
    settings = _constraint(problems, outer.constraint)
    dual = read(problems, DualKeys, outer.dual, dual_defaults(settings.gradient))
    check_dual(problems, outer.dual, dual)
    if dual.gap == "plan" and transport is not None:
        rule = ""
        if not FORMS[settings.form].pairs:
            rule = f"form {settings.form} compares averages and has no plan"
        elif outer.risk != MEAN:
            rule = f"Eq. (25) has no weights, and the risk is {outer.risk}"
        elif transport.indicator == "exact":
            rule = "with transport.indicator exact the plan is the exact gap"
        if rule:
            problems.add(outer.dual.keys["gap"], rule, "write exact")
    return settings, dual


def _constraint(problems: Problems, node: Node) -> ConstraintSettings:
    """What a mapping asks; level and margin default by form."""
    named = node.keys["form"].value if "form" in node.keys else None
    form = FORMS[named if isinstance(named, str) and named in FORMS else ConstraintSettings.form]
    settings = read(problems, ConstraintKeys, node, ConstraintSettings(form.name, *form.defaults))
    form = FORMS[settings.form]
    if form.pairs and settings.level.unit == "quantile":
        rule = "a gap between whole distributions is bounded by an amount, which no quantile is"
        fix = "write form: spectral or expected, or 20% of reference spread"
        problems.add(node.keys["level"], rule, fix)
    elif form.pairs and settings.level.value < 0:
        problems.add(node.keys["level"], "it must be ≥ 0", "a dominance gap is never negative")
    if not form.pairs and settings.margin.value > 0:
        rule = f"form {settings.form} takes no margin, for it compares averages"
        problems.add(node.keys["margin"], rule, "remove it")
    if not form.weighted and settings.gradient == "tilted":
        rule = f"form {form.name} has the plain expected-cost gradient"
        problems.add(node.keys["gradient"], rule, "write leave_one_out")
    return settings


def _several(
    problems: Problems, root: Node, outer: _Outer, transport: TransportSettings
) -> tuple[Constraint, ...]:
    """All constraints with their segments, in the order of the file; () where it has neither section."""
    shared = _entries(problems, root, "segments", "label: risk")
    entries = _entries(problems, root, "constraints", "harm: {risk: cvar α=0.9}")
    named = root.keys.get("constraints")
    if named is None and not shared:
        return ()
    own = [entry.keys["segments"].keys for entry in entries.values() if "segments" in entry.keys]
    count = (1 if named is None else len(entries)) * (1 + len(shared)) + sum(map(len, own))
    if count > MAX_CONSTRAINTS:
        rule = f"a profile may hold {MAX_CONSTRAINTS}, each with samples and a λ of its own"
        said, place = (
            f"there are {count} constraints, segments counted",
            (named or root.keys["segments"]).place,
        )
        problems.note(Problem(place, said, "", rule, "put some of them together"))
        return ()
    if named is None:
        return _with_segments(problems, ONLY, outer, transport, [shared])
    if not entries and isinstance(named.value, dict):
        fix = "write harm: {risk: cvar α=0.9}, or remove it"
        problems.note(Problem(named.place, named.key, "empty", "it must hold one at least", fix))
    constraints: list[Constraint] = []
    for name, entry in entries.items():
        _check_name(problems, entry, name, "constraint")
        held = _entry(problems, entry, ENTRY_KEYS)
        if held is None:
            continue
        inner = _inside(problems, held, outer)
        if "cost" in held.keys:
            cost = _cost(problems, held)
            inner = replace(inner, cost=cost, values=values_of(cost))
        inner = replace(inner, values=read(problems, Shared, held, Shared()).values or inner.values)
        segments = [_entries(problems, held, "segments", "label: risk"), shared]
        constraints += _with_segments(problems, name, inner, transport, segments)
    return tuple(constraints)


def _with_segments(
    problems: Problems,
    name: str,
    outer: _Outer,
    transport: TransportSettings,
    segments: Sequence[dict[str, Node]],
) -> tuple[Constraint, ...]:
    """The constraint on prompts without a segment, then one for each segment; its own before shared ones."""
    settings = _settings(problems, outer, transport)
    plain = Constraint(name, outer.risk, *settings, outer.cost, values=outer.values)
    segmented: dict[str, Constraint] = {}
    for mapping in segments:
        for label, raw in mapping.items():
            if label in segmented:
                continue
            _check_name(problems, raw, label, "segment")
            held = _entry(problems, raw, SEGMENT_KEYS) or replace(raw, value={})
            inner = _inside(problems, held, outer)
            settings = _settings(problems, inner, transport)
            segmented[label] = Constraint(
                f"{name}.{label}", inner.risk, *settings, plain.cost, label, values=plain.values
            )
    return (replace(plain, excluded=tuple(segmented)), *segmented.values())


def _entry(problems: Problems, node: Node, known: tuple[str, ...]) -> Node | None:
    """An entry as a mapping; a text is its risk. None, with the problem noted, for anything else."""
    if isinstance(node.value, str):
        return replace(node, value={"risk": node.named(f"{node.key}.risk")})
    if not isinstance(node.value, dict):
        problems.add(node, "it must be a risk or a mapping", f"its keys are {', '.join(known)}")
        return None
    problems.unknown_keys(node, known)
    return node


def _inside(problems: Problems, held: Node, outer: _Outer) -> _Outer:
    """What holds inside an entry: what it says, before what it inherits."""
    own = {name: node for name, node in held.keys.items() if name in _FIELDS[ConstraintKeys]}
    return _Outer(
        merge(outer.constraint, replace(held, value=own), "entry"),
        merge(outer.dual, _section(problems, held, "dual", _FIELDS[DualKeys]), "entry"),
        read_risk(problems, held.keys["risk"]) if "risk" in held.keys else outer.risk,
        outer.cost,
        outer.values,
    )


def _cost(problems: Problems, owner: Node) -> CostSource | None:
    """The `cost` section of a mapping: exactly one source, or no section."""
    if "cost" not in owner.keys or owner.keys["cost"].value is None:
        return None
    kinds = tuple(_FIELDS[SECTIONS["cost"]])
    held = _section(problems, owner, "cost", kinds)
    given: list[Any] = [kind for kind in kinds if kind in held.keys]
    if len(given) != 1:
        if isinstance(owner.keys["cost"].value, dict):
            rule, named = (
                f"it must hold exactly one of {', '.join(kinds)}",
                " and ".join(given) or "no source",
            )
            problems.note(Problem(held.place, held.key, named, rule, "keep one", "names"))
        return None
    kind, node = given[0], held.keys[given[0]]
    if model := COSTS.get(f"cost.{kind}"):
        node = written_out(problems, kind, node)
        problems.unknown_keys(node, _FIELDS[model])
        settings = read(problems, model, node, model())
        check_source(problems, node, settings)
        return CostSource(kind, settings.location, settings)
    if not isinstance(node.value, str) or not node.value.strip():
        problems.add(node, "it must be a path or an address", "or remove cost")
    elif kind == "remote_url" and not re.match(ADDRESS, node.value):
        rule = "it must start with http:// or https://, and so must each of several, with commas between them"
        problems.add(node, rule)
    return CostSource(kind, str(node.value))


def read(problems: Problems, model: Any, node: Node, default: Record) -> Record:
    """The record of a mapping: its keys, checked, in place of the default's; unknown ones are ignored."""
    fields = _FIELDS[model]
    held = {name: child for name, child in node.keys.items() if name in fields}
    if not held:
        return default
    plain = {name: child.plain() for name, child in held.items()}
    for name in [name for name in plain if _nothing(fields[name], plain[name])]:
        _add(problems, held[name], fields[name])
        del plain[name]
    try:
        valid = model(**plain)
    except ValidationError as error:
        for fault in error.errors(include_url=False):
            name = str(fault["loc"][0])
            if name not in plain:
                continue  # a union says it once for each of its members
            del plain[name]
            if fault["type"] == "refused":
                said = fault["ctx"]
                problems.add(held[name], said["rule"], said["fix"], said["value"])
            else:
                _add(problems, held[name], fields[name])
        valid = model(**plain)
    return replace(default, **{name: getattr(valid, name) for name in plain})  # type: ignore[type-var]


def _add(problems: Problems, node: Node, field: FieldInfo) -> None:
    """Note a value that a field does not take, in the field's own words."""
    value, about = node.value, key_of(field)
    options, auto = get_args(field.annotation), auto_of(field)
    if auto or field.annotation is int:
        low, high = (auto.low, auto.high) if auto else (int(about.range.low), int(about.range.high))
        whole = isinstance(value, int) and not isinstance(value, bool)
        bound = f"at most {high}" if whole and value > high else f"at least {low}"
        problems.add(node, f"it must be {'auto or ' if auto else ''}a whole number of {bound}", about.fix)
    elif field.annotation is float or float in options:
        rule = f"it must {'lie' if is_number(value) else 'be a number'} in {about.range}"
        quoted = isinstance(value, str) and is_number(scalar(value))
        problems.add(
            node, rule, "remove the quotes" if quoted else about.fix, f'"{value}"' if quoted else None
        )
    elif field.annotation is str or str in options:
        problems.add(node, "it must be a text", "put it in quotes" if is_number(value) else "")
    else:
        problems.add(node, f"it must be one of {', '.join(options)}", did_you_mean(value, options))


def _nothing(field: FieldInfo, value: Any) -> bool:
    """What pydantic would take: null, a record's word for `auto`, and a blank text where one is needed."""
    blank = isinstance(value, str) and not value.strip() and key_of(field).what != "a text"
    return blank or (value is None and auto_of(field) is not None)


def _section(problems: Problems, owner: Node, name: str, known: Iterable[str]) -> Node:
    """The mapping at a key, an empty one where there is none; unknown keys are noted."""
    node = owner.keys.get(name)
    if node is None:
        return _EMPTY
    if isinstance(node.value, dict):
        problems.unknown_keys(node, known)
        return node
    problems.add(node, "it must be a mapping", f"its keys are {', '.join(known)}")
    return replace(node, value={})


def _entries(problems: Problems, owner: Node, name: str, example: str) -> dict[str, Node]:
    """The entries of `constraints` or `segments`; none where there are none."""
    node = owner.keys.get(name)
    if node is not None and not isinstance(node.value, dict):
        rule = "it must be a mapping from a name to what holds for it"
        problems.add(node, rule, f"write {example}")
    return node.keys if node is not None else {}


def _check_name(problems: Problems, node: Node, name: str, what: str) -> None:
    if what == "segment" and not re.match(LABEL, name):
        rule = "the name of a segment must be a label as the data has it, without spaces around it"
        fix = "write the label, in quotes"
    elif what != "segment" and not re.match(NAME, name):
        rule = f"the name of a {what} must be letters, digits, dashes and underscores, for metrics carry it"
        fix = "rename it"
    else:
        return
    problems.note(Problem(node.key_place, f"{node.key}: {name!r}", "not a name", rule, fix))


def _name(problems: Problems, root: Node) -> str:
    """The name of the file's own, else the file's; a profile that is not from a file is called `profile`."""
    stem = Path(problems.sources[0]).stem
    name = _text(problems, root, "name", stem if re.match(PROFILE_NAME, stem) else "profile")
    if not re.match(PROFILE_NAME, name):
        rule = "it must be letters, digits, dots, dashes and underscores, for it names folders"
        fixed = re.sub("[^A-Za-z0-9]+", "-", name).strip("-")
        problems.add(root.keys["name"], rule, f"write {fixed or 'medical'}")
    return name


def _text(problems: Problems, root: Node, name: str, default: str) -> str:
    node = root.keys.get(name)
    if node is None or isinstance(node.value, str):
        return default if node is None else node.value
    problems.add(node, "it must be a text", "put it in quotes" if is_number(node.value) else "")
    return default


def _mixed_forms(problems: Problems, root: Node) -> bool:
    """Note a short form beside long keys, the likely reason of an unknown key whose value is a text."""
    unknown = {name: node for name, node in root.keys.items() if name not in KEYS}
    texts = {name: node for name, node in unknown.items() if isinstance(node.value, str)}
    short = [name for name in list(texts)[:_MAX_SHORT] if not did_you_mean(name, KEYS)]
    for name in short:
        rule = "a file holds either this one line or the long form"
        fix = f"write name: {name} and risk: {texts[name].value}"
        problems.note(Problem(texts[name].key_place, name, "the short form of a profile", rule, fix))
    return bool(short)


def _top_risk(problems: Problems, root: Node, *, mixed: bool) -> Spectrum:
    if "risk" in root.keys:
        return read_risk(problems, root.keys["risk"])
    entries = root.keys.get("constraints")
    # Other types are refused elsewhere.
    if entries is not None and all(
        "risk" in one.keys for one in entries.keys.values() if isinstance(one.value, dict)
    ):
        return MEAN
    if not mixed and not problems.incomplete:
        rule = "every profile names its risk measure"
        problems.note(Problem(root.place, "risk", "missing", rule, "write risk: cvar α=0.9"))
    return MEAN
