"""JSON Schema of a profile (draft 2020-12), for editors; made from the records that the checks use.

An editor sees what a schema can: names, types, ranges and words. What needs two values at once, such as
weights that sum to 1 or a level that fits its form, is left to the checks.
"""

from __future__ import annotations

import json
import math
from typing import Any

from pydantic import TypeAdapter

from openrlhf_rad.method.settings import NUMBER
from openrlhf_rad.method.spectrum import MAX_MEMBERS, MAX_STEPS, MEASURES, SYMBOLS, Interval, Measure
from openrlhf_rad.profile.check import LABEL, NAME, PROFILE_NAME
from openrlhf_rad.profile.costs import COSTS
from openrlhf_rad.profile.inherit import KEYS
from openrlhf_rad.profile.language import ADDRESS, SECTIONS, Schema, Shared, fields_of, key_of

_RISK: Schema = {"$ref": "#/$defs/risk"}


def profile_schema() -> Schema:
    """The schema, as plain data."""
    long = {"properties": _properties(), "additionalProperties": False, "anyOf": _NAMES_A_RISK}
    short = {"maxProperties": 1, "minProperties": 1, "additionalProperties": _RISK}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "RAD risk profile",
        "description": "Which risk is bounded, how strictly, and against what.",
        "type": "object",
        "if": {"propertyNames": {"not": {"enum": list(KEYS)}}},
        "then": short,
        "else": long,
        "$defs": {"risk": _risk(), "dual": _section(SECTIONS["dual"]), "cost": _cost(), **_entries()},
    }


def schema_text() -> str:
    """The schema as the text of its file."""
    return json.dumps(profile_schema(), indent=1, ensure_ascii=False) + "\n"


_NAMES_A_RISK: list[Schema] = [{"required": [key]} for key in ("risk", "constraints", "extends")]


def _properties() -> dict[str, Schema]:
    entry, segment = {"$ref": "#/$defs/entry"}, {"$ref": "#/$defs/segment"}
    schemas: dict[str, Schema] = {
        "name": {"type": "string", "pattern": PROFILE_NAME},
        "description": {"type": "string"},
        "extends": {
            "type": "string",
            "minLength": 1,
            "description": "a shipped profile, or a path relative to this file",
        },
        "risk": _RISK,
        **{name: _nullable(held) for name, held in _section(Shared)["properties"].items()},
        "constraint": _nullable(_section(SECTIONS["constraint"])),
        "constraints": _nullable({**_mapping(entry), "minProperties": 1}),
        "segments": _nullable(_mapping(segment, LABEL)),
        "dual": _nullable({"$ref": "#/$defs/dual"}),
        "transport": _nullable(_section(SECTIONS["transport"])),
        "cost": _nullable({"$ref": "#/$defs/cost"}),
        "reference": _nullable(_section(SECTIONS["reference"])),
        "evaluate": _nullable(_section(SECTIONS["evaluate"])),
        "watches": _nullable(_section(SECTIONS["watches"])),
    }
    return {key: schemas[key] for key in KEYS}


def _nullable(schema: Schema) -> Schema:
    """Null takes back what a base said."""
    return {"anyOf": [schema, {"type": "null"}]}


def _entries() -> dict[str, Schema]:
    """An entry of `constraints` and one of `segments`: a risk, or a mapping."""
    shared = {
        "risk": _RISK,
        **_section(SECTIONS["constraint"])["properties"],
        "dual": {"$ref": "#/$defs/dual"},
    }
    segments = {"segments": _mapping({"$ref": "#/$defs/segment"}, LABEL)}
    values = _nullable(_section(Shared)["properties"]["values"])
    entry = _closed({**shared, "values": values, "cost": _nullable({"$ref": "#/$defs/cost"}), **segments})
    expression = {"$ref": "#/$defs/risk/anyOf/0"}
    return {
        "entry": _nullable({"anyOf": [expression, entry]}),
        "segment": _nullable({"anyOf": [expression, _closed(shared)]}),
    }


