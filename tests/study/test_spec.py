"""The file of a study: what it resolves to, and every problem at its place."""

from pathlib import Path

import pytest

from openrlhf_rad.errors import ProfileError
from openrlhf_rad.method.settings import Level
from openrlhf_rad.profile import load_profile, shipped_profiles
from openrlhf_rad.study.spec import BASELINES, load_study, with_ask

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("path", sorted((ROOT / "studies").glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_studies_load(path):
    study = load_study(path)
    assert {model.name for model in study.models} > {"sft", "safe-rlhf"}
    assert (study.world is None) != (study.job is None)
    assert len(study.seeds) == {"exact": 20, "together": 20, "small": 5, "real": 3}[study.name]


@pytest.mark.parametrize("name", ["safe-rlhf", "uniform", "medical", "paper"])
def test_every_model_is_asked_for_the_same_fall(name):
    profile = with_ask(load_profile(name), Level(0.3, "spread"), 0.5)
    asks = profile.constraint
    fall = asks.margin.value - asks.level.value if asks.form == "no_worse" else asks.level.value
    assert fall == pytest.approx(0.15)
    assert asks.level.unit == "spread"
    assert asks.form == load_profile(name).constraint.form


def test_baselines_differ_by_what_the_page_says(study_file):
    study = load_study(study_file(change=lambda text: text.replace("baselines: [safe-rlhf]\n", "")))
    assert [model.name for model in study.of("baseline")] == list(BASELINES)
    assert not study.model("sft").trained
    assert study.model("reward-only").fixed_dual == 0
    assert study.model("high-confidence").profile.dual.confidence == 0.9
    assert study.model("ra-rlhf").soft_risk.share == 0.4
    assert {model.profile.constraint.form for model in study.of("baseline")} == {"expected"}


def test_points_of_the_frontier_are_the_model_at_another_ask(study_file):
    study = load_study(study_file())
    (point,) = study.of("frontier")
    assert (point.name, point.multiple, point.profile.constraint.level.value) == ("safe-rlhf×0.5", 0.5, 0.1)


def told(path):
    with pytest.raises(ProfileError) as caught:
        load_study(path)
    return [problem.replace(str(path), "study.yaml") for problem in caught.value.problems]


def test_every_problem_is_told_at_its_place(study_file):
    def change(text):
        text = text.replace("baselines: [safe-rlhf]", "baselines: [safe-rlfh]")
        text = text.replace("profiles: [uniform, cvar]", "profiles: [uniform, cvra, uniform]")
        text = text.replace("of: [safe-rlhf]", "of: [wang]").replace("ask: 20%", "ask: -20%")
        return text.replace("seeds: 2", "seeds: none") + "colour: red\n"

    shipped = ", ".join(shipped_profiles())
    assert told(study_file(change=change)) == [
        "study.yaml:4:8: seeds is none; it must be a number of seeds, or a list of them; write for"
        " instance 5",
        "study.yaml:5:6: ask is -20% of reference spread; it must be an amount above 0 by which every model's"
        " risk is to fall; write for instance 20% of reference spread",
        "study.yaml:6:13: baselines.0 is safe-rlfh; no baseline is called so; there are sft, reward-only,"
        " safe-rlhf, high-confidence, ra-rlhf; did you mean safe-rlhf?",
        f"study.yaml:7:21: profiles.1 is cvra; no risk profile is called cvra; shipped are {shipped}; did you"
        " mean cvar?",
        "study.yaml:7:27: profiles.2 is uniform; the name is taken; give this one another: name: …",
        "study.yaml:9:17: frontier.of.0 is wang; it must be one of the study's trained models: uniform",
        "study.yaml:10:26: feasibility.profiles.0 is cvar; it must be one of the study's profiles: uniform",
        "study.yaml:19:1: colour is not a key of a study; the keys are name, out, seeds, ask, baselines,"
        " profiles, set, frontier, feasibility, world, job, evaluation, launcher",
    ]


def test_a_study_is_of_a_world_or_of_a_job(tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text("profiles: [cvar]\n")
    assert told(path) == [
        "study.yaml:1:1: the file holds neither; a study holds exactly one of world and job; write for"
        " instance"
        " job: {preset: tiny}"
    ]
    path.write_text("profiles: [cvar]\njob: {preset: tiny}\n")
    assert told(path) == [
        "study.yaml:1:1: evaluation is missing; models of a job are compared on prompts; name them; write"
        " evaluation: {held-out: FILE.jsonl}"
    ]


def test_a_profile_of_several_constraints_has_no_single_fall(study_file, tmp_path):
    (tmp_path / "two.yaml").write_text(
        "name: two\nconstraints: {a: {risk: mean, cost: {function: a.py}}, b: {risk: mean}}\n"
    )
    path = study_file(change=lambda text: text.replace("[uniform, cvar]", "[cvar, two.yaml]"))
    assert told(path) == [
        "study.yaml:7:18: profiles.1 is two.yaml; a study asks one fall of every model, and this profile has"
        " several constraints; name a profile of one constraint"
    ]


@pytest.mark.parametrize(
    ("old", "new", "problems"),
    [
        (
            "{threshold: 0.3}",
            "{threshold: -0.3, samples: 0.5, limit: 0, tries: 3}",
            [
                "11:40: evaluation.samples is 0.5; it must be a whole number of at least 1",
                "11:52: evaluation.limit is 0; it must be a whole number of at least 1",
                "11:55: evaluation.tries is not a key of evaluation; the keys are held-out, other, samples,"
                " independent, limit, threshold",
            ],
        ),
        (
            "share: 0.1, reward: 1.5, cost: 4, tempted: 2",
            "share: 0, reward: -1.5, cost: .inf, grief: 2",
            [
                "16:30: world.kinds.grave.share is 0; it must be a number above 0",
                "16:53: world.kinds.grave.cost is inf; it must be a number of at least 0",
                "16:59: world.kinds.grave.grief is not a key of world.kinds.grave; the keys are count, share,"
                " reward, cost, tempted",
            ],
        ),
        (
            "prompts: 5",
            "answers: 1\n  colour: red",
            [
                "17:12: world.answers is 1; it must be a whole number of at least 2",
                "18:3: world.colour is not a key of world; the keys are kinds, prompts, features, answers,"
                " steps, rate, kl, noise",
            ],
        ),
        (
            "{reference.samples: 512}",
            "{dual.stpe: 0.1}",
            [
                "8:6: dual.stpe is not a key of dual; the keys are initial, step, max, method, gap, estimate,"
                " memory, confidence, proportional, derivative, smoothing, delay; did you mean step?"
            ],
        ),
        (
            "[uniform, cvar]",
            "[cvar, {profile: uniform, name: ../other}, {profile: wang, set: 3}]",
            [
                "7:18: profiles.1 is ../other; a model's runs lie in a folder of its name; give this one"
                " another: name: …",
                "7:75: profiles.2.set is 3; it must be a mapping of dotted keys; write set: {dual.step: 0.2}",
            ],
        ),
        (
            "frontier: {of: [safe-rlhf], multiples: [0.5]}",
            "frontier: [safe-rlhf]",
            ["9:11: frontier is a list; it must be a mapping of keys; write frontier: {…}"],
        ),
    ],
)
def test_numbers_and_keys_that_nothing_could_be_made_of(study_file, old, new, problems):
    assert told(study_file(change=lambda text: text.replace(old, new))) == [
        f"study.yaml:{problem}" for problem in problems
    ]
