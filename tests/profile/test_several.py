"""Several constraints and segments: what is inherited from where, round trip, hash, overrides, errors."""

import pytest

from openrlhf_rad.errors import ProfileError
from openrlhf_rad.method.spectrum import make_spectrum
from openrlhf_rad.profile import CostSource, Level, RiskProfile, cost_name, load_profile, named_costs

HOSPITAL = """\
name: hospital
risk: cvar α=0.9
constraint: {form: no_worse, level: 10% of reference spread}
dual: {initial: 2}
cost: {function: /harm.py}
constraints:
  harm: {risk: cvar α=0.95, margin: 0.5, dual: {step: 0.2}}
  privacy:
    risk: mean
    form: expected
    cost: {function: /privacy.py}
    segments: {geriatrics: {level: 0.7, dual: {initial: 1}}}
segments:
  pediatrics: cvar α=0.99
"""


def read(text, **options):
    return RiskProfile.from_text(text, "h.yaml", **options)


def problems_of(text):
    with pytest.raises(ProfileError) as caught:
        read(text)
    return caught.value.problems


def named(profile):
    return {one.name: one for one in profile.constraints}


def test_constraints_are_split_by_segments_in_the_order_of_the_file():
    found = named(read(HOSPITAL))
    assert list(found) == [
        "harm",
        "harm.pediatrics",
        "privacy",
        "privacy.geriatrics",
        "privacy.pediatrics",
    ]
    assert found["harm"].excluded == ("pediatrics",)
    assert found["privacy"].excluded == ("geriatrics", "pediatrics")
    assert [one.segment for one in found.values()] == [None, "pediatrics", None, "geriatrics", "pediatrics"]


def test_an_entry_inherits_what_it_does_not_say():
    harm = named(read(HOSPITAL))["harm"]
    assert harm.risk == make_spectrum("cvar", alpha=0.95)
    assert (harm.settings.form, harm.settings.level) == ("no_worse", Level(0.1, "spread"))
    assert harm.settings.margin == Level(0.5)
    assert (harm.dual.initial, harm.dual.step, harm.dual.max) == (2, 0.2, 10)
    assert harm.cost == CostSource("function", "/harm.py")


def test_a_level_is_inherited_only_with_its_form():
    privacy = named(read(HOSPITAL))["privacy"]
    assert (privacy.settings.form, privacy.settings.level) == ("expected", Level(0.4, "spread"))
    assert privacy.settings.margin == Level(0.0)


def test_a_segment_inherits_from_its_constraint():
    found = named(read(HOSPITAL))
    child = found["harm.pediatrics"]
    assert child.risk == make_spectrum("cvar", alpha=0.99)
    assert (child.settings, child.dual, child.cost) == (
        found["harm"].settings,
        found["harm"].dual,
        found["harm"].cost,
    )
    old = found["privacy.geriatrics"]
    assert (old.risk, old.settings.level, old.dual.initial) == (make_spectrum("mean"), Level(0.7), 1)


def test_segments_alone_split_the_only_constraint():
    found = named(read("risk: mean\nsegments: {child: cvar α=0.99}"))
    assert list(found) == ["cost", "cost.child"]
    assert found["cost.child"].risk == make_spectrum("cvar", alpha=0.99)


def test_one_constraint_is_the_plain_case():
    profile = read("medical: cvar α=0.9")
    assert [(one.name, one.risk, one.segment, one.excluded) for one in profile.constraints] == [
        ("cost", profile.risk, None, ())
    ]


def test_sources_are_named_by_the_first_constraint_that_uses_them():
    profile = read(HOSPITAL)
    assert list(named_costs(profile)) == ["harm", "privacy"]
    assert [cost_name(profile, one) for one in profile.constraints] == ["harm"] * 2 + ["privacy"] * 3


def test_without_a_top_level_risk_the_first_constraint_gives_it():
    profile = read("constraints: {harm: cvar α=0.95, privacy: {risk: mean}}")
    assert profile.risk == make_spectrum("cvar", alpha=0.95)


@pytest.mark.parametrize(
    "text",
    [HOSPITAL, "risk: mean\nsegments: {child: cvar α=0.99}", "constraints: {harm: cvar α=0.95}"],
    ids=["both", "segments", "constraints"],
)
def test_a_resolved_profile_reads_back_equal(text):
    profile = read(text)
    again = read(profile.to_yaml())
    assert again.constraints == profile.constraints
    assert again.hash == profile.hash
    assert again.to_yaml() == profile.to_yaml()


def test_the_hash_covers_every_constraint_and_no_cost():
    profile = read(HOSPITAL)
    assert read(HOSPITAL.replace("α=0.99", "α=0.98")).hash != profile.hash
    assert read(HOSPITAL.replace("level: 0.7", "level: 0.8")).hash != profile.hash
    assert read(HOSPITAL.replace("/privacy.py", "/other.py")).hash == profile.hash


def test_overrides_reach_into_entries():
    profile = read(HOSPITAL).with_overrides(
        {"constraints.harm.level": "0.3", "constraints.privacy.segments.geriatrics.dual.step": "0.7"}
    )
    assert named(profile)["harm"].settings.level == Level(0.3)
    assert named(profile)["privacy.geriatrics"].dual.step == 0.7