def _mapping(values: Schema, names: str = NAME) -> Schema:
    return {"type": "object", "propertyNames": {"pattern": names}, "additionalProperties": values}


def _closed(properties: dict[str, Schema]) -> Schema:
    return {"type": "object", "properties": properties, "additionalProperties": False}


def _section(model: Any) -> Schema:
    """A section: every key with its values, meaning and default."""
    properties: dict[str, Schema] = TypeAdapter(model).json_schema()["properties"]
    for one in properties.values():
        del one["title"]
    return _closed(properties)


def _cost() -> Schema:
    properties = _section(SECTIONS["cost"])["properties"]
    for name, field in fields_of(SECTIONS["cost"]).items():
        properties[name]["description"] = key_of(field).text
    properties["remote_url"] |= {"pattern": ADDRESS}
    classifier, judge, ensemble = (_section(model) for model in COSTS.values())
    properties["classifier"] = {"anyOf": [properties["classifier"], {**classifier, "required": ["model"]}]}
    properties["judge"] = {**judge, "description": properties["judge"]["description"]}
    properties["judge"] |= {"required": ["model", "base_url"]}
    properties["ensemble"] = {**ensemble, "description": properties["ensemble"]["description"]}
    return {**_closed(properties), "oneOf": [{"required": [name]} for name in properties]}


def _risk() -> Schema:
    names = "|".join([*MEASURES, "piecewise"])
    expression = {
        "type": "string",
        "pattern": rf"^\s*({NUMBER}\s*\*\s*)?({names})\b",
        "description": "an expression, for instance cvar α=0.9 or 0.8*cvar(α=0.9) + 0.2*mean",
    }
    whole = [_measure(name, measure) for name, measure in MEASURES.items()] + [_piecewise()]
    members = [_weighted(member) for member in whole]
    mixture = {"type": "array", "minItems": 1, "maxItems": MAX_MEMBERS, "items": {"anyOf": members}}
    # Parameters alone change those of a base's risk.
    parameters = {name for measure in MEASURES.values() for name in measure.parameters}
    known = sorted(parameters | {SYMBOLS[name] for name in parameters})
    names_only = {"type": "object", "maxProperties": 3, "propertyNames": {"enum": known}}
    return {
        "anyOf": [expression, *whole, {**_closed({"mixture": mixture}), "required": ["mixture"]}, names_only]
    }


def _measure(name: str, measure: Measure) -> Schema:
    properties: dict[str, Schema] = {"measure": {"const": name, "description": measure.formula}}
    needed: list[Schema] = []
    for parameter, about in measure.parameters.items():
        number = {"type": "number", **bounds(about.range), "description": about.advice}
        properties |= {parameter: number, SYMBOLS[parameter]: number}
        if about.default is None:
            needed.append({"anyOf": [{"required": [parameter]}, {"required": [SYMBOLS[parameter]]}]})
    return {**_closed(properties), "required": ["measure"], **({"allOf": needed} if needed else {})}


def _piecewise() -> Schema:
    level = {"type": "number", "minimum": 0, "exclusiveMaximum": 1}
    step = {"type": "array", "prefixItems": [level, {"type": "number", "minimum": 0}], "minItems": 2}
    steps = {"type": "array", "minItems": 1, "maxItems": MAX_STEPS, "items": {**step, "maxItems": 2}}
    return {**_closed({"piecewise": steps}), "required": ["piecewise"]}


def _weighted(member: Schema) -> Schema:
    weight = {"type": "number", "minimum": 0, "maximum": 1}
    return {
        **member,
        "properties": {**member["properties"], "weight": weight},
        "required": [*member["required"], "weight"],
    }


def bounds(interval: Interval) -> Schema:
    """An interval as JSON Schema."""
    schema: Schema = {}
    if math.isfinite(interval.low):
        schema["exclusiveMinimum" if interval.low_open else "minimum"] = interval.low
    if math.isfinite(interval.high):
        schema["exclusiveMaximum" if interval.high_open else "maximum"] = interval.high
    return schema
