"""The profile language: forms, errors with their exact text, round trip, hash, overrides, shipped files."""

import math
import subprocess
import sys
from pathlib import Path

import pytest

from openrlhf_rad.errors import ProfileError, ReferenceCostError
from openrlhf_rad.method.spectrum import make_spectrum
from openrlhf_rad.profile import Level, RiskProfile, load_profile, shipped_profiles

ROOT = Path(__file__).parents[2]

LONG = """\
name: medical
description: The worst answers decide.
risk: {measure: cvar, alpha: 0.9}
constraint:
  {form: improvement, level: 20% of reference risk, margin: 0.5 of reference spread, gradient: tilted}
dual: {initial: 0, step: 1e-3, max: 5}
transport: {epsilon: 0.2, particles: 32, tolerance: 1e-7, max_iterations: 500, indicator: exact}
cost: {remote_url: "http://localhost:5000/cost"}
reference: {samples: 512, file: costs.npz}
evaluate: {confidence: 0.99, improvement: 10% of reference spread, tolerance: 0.05, resamples: 500}
watches: {window: 30, inert: stop, entropy: off}
"""


def read(text, **options):
    return RiskProfile.from_text(text, "medical.yaml", **options)


def problems_of(text):
    with pytest.raises(ProfileError) as caught:
        read(text)
    return caught.value.problems


def test_the_long_form_is_read_in_full(tmp_path):
    profile = read(LONG, folder=tmp_path)
    assert profile.resolved() == {
        "name": "medical",
        "description": "The worst answers decide.",
        "risk": {"measure": "cvar", "alpha": 0.9},
        "units": "spread",
        "constraint": {
            "form": "improvement",
            "level": "0.2 of reference risk",
            "margin": "0.5 of reference spread",
            "floor": None,
            "gradient": "tilted",
            "tails": "winsorised",
        },
        "dual": {
            "initial": 0.0,
            "step": 0.001,
            "max": 5.0,
            "method": "ascent",
            "gap": "exact",
            "estimate": "last",
            "confidence": None,
        },
        "transport": {
            "epsilon": 0.2,
            "particles": 32,
            "tolerance": 1e-7,
            "max_iterations": 500,
            "indicator": "exact",
        },
        "cost": {"remote_url": "http://localhost:5000/cost"},
        "reference": {"samples": 512, "file": str((tmp_path / "costs.npz").resolve())},
        "evaluate": {
            "confidence": 0.99,
            "improvement": "0.1 of reference spread",
            "worsening": 0.0,
            "tolerance": 0.05,
            "threshold": 0.0,
            "resamples": 500,
        },
        "watches": {
            "window": 30,
            "harmful_label": "harmful",
            "inert": "stop",
            "dead": "stop",
            "at_cap": "warn",
            "inverted": "stop",
            "saturated": "warn",
            "no_control": "warn",
            "transport": "warn",
            "empty": "warn",
            "short": "warn",
            "alike": "warn",
            "entropy": "off",
        },
    }


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("cvar α=0.9", make_spectrum("cvar", alpha=0.9)),
        ("cvar alpha=0.9", make_spectrum("cvar", alpha=0.9)),
        ("cvar(alpha=0.9)", make_spectrum("cvar", alpha=0.9)),
        ("cvar( α = 9e-1 )", make_spectrum("cvar", alpha=0.9)),
        ("var α=0.9, h=0.1", make_spectrum("var", alpha=0.9, bandwidth=0.1)),
        ("var α=0.9", make_spectrum("var", alpha=0.9, bandwidth=0.05)),
        ("wang η=0.75", make_spectrum("wang", eta=0.75)),
        ("exponential κ=3", make_spectrum("exponential", kappa=3)),
        ("power γ=2", make_spectrum("power", gamma=2)),
        ("mean", make_spectrum("mean")),
        ("linear()", make_spectrum("linear")),
        ("{measure: cvar, α: 0.9}", make_spectrum("cvar", alpha=0.9)),
    ],
)
def test_a_risk_has_many_spellings(expression, expected):
    assert read(f"risk: {expression}").risk == expected


def test_the_short_form_is_the_long_form():
    short = read("medical: cvar α=0.9\n")
    assert short == read("name: medical\nrisk: {measure: cvar, alpha: 0.9}\n")
    assert short.name == "medical"


def test_a_profile_without_a_name_is_called_after_its_file():
    assert read("risk: mean").name == "medical"