def test_an_override_of_an_entry_in_its_short_form_keeps_its_risk():
    text = "risk: mean\nconstraints: {harm: cvar α=0.95}\nsegments: {child: cvar α=0.99}"
    values = {"constraints.harm.level": "0.3", "segments.child.dual.step": "0.7"}
    found = named(read(text).with_overrides(values))
    assert (found["harm"].risk, found["harm"].settings.level) == (
        make_spectrum("cvar", alpha=0.95),
        Level(0.3),
    )
    child = found["harm.child"]
    assert (child.risk, child.dual.step) == (make_spectrum("cvar", alpha=0.99), 0.7)
    changed = read(text).with_overrides({"constraints.harm.risk.alpha": "0.9"})
    assert named(changed)["harm"].risk == make_spectrum("cvar", alpha=0.9)
    with pytest.raises(
        ProfileError, match=r"^--set constraints.harm.level: constraints.harm.level is -1; it"
    ):
        read(text).with_overrides({"constraints.harm.level": "-1"})


def test_paths_of_entries_start_from_the_profile_s_folder(tmp_path):
    profile = read("constraints: {harm: {risk: mean, cost: {function: harm.py}}}", folder=tmp_path)
    assert profile.constraints[0].cost == CostSource("function", str((tmp_path / "harm.py").resolve()))


def test_warnings_cover_every_constraint():
    (warning,) = read("constraints: {a: mean, b: var α=0.9}").warnings
    assert warning.startswith("var α=0.9 h=0.05 is not a coherent risk measure")


KEYS = "risk, form, level, margin, floor, gradient, tails, dual, values, cost, segments"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            "constraints: {harm: {risk: cvar α=2}}",
            "h.yaml:1:35: constraints.harm.risk.alpha is 2; it must lie in (0, 1);"
            " for the worst 10 % use 0.9",
        ),
        (
            "constraints:\n  harm: cvar α=2\n",
            "h.yaml:2:16: constraints.harm.risk.alpha is 2; it must lie in (0, 1); for the worst 10 %"
            " use 0.9",
        ),
        (
            "constraints:\n  harm: {risk: mean, levl: 3}",
            f"h.yaml:2:22: constraints.harm.levl is not a key of constraints.harm; the keys are {KEYS};"
            " did you mean level?",
        ),
        (
            "constraints: [mean]",
            "h.yaml:1:14: constraints is a list; it must be a mapping from a name to what holds for it;"
            " write harm: {risk: cvar α=0.9}",
        ),
        (
            "risk: mean\nconstraints: {}",
            "h.yaml:2:14: constraints is empty; it must hold one at least; write harm: {risk: cvar α=0.9},"
            " or remove it",
        ),
        (
            "constraints: {harm: 3}\nrisk: mean",
            f"h.yaml:1:21: constraints.harm is 3; it must be a risk or a mapping; its keys are {KEYS}",
        ),
        (
            "risk: mean\nsegments: {' kids': mean}",
            "h.yaml:2:12: segments. kids: ' kids' is not a name; the name of a segment must be a label as the"
            " data has it, without spaces around it; write the label, in quotes",
        ),
        (
            "risk: mean\nsegments: {'': mean}",
            "h.yaml:2:12: segments.: '' is not a name; the name of a segment must be a label as the data has"
            " it, without spaces around it; write the label, in quotes",
        ),
        (
            "constraints: {my harm: mean}\nrisk: mean",
            "h.yaml:1:15: constraints.my harm: 'my harm' is not a name; the name of a constraint must be"
            " letters, digits, dashes and underscores, for metrics carry it; rename it",
        ),
        (
            "risk: mean\ndual: {max: 5}\nsegments: {child: {dual: {initial: 6}}}",
            "h.yaml:3:36: segments.child.dual.initial is 6; segments.child.dual.initial (6) must be at most"
            " segments.child.dual.max (5); write segments.child.dual.initial: 5",
        ),
        (
            "risk: mean\nsegments: {child: mean}\nreference: {file: /costs.npz}",
            "h.yaml:3:19: reference.file is /costs.npz; a file of costs has one column, and this profile"
            " several constraints or segments; remove it: the reference is then sampled",
        ),
    ],
)
def test_mistakes_are_named(text, problem):
    assert problems_of(text) == [problem]


LABELS = [
    "Malware/Hacking",
    "hate_speech,offensive_language",
    "Privacy Violation",
    "v1.5: other",
    "0",
    "true",
]


@pytest.mark.parametrize("label", LABELS)
def test_labels_as_published_name_segments(label, tmp_path):
    path = tmp_path / "h.yaml"
    path.write_text(f"risk: mean\nsegments: {{'{label}': cvar α=0.9}}\n")
    profile = load_profile(path)
    rest, segment = profile.constraints
    assert (segment.name, segment.segment, rest.excluded) == (f"cost.{label}", label, (label,))
    assert [one.holds_for(label) for one in (rest, segment)] == [False, True]
    (tmp_path / "again.yaml").write_text(profile.to_yaml())
    assert load_profile(tmp_path / "again.yaml").constraints == profile.constraints


def test_a_fault_that_is_inherited_is_reported_once():
    text = "risk: mean\ndual: {max: -1}\nconstraints: {a: mean, b: mean}"
    assert problems_of(text) == ["h.yaml:2:13: dual.max is -1; it must lie in (0, ∞); 10 is the default"]
