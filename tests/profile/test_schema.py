"""The JSON Schema against the checks: what is valid passes, and what a schema can see does not."""

import json
from pathlib import Path

import jsonschema
import pytest

from openrlhf_rad.profile import load_profile, shipped_profiles
from openrlhf_rad.profile.schema import profile_schema, schema_text
from openrlhf_rad.profile.yaml import parse

ROOT = Path(__file__).parents[2]
VALIDATOR = jsonschema.Draft202012Validator(profile_schema())


def valid(text):
    return VALIDATOR.is_valid(parse(text, "p.yaml")[0].plain())


def test_the_schema_is_one():
    jsonschema.Draft202012Validator.check_schema(profile_schema())


def test_the_committed_file_is_the_generated_one():
    path = ROOT / "risk_profiles" / "profile.schema.json"
    write = 'python -c "from openrlhf_rad.profile.schema import schema_text; print(schema_text(), end=str())"'
    assert path.read_text(encoding="utf-8") == schema_text(), f"write it anew: {write} > {path.name}"
    assert json.loads(schema_text()) == profile_schema()


@pytest.mark.parametrize("name", shipped_profiles())
def test_shipped_profiles_are_valid_as_written_and_resolved(name):
    assert valid((ROOT / "risk_profiles" / f"{name}.yaml").read_text(encoding="utf-8"))
    assert valid(load_profile(name).to_yaml())


@pytest.mark.parametrize(
    "text",
    [
        "medical: cvar α=0.9",
        "medical: {piecewise: [[0, 1], [0.5, 2]]}",
        "risk: 0.8*cvar(alpha=0.9) + 0.2*mean",
        "risk: {measure: var, α: 0.9, h: 0.1}",
        "risk: {mixture: [{weight: 0.5, measure: mean}, {weight: 0.5, piecewise: [[0, 1]]}]}",
        "extends: medical\nrisk: {alpha: 0.95}\ndual: null",
        "constraints: {harm: cvar α=0.9, privacy: {risk: mean, level: 0.3, cost: {model: m}}}",
        "risk: mean\nsegments: {child: cvar α=0.99, old: {level: reference quantile 0.9, form: expected}}",
        "risk: mean\nconstraint: {level: 20 % of the reference risk, margin: 1e-3}",
        "risk: mean\ndual: {method: pid, delay: 3, estimate: ema, memory: 4, confidence: null}",
    ],
)
def test_valid_texts_pass(text):
    assert valid(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "- medical",
        "name: medical",
        "medical: cvarr α=0.9",
        "medical: mean\ndual: {step: 1}",
        "risk: {measure: cvar, alpha: 1.7}",
        "risk: {measure: cvar}",
        "risk: {measure: mean, alpha: 0.9}",
        "risk: {piecewise: [[0]]}",
        "risk: {mixture: [{measure: mean}]}",
        "risk: mean\ndual: {stepp: 1}",
        "risk: mean\ndual: {step: fast}",
        "risk: mean\ndual: {max: 0}",
        "risk: mean\nconstraint: {form: spectrall}",
        "risk: mean\nconstraint: {level: 20%}",
        "risk: mean\nconstraint: {margin: reference quantile 0.9}",
        "risk: mean\ntransport: {particles: 1}",
        "risk: mean\ncost: {model: a, function: b}",
        "risk: mean\ncost: {remote_url: ftp://x}",
        "risk: mean\nreference: {samples: 3.5}",
        "risk: mean\nsegments: {' kids': mean}",
        "risk: mean\nconstraints: {my harm: mean}",
        "constraints: {}",
        "constraints: {harm: {rsk: mean}}",
        "extends: 3",
    ],
)
def test_what_a_schema_can_see_is_refused(text):
    assert not valid(text)
