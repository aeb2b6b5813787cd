"""The sections of a profile below the risk: plain data to checked records."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any, TypeVar

from openrlhf_rad.method.settings import ConstraintSettings, CostSource, DualSettings, Gradient, Level
from openrlhf_rad.profile.checks import Layers, Problems
from openrlhf_rad.profile.dual_settings import BELONGS, dual_defaults, unused_keys
from openrlhf_rad.profile.kinds import keys
from openrlhf_rad.profile.model import ADDRESS, COST_KEYS, FORM_DEFAULTS

COST_KINDS = tuple(COST_KEYS)
CONSTRAINT_KEYS = tuple(keys(ConstraintSettings))
DUAL_KEYS = tuple(keys(DualSettings))

Record = TypeVar("Record")


def record(problems: Problems, data: dict[str, Any], path: str, default: Record) -> Record:
    """The section at path as the record of its defaults; every key is checked by its kind."""
    known = tuple(keys(type(default)))
    return _read(problems, Layers((path, section(problems, data, path, known))), default)


def constraint(problems: Problems, layers: Layers) -> ConstraintSettings:
    """What a `constraint` section, or an entry of `constraints`, asks; level and margin default by form."""
    form = _one(problems, layers, ConstraintSettings(), "form")
    level, margin = FORM_DEFAULTS[form]
    settings = _read(problems, layers, ConstraintSettings(form, level, margin), but="form")
    gap_form = form in ("improvement", "no_worse")
    if gap_form and "level" in layers:
        settings = replace(settings, level=_gap_level(problems, layers, settings.level, level))
    if not gap_form and settings.margin.value > 0:
        rule = f"form {form} takes no margin, for it compares averages"
        problems.add(layers.path("margin"), layers.get("margin", None), rule, "remove it")
    if form == "expected" and settings.gradient == "tilted":
        rule = "form expected has the plain expected-cost gradient"
        problems.add(layers.path("gradient"), "tilted", rule, "write leave_one_out")
    return settings


def dual(problems: Problems, layers: Layers, gradient: Gradient) -> DualSettings:
    """What a `dual` section says; λ and its step default by the gradient of its constraint."""
    settings = _read(problems, layers, dual_defaults(gradient))
    if settings.initial > settings.max:
        key, value = ("initial", settings.initial) if "initial" in layers else ("max", settings.max)
        path = layers.path(key).rpartition(".")[0]
        rule = f"{path}.initial ({settings.initial:g}) must be at most {path}.max ({settings.max:g})"
        problems.add(f"{path}.{key}", f"{value:g}", rule, f"write {path}.initial: {settings.max:g}")
    if settings.method == "log" and settings.initial == 0:
        path = layers.path("initial")
        rule = "with method log it must be > 0, for λ moves in proportion to itself"
        problems.add(path, "0", rule, f"write {path}: 1, or another method")
    _unused(problems, layers, settings)
    return settings


def _unused(problems: Problems, layers: Layers, settings: DualSettings) -> None:
    """Note keys that play no part under the method and the estimate chosen."""
    for choice, names in BELONGS.items():
        chosen, needed = getattr(settings, choice), {"method": "pid", "estimate": "ema"}[choice]
        if layers.get(choice, chosen) != chosen:
            continue  # not valid, which is said already
        for name in names:
            if name in unused_keys(settings) and name in layers:
                path = layers.path(name)
                what = "method pid" if choice == "method" else "an average"
                rule = f"it belongs to {what}, and the {choice} is {chosen}"
                fix = f"write {path.rpartition('.')[0]}.{choice}: {needed}, or remove it"
                problems.add(path, layers.get(name, None), rule, fix)


def cost(problems: Problems, data: dict[str, Any], path: str = "cost") -> CostSource | None:
    """The `cost` section of a mapping: exactly one source, or no section."""
    if data.get("cost") is None:
        return None
    held = section(problems, data, path, COST_KINDS)
    given = [kind for kind in COST_KINDS if kind in held]
    if len(given) != 1:
        if isinstance(data["cost"], dict):
            named = f"names {' and '.join(given) or 'no source'}"
            rule = f"it must hold exactly one of {', '.join(COST_KINDS)}"
            problems.add_text(problems.document.place(path), f"{path} {named}; {rule}", "keep one")
        return None
    kind: Any = given[0]
    location = held[kind]
    if not isinstance(location, str) or not location.strip():
        problems.add(f"{path}.{kind}", location, "it must be a path or an address", "or remove cost")
    elif kind == "remote_url" and not re.match(ADDRESS, location):
        rule = "it must start with http:// or https://, and so must each of several, with commas between them"
        problems.add(f"{path}.remote_url", location, rule)
    return CostSource(kind, str(location))


def section(problems: Problems, data: dict[str, Any], path: str, known: tuple[str, ...]) -> dict[str, Any]:
    """The mapping at the last name of a path, {} where it is none; unknown keys are noted."""
    held = data.get(path.rpartition(".")[2], {})
    if not isinstance(held, dict):
        problems.add(path, held, "it must be a mapping", f"its keys are {', '.join(known)}")
        return {}
    problems.unknown_keys(path, held, known)
    return held


def _read(problems: Problems, layers: Layers, default: Record, *, but: str = "") -> Record:
    names = [name for name in keys(type(default)) if name != but and name in layers]
    changes = {name: _one(problems, layers, default, name) for name in names}
    return replace(default, **changes)  # type: ignore[type-var] # every record is a dataclass


def _one(problems: Problems, layers: Layers, default: Any, name: str) -> Any:
    held = getattr(default, name)
    if name not in layers:
        return held
    return keys(type(default))[name].kind.read(problems, layers.path(name), layers.get(name, None), held)


def _gap_level(problems: Problems, layers: Layers, level: Level, default: Level) -> Level:
    """A level that bounds a dominance gap."""
    path, raw = layers.path("level"), layers.get("level", None)
    if level.unit == "quantile":
        rule = "a gap between whole distributions is bounded by an amount, which no quantile is"
        problems.add(path, raw, rule, "write form: spectral or expected, or 20% of reference spread")
        return default
    if level.value < 0:
        problems.add(path, raw, "it must be ≥ 0", "a dominance gap is never negative")
        return default
    return level