def test_scientific_numbers_are_numbers():
    assert read("risk: mean\ndual: {step: 1e-3, max: 1E1}").dual.step == 0.001
    assert read("risk: mean\nreference: {samples: 010}").reference.samples == 10


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            "name: medical\ndescription: why\n\nrisk: {α: 1.7, measure: cvar}",
            "medical.yaml:4:11: risk.alpha is 1.7; it must lie in (0, 1); for the worst 10 % use 0.9",
        ),
        (
            "medical: cvarr α=0.9",
            "medical.yaml:1:10: risk.measure is cvarr; it must be one of mean, var, cvar, linear,"
            " exponential, power, wang; did you mean cvar?",
        ),
        (
            "risk: mean\nrisk: linear",
            "medical.yaml:2:1: risk is given twice; a key may appear once; remove this one"
            " or the one in line 1",
        ),
        (
            "risk: {measure: cvar, α: 0.9, alpha: 0.8}",
            "medical.yaml:1:23: risk.alpha is given twice, as α and as alpha; remove one",
        ),
        (
            "risk: mean\nconstraint: {levle: 3}",
            "medical.yaml:2:14: constraint.levle is not a key of constraint; the keys are form, level,"
            " margin, floor, gradient, tails; did you mean level?",
        ),
        (
            "risk: mean\ndual: {step: fast}",
            "medical.yaml:2:14: dual.step is fast; it must be a number in [0, ∞); 0.1 is the default",
        ),
        (
            "risk: mean\ndual: {step: true}",
            "medical.yaml:2:14: dual.step is true; it must be a number in [0, ∞); 0.1 is the default",
        ),
        (
            "risk: mean\ndual: {max: .inf}",
            "medical.yaml:2:13: dual.max is inf; it must lie in (0, ∞); 10 is the default",
        ),
        (
            "risk: mean\nreference: {samples: 3.5}",
            "medical.yaml:2:22: reference.samples is 3.5; it must be auto or a whole number of at"
            " least 8; auto makes its noise small against the ask",
        ),
        (
            "risk: mean\ntransport: [1]",
            "medical.yaml:2:12: transport is a list; it must be a mapping; its keys are epsilon, particles,"
            " tolerance, max_iterations, indicator",
        ),
        (
            "risk: mean\ndual: {initial: 20}",
            "medical.yaml:2:17: dual.initial is 20; dual.initial (20) must be at most dual.max (10);"
            " write dual.initial: 10",
        ),
        (
            "risk: mean\nconstraint: {form: spectral, margin: 1}",
            "medical.yaml:2:38: constraint.margin is 1; form spectral takes no margin, for it compares"
            " averages; remove it",
        ),
        (
            "risk: mean\nconstraint: {form: no_worse, level: -1}",
            "medical.yaml:2:37: constraint.level is -1; it must be ≥ 0; a dominance gap is never negative",
        ),
        (
            "risk: mean\ncost: {model: a, function: b.py}",
            "medical.yaml:2:7: cost names model and function; it must hold exactly one of model, classifier,"
            " judge, ensemble, function, remote_url; keep one",
        ),
        (
            "medical: mean\ndual: {step: 1}",
            "medical.yaml:1:1: medical is the short form of a profile; a file holds either this one line"
            " or the long form; write name: medical and risk: mean",
        ),
        ("risk: cvar", "medical.yaml:1:7: risk.alpha is missing; cvar needs α in (0, 1); write cvar α=0.9"),
        (
            "risk: cvar 0.9",
            "medical.yaml:1:12: risk is cvar 0.9; 0.9 is not of the form name=value;"
            " write for instance cvar α=0.9",
        ),
        (
            "risk:\n\tmeasure: cvar",
            "medical.yaml:2:1: this is not valid YAML: found character '\\t' that cannot start any token;"
            " indent with spaces",
        ),
        (
            "risk: [mean",
            "medical.yaml:1:12: this is not valid YAML: expected ',' or ']', but got '<stream end>';"
            " put commas between the items, and close the bracket",
        ),
        (
            "risk: &r mean\ndescription: *r",
            "medical.yaml:2:14: this is not valid YAML: an alias (*name) is used; write the value out",
        ),
        (
            "",
            "medical.yaml:1:1: the profile is empty; it must be a mapping; the shortest profile is one line,"
            " medical: cvar α=0.9",
        ),
    ],
)
def test_each_error_says_place_value_rule_and_fix(text, problem):
    assert problems_of(text) == [problem]


