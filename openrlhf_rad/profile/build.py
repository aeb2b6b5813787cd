"""A document to the sections of a profile; every problem of a file is found in one go."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from openrlhf_rad.errors import ProfileError, did_you_mean
from openrlhf_rad.errors import shown as show
from openrlhf_rad.method.settings import Constraint, TransportSettings
from openrlhf_rad.method.spectrum import MEAN, Spectrum
from openrlhf_rad.profile import checks, sections
from openrlhf_rad.profile.checks import Layers, Problems
from openrlhf_rad.profile.document import Document
from openrlhf_rad.profile.model import UNITS, EvaluateSettings, ReferenceSettings, Sections
from openrlhf_rad.profile.risk import build_risk
from openrlhf_rad.profile.several import several
from openrlhf_rad.profile.watch_settings import WatchSettings

KEYS = (
    "name",
    "description",
    "extends",
    "risk",
    "units",
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
# A file with more unknown keys is no profile.
_MAX_SHORT = 30
# Names become names of folders.
_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]*$")


def build(document: Document) -> Sections:
    """The sections of a document. Raises one ProfileError with all problems."""
    problems = Problems(document)
    data = document.data
    if not isinstance(data, dict) or not (data or document.incomplete):
        held = show(data) if data else "empty"
        rule, fix = "it must be a mapping", "the shortest profile is one line, medical: cvar α=0.9"
        problems.add_text(document.place(""), f"the profile is {held}; {rule}", fix)
        raise ProfileError(problems.in_order())
    if "risk" in data or not _mixed_forms(problems, data):
        problems.unknown_keys("", data, KEYS)
    asked = sections.section(problems, data, "constraint", sections.CONSTRAINT_KEYS)
    dual = sections.section(problems, data, "dual", sections.DUAL_KEYS)
    risk, cost = _risk(problems, data), sections.cost(problems, data)
    found = several(problems, data, risk, cost)
    constraint = sections.constraint(problems, Layers(("constraint", asked)))
    built = Sections(
        name=_name(problems, data.get("name", _default_name(document.source))),
        description=checks.text(problems, "description", data.get("description", ""), ""),
        risk=risk if "risk" in data or not found else found[0].risk,
        units=UNITS.kind.read(problems, "units", data.get("units", UNITS.default), UNITS.default),
        constraint=constraint,
        dual=sections.dual(problems, Layers(("dual", dual)), constraint.gradient),
        transport=sections.record(problems, data, "transport", TransportSettings()),
        cost=cost,
        reference=sections.record(problems, data, "reference", ReferenceSettings()),
        evaluate=sections.record(problems, data, "evaluate", EvaluateSettings()),
        watches=sections.record(problems, data, "watches", WatchSettings()),
        several=found,
    )
    if built.reference.file is not None and len(found) > 1:
        rule = "a file of costs has one column, and this profile several constraints or segments"
        problems.add("reference.file", built.reference.file, rule, "remove it: the reference is then sampled")
    _check_plan(problems, built)
    if problems.lines:
        raise ProfileError(problems.in_order())
    return built


def _check_plan(problems: Problems, built: Sections) -> None:
    """Note a λ that is to move by the plan's value where a constraint has none."""
    settings = built.several or (Constraint("", built.risk, built.constraint, built.dual),)
    for one in settings:
        if one.dual.gap != "plan":
            continue
        rule = ""
        if one.settings.form not in ("improvement", "no_worse"):
            rule = f"form {one.settings.form} compares averages and has no plan"
        elif one.risk != MEAN:
            rule = f"Eq. (25) has no weights, and the risk is {one.risk}"
        elif built.transport.indicator == "exact":
            rule = "with transport.indicator exact the plan is the exact gap"
        if rule:
            problems.add("dual.gap", "plan", rule, "write exact")


def _mixed_forms(problems: Problems, data: dict[str, Any]) -> bool:
    """Note a short form beside long keys, the likely reason of an unknown key whose value is a text."""
    texts = [key for key in data if key not in KEYS and isinstance(data[key], str)]
    short = [key for key in texts[:_MAX_SHORT] if not did_you_mean(key, KEYS)]
    for key in short:
        rule = "a file holds either this one line or the long form"
        fix = f"write name: {key} and risk: {data[key]}"
        place = problems.document.place(key, key=True)
        problems.add_text(place, f"{key} is the short form of a profile; {rule}", fix)
    return bool(short)


def _default_name(source: str) -> str:
    """The file's name; a profile that is not from a file is called `profile`."""
    stem = Path(source).stem
    return stem if _NAME.match(stem) else "profile"


def _name(problems: Problems, value: Any) -> str:
    name = checks.text(problems, "name", value, "profile")
    if not _NAME.match(name):
        rule = "it must be letters, digits, dots, dashes and underscores, for it names folders"
        fixed = re.sub("[^A-Za-z0-9]+", "-", name).strip("-")
        problems.add("name", value, rule, f"write {fixed or 'medical'}")
    return name


def _each_names_a_risk(entries: Any) -> bool:
    """Whether no entry of `constraints` needs a risk of the top level; other types are refused elsewhere."""
    if not isinstance(entries, dict):
        return True
    return all(not isinstance(entry, dict) or "risk" in entry for entry in entries.values())


def _risk(problems: Problems, data: dict[str, Any]) -> Spectrum:
    if "risk" in data:
        return build_risk(problems, data["risk"])
    if "constraints" in data and _each_names_a_risk(data["constraints"]):
        return MEAN
    short = any(": risk is missing" in line or "short form" in line for line in problems.lines)
    if not short and not problems.document.incomplete:
        place = problems.document.place("")
        problems.add_text(
            place, "risk is missing; every profile names its risk measure", "write risk: cvar α=0.9"
        )
    return MEAN
