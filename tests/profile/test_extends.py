"""`extends`: what is taken over, what is replaced, places in the right file, and what is refused."""

import pytest

from openrlhf_rad.errors import ProfileError
from openrlhf_rad.method.spectrum import make_spectrum
from openrlhf_rad.profile import CostSource, Level, load_profile

BASE = """\
name: base
description: The base.
risk: cvar α=0.9
constraint: {form: no_worse, level: 0.1, margin: 0.5}
dual: {initial: 2, step: 0.3}
cost: {model: ./harm}
constraints:
  harm: {level: 0.2}
  privacy: {risk: mean, cost: {function: privacy.py}}
segments: {child: cvar α=0.99}
"""


@pytest.fixture
def load(tmp_path, monkeypatch):
    """Writes files and loads the last of them."""
    monkeypatch.chdir(tmp_path)

    def write(**texts):
        for name, text in texts.items():
            path = tmp_path / f"{name.replace('__', '/')}.yaml"
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
        return load_profile(f"{list(texts)[-1].replace('__', '/')}.yaml")

    return write


def problems_of(load, **texts):
    with pytest.raises(ProfileError) as caught:
        load(**texts)
    return caught.value.problems


def named(profile):
    return {one.name: one for one in profile.constraints}


def test_a_shipped_profile_is_extended_by_its_name(load):
    medical = load_profile("medical")
    profile = load(clinic="extends: medical\nrisk: {alpha: 0.95}\n")
    assert profile.name == "clinic"
    assert profile.description == ""
    assert profile.risk == make_spectrum("cvar", alpha=0.95)
    assert (profile.constraint, profile.dual) == (medical.constraint, medical.dual)


def test_mappings_merge_key_by_key(load):
    text = "extends: base.yaml\ndual: {step: 0.1}\nconstraints: {harm: {margin: 0.7}, third: wang η=1}"
    profile = load(base=BASE, top=text)
    found = named(profile)
    assert list(found) == ["harm", "harm.child", "privacy", "privacy.child", "third", "third.child"]
    assert (profile.dual.initial, profile.dual.step) == (2, 0.1)
    assert (found["harm"].settings.level, found["harm"].settings.margin) == (Level(0.2), Level(0.7))


def test_an_entry_in_its_short_form_is_merged_into(load):
    profile = load(base=BASE, top="extends: base.yaml\nsegments: {child: {level: 0.05}}")
    child = named(profile)["harm.child"]
    assert (child.risk, child.settings.level) == (make_spectrum("cvar", alpha=0.99), Level(0.05))


def test_a_risk_with_a_measure_a_cost_and_an_entry_are_replaced(load):
    text = (
        "extends: base.yaml\nrisk: {measure: wang, eta: 1}\ncost: {function: f.py}\nsegments: {child: mean}"
    )
    found = named(load(base=BASE, top=text))
    assert found["harm"].risk == make_spectrum("wang", eta=1)
    assert found["harm"].cost.kind == "function"
    assert found["harm.child"].risk == make_spectrum("mean")


def test_null_takes_a_value_back(load):
    profile = load(base=BASE, top="extends: base.yaml\ndual: null\nsegments: {child: null}\ncost: null")
    assert profile.dual.step == 0.1
    assert list(named(profile)) == ["harm", "privacy"]
    assert profile.cost is None


def test_a_new_form_begins_with_its_own_level(load):
    profile = load(base=BASE, top="extends: base.yaml\nconstraint: {form: expected}\nconstraints: null")
    assert profile.constraint.level == Level(0.4, "spread")


def test_paths_start_from_the_file_that_names_them(load, tmp_path):
    profile = load(low__base=BASE, top="extends: low/base.yaml")
    found = named(profile)
    assert found["harm"].cost == CostSource("model", str((tmp_path / "low/harm").resolve()))
    assert found["privacy"].cost == CostSource("function", str((tmp_path / "low/privacy.py").resolve()))


def test_the_resolved_profile_stands_alone(load, tmp_path):
    profile = load(base=BASE, top="extends: base.yaml\nrisk: {α: 0.95}")
    (tmp_path / "base.yaml").unlink()
    again = load(again=profile.to_yaml())
    assert again == profile
    assert again.hash == profile.hash
    assert "extends" not in profile.resolved()


def test_a_chain_of_files(load):
    profile = load(base=BASE, middle="extends: base.yaml\nrisk: linear", top="extends: ./middle.yaml")
    assert profile.risk == make_spectrum("linear")
    assert profile.dual.step == 0.3


def test_problems_stand_where_the_value_does(load):
    base = BASE.replace("step: 0.3", "step: -1").replace("name: base", "nme: base")
    text = "extends: low/base.yaml\ndual: {max: 0}\nrisk: {alpha: 2}"
    assert problems_of(load, low__base=base, top=text) == [
        "top.yaml:2:13: dual.max is 0; it must lie in (0, ∞); 10 is the default",
        "top.yaml:3:15: risk.alpha is 2; it must lie in (0, 1); for the worst 10 % use 0.9",
        "low/base.yaml:1:1: nme is not a key of a profile; the keys are name, description, extends, risk,"
        " units, values, constraint, constraints, segments, dual, transport, cost, reference, evaluate,"
        " watches; did you mean name?",
        "low/base.yaml:5:26: dual.step is -1; it must lie in [0, ∞); 0.1 is the default",
    ]


def test_overrides_come_last(load):
    profile = load(base=BASE, top="extends: base.yaml\nrisk: {alpha: 0.95}")
    assert profile.with_overrides({"risk.alpha": "0.8"}).risk == make_spectrum("cvar", alpha=0.8)
    with pytest.raises(ProfileError, match="--set extends: a profile's base is merged when it is read"):
        profile.with_overrides({"extends": "medical"})


def test_a_circle_is_refused(load):
    texts = {"low": "extends: top.yaml\nrisk: mean", "top": "extends: low.yaml"}
    assert problems_of(load, **texts) == [
        "low.yaml:1:10: extends is top.yaml; it comes back to top.yaml, which extends this one;"
        " remove one extends"
    ]
    assert "it comes back to" in problems_of(load, top="extends: ./top.yaml")[0]


def test_eight_bases_are_enough(load):
    files = {"f0": "risk: mean", **{f"f{i}": f"extends: f{i - 1}.yaml" for i in range(1, 10)}}
    (problem,) = problems_of(load, **files)
    assert (
        problem == "f1.yaml:1:10: extends is f0.yaml; files may extend one another 8 deep; merge some of them"
    )
    del files["f9"]
    assert load(**files).risk == make_spectrum("mean")


@pytest.mark.parametrize(
    ("written", "problem"),
    [
        ("genral-assistant", "no risk profile is called genral-assistant;"),
        ("missing.yaml", "missing.yaml: there is no such file;"),
        ("https://example.org/a.yaml", "never an address;"),
        ("/etc/base.yaml", "a path must be relative to this file"),
        ("~/base.yaml", "a path must be relative to this file"),
        ("[a, b]", "it must be the name of a shipped profile or a path"),
        ("null", "it must be the name of a shipped profile or a path"),
    ],
)
def test_what_no_base_can_be(load, written, problem):
    # The rest is checked all the same; a missing risk is not the fault of this file.
    found = problems_of(load, top=f"extends: {written}\ndual: {{step: -1}}")
    assert found[0].startswith("top.yaml:1:10: extends is ")
    assert problem in found[0]
    assert found[1:] == ["top.yaml:2:14: dual.step is -1; it must lie in [0, ∞); 0.1 is the default"]