def test_all_problems_are_reported_at_once_from_top_to_bottom():
    text = "name: my profile\nrisk: cvar α=2\ndual:\n  stepp: 1\n  max: -1\nriskk: 3\n"
    assert problems_of(text) == [
        "medical.yaml:1:7: name is my profile; it must be letters, digits, dots, dashes and underscores, for"
        " it names folders; write my-profile",
        "medical.yaml:2:14: risk.alpha is 2; it must lie in (0, 1); for the worst 10 % use 0.9",
        "medical.yaml:4:3: dual.stepp is not a key of dual; the keys are initial, step, max, method, gap,"
        " estimate, memory, confidence, proportional, derivative, smoothing, delay; did you mean step?",
        "medical.yaml:5:8: dual.max is -1; it must lie in (0, ∞); 10 is the default",
        "medical.yaml:6:1: riskk is not a key of a profile; the keys are name, description, extends, risk,"
        " units, values, constraint, constraints, segments, dual, transport, cost, reference, evaluate,"
        " watches; did you mean risk?",
    ]


def test_hostile_text_is_refused_quickly():
    assert "nested too deeply" in problems_of("[" * 5000)[0]
    assert "at most 100000" in problems_of("a" * 200_000)[0]
    assert (
        "remove the tag"
        in problems_of("risk: !!python/object/apply:os.getcwd []\nname: !!python/name:x y")[0]
    )


@pytest.mark.parametrize("name", shipped_profiles())
def test_every_shipped_profile_loads_and_survives_its_own_text(name, tmp_path):
    profile = load_profile(name)
    assert profile.name == name
    assert profile.description
    assert profile.weights(16).mean() == pytest.approx(1)
    assert bool(profile.warnings) == (name in ("paper", "var"))
    path = tmp_path / "again.yaml"
    path.write_text(profile.to_yaml(), encoding="utf-8")
    again = load_profile(path)
    assert again == profile
    assert again.hash == profile.hash


def test_the_shipped_profiles_are_these():
    paper = {"paper", "uniform", "var", "cvar", "linear", "wang", "power", "exponential", "safe-rlhf"}
    products = {"medical", "legal", "education", "children", "code-assistant", "general-assistant"}
    assert set(shipped_profiles()) == paper | products | {"flags"}


@pytest.mark.parametrize("name", shipped_profiles())
def test_a_shipped_profile_names_its_schema_and_gives_its_reason_in_two_lines(name):
    lines = (ROOT / "risk_profiles" / f"{name}.yaml").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "# yaml-language-server: $schema=profile.schema.json"
    assert [line.startswith("# ") for line in lines[1:4]] == [True, True, False]


@pytest.mark.parametrize("text", ["1e-3", "010", "null", "a: b", "two\nlines ", "*x", "ä", "%", ""])
def test_any_description_survives_the_round_trip(text, tmp_path):
    profile = read(LONG, folder=tmp_path).with_overrides({})
    odd = RiskProfile(**{**vars(profile), "description": text})
    assert read(odd.to_yaml()) == odd


def test_the_hash_covers_the_method_and_not_names_or_paths(tmp_path):
    profile = read(LONG, folder=tmp_path)
    same = LONG.replace("name: medical", "name: other").replace("costs.npz", "other.npz")
    assert read(same, folder=tmp_path).hash == profile.hash
    for old, new in [("0.9", "0.8"), ("1e-3", "2e-3"), ("tilted", "spacing"), ("512", "64"), ("20%", "0.2")]:
        changed = read(LONG.replace(old, new), folder=tmp_path)
        assert (changed.hash == profile.hash) == (old == "20%")
    assert len(profile.hash) == 64


def test_overrides_replace_single_values():
    profile = read("medical: cvar α=0.9").with_overrides(
        {"risk.alpha": "0.8", "dual.step": 0.2, "constraint.form": "spectral", "name": "strict"}
    )
    assert profile.risk == make_spectrum("cvar", alpha=0.8)
    assert profile.dual.step == 0.2
    assert profile.name == "strict"
    assert profile.constraint.margin.value == 0
    assert profile.with_overrides({"risk": "wang η=1"}).risk == make_spectrum("wang", eta=1)


def test_overriding_the_cost_replaces_its_source(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    profile = read(LONG).with_overrides({"cost.function": "judge.py"})
    assert profile.resolved()["cost"] == {"function": str(tmp_path / "judge.py")}


@pytest.mark.parametrize(
    ("overrides", "problem"),
    [
        ({"dual.step": "-1"}, "--set dual.step: dual.step is -1; it must lie in [0, ∞); 0.1 is the default"),
        (
            {"dual.stp": "1"},
            "--set dual.stp: dual.stp is not a key of dual; the keys are initial, step, max, method,"
            " gap, estimate, memory, confidence, proportional, derivative, smoothing, delay;"
            " did you mean step?",
        ),
        (
            {"risk": "cvar α=3"},
            "--set risk: risk.alpha is 3; it must lie in (0, 1); for the worst 10 % use 0.9",
        ),
        (
            {"risk.α": "3"},
            "--set risk.α: risk.alpha is 3; it must lie in (0, 1); for the worst 10 % use 0.9",
        ),
        (
            {"a.b.c": "3"},
            "--set a.b.c: a is not a key of a profile; the keys are name, description, extends, risk,"
            " units, values, constraint, constraints, segments, dual, transport, cost, reference,"
            " evaluate, watches",
        ),
        (
            {"dual.": "3"},
            "--set dual.: it names no value; keys look like dual.step; write --set dual.step=0.1",
        ),
    ],
)
def test_errors_of_overrides_name_the_option(overrides, problem):
    with pytest.raises(ProfileError) as caught:
        read("medical: cvar α=0.9").with_overrides(overrides)
    assert caught.value.problems == [problem]


def test_relative_paths_start_at_the_profile(tmp_path):
    (tmp_path / "model").mkdir()
    path = tmp_path / "p.yaml"
    for raw, expected in [("./m", tmp_path / "m"), ("model", tmp_path / "model"), ("org/name", "org/name")]:
        path.write_text(f"risk: mean\ncost: {{model: {raw}}}\n")
        assert load_profile(path).cost.location == str(expected)


def test_an_unknown_name_lists_the_shipped_ones():
    with pytest.raises(ProfileError) as caught:
        load_profile("medicla")
    assert str(caught.value).startswith(
        "no risk profile is called medicla; shipped are children, code-assistant,"
    )
    assert str(caught.value).endswith("did you mean medical?")
    with pytest.raises(ProfileError, match=r"there is no such file.*did you mean medical\?"):
        load_profile("./medcal.yaml")


def test_a_file_that_is_not_text_is_refused(tmp_path):
    path = tmp_path / "p.yaml"
    path.write_bytes(b"risk: \xff\xfe")
    with pytest.raises(ProfileError, match="byte 6 is not UTF-8"):
        load_profile(path)


def test_levels_in_four_units():
    costs = [1.0, 2.0, 3.0, 4.0, 10.0]
    spread = math.sqrt(10.0)
    assert Level.parse(3).resolve(costs, 7.0) == 3.0
    assert Level.parse("20% of reference risk").resolve(costs, 7.0) == pytest.approx(1.4)
    assert Level.parse("0.5 of the reference spread").resolve(costs, -7.0) == pytest.approx(spread / 2)
    assert Level.parse("reference quantile 0.8").resolve(costs, -7.0) == 4.0
    with pytest.raises(ReferenceCostError, match="use spread"):
        Level.parse("20% of reference risk").resolve(costs, -0.1)
    for wrong in ("20%", "half of reference risk", "0.5 of spread", "reference quantile", "9" * 10_000):
        with pytest.raises(ValueError, match=r"\w"):
            Level.parse(wrong)
    assert math.isclose(Level.parse("12.5 % of reference spread").value, 0.125)


def test_settings_that_cannot_work_well_are_named():
    assert "not a coherent" in read("risk: var α=0.9").warnings[0]
    inert = "risk: mean\nconstraint: {form: improvement, margin: 0}"
    assert "takes noise for a gap" in read(inert).warnings[0]
    assert "λ can only rise" in read("risk: mean\nconstraint: {level: 0}").warnings[0]
    expected = "risk: {}\nconstraint: {{form: expected}}"
    assert "plays no part in training" in read(expected.format("cvar α=0.9")).warnings[0]
    assert read(expected.format("mean")).warnings == ()
    assert read(expected.format("mean") + "\nsegments: {child: cvar α=0.9}").warnings == ()
    assert "not a coherent" in read("risk: 0.5*var α=0.9 + 0.5*mean").warnings[0]
    assert read("risk: mean").warnings == ()


def test_profiles_load_without_torch_scipy_or_pot():
    code = (
        "import sys, openrlhf_rad.profile as p; p.load_profile('wang');"
        " print({'torch', 'scipy', 'ot'} & set(sys.modules))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "set()"
