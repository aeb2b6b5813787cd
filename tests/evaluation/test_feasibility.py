"""Which model ships: violations against the training's own, bounds by simulation, the choice by its rule."""

import numpy as np
import pytest

from openrlhf_rad.evaluation.feasibility import Candidate, Violation, judge, reason
from openrlhf_rad.evaluation.pairing import paired
from openrlhf_rad.method.constraint import evaluate
from openrlhf_rad.method.reference import resolve
from openrlhf_rad.profile import load_profile

FORMS = {
    "no_worse": {"constraint.form": "no_worse", "constraint.margin": 0.5, "constraint.level": 0.1},
    "improvement": {"constraint.form": "improvement", "constraint.margin": 0.5, "constraint.level": 0.2},
    "spectral": {"constraint.form": "spectral", "constraint.margin": 0, "constraint.level": 0.4},
    "expected": {"constraint.form": "expected", "constraint.margin": 0, "constraint.level": -0.4},
}


@pytest.fixture
def profile():
    """The shipped cvar with a form, few draws, and what else is set."""

    def make(form, name="uniform", **more):
        return load_profile(name).with_overrides({"evaluate.resamples": 200, **FORMS[form], **more})

    return make


def rows(cost_b, label=None, answers=2, reward=0.0):
    """Answers to each prompt one after another, as a run asks for them: all prompts, then all again."""
    prompts = len(cost_b) // answers
    return [
        {"prompt": f"p{i % prompts}", "answer": "a", "label": label, "reward": reward, "cost": float(cost)}
        for i, cost in enumerate(cost_b)
    ]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["uniform", "cvar", "wang"])
def test_the_violation_is_that_of_the_training(form, name, profile):
    rng = np.random.default_rng(1)
    before_b, after_b = rng.normal(size=400), rng.normal(-0.3, 1.2, size=400)
    held = profile(form, name)
    (found,) = judge(held, 1, rows(before_b), rows(after_b)).violations
    ask = resolve(held.constraint, held.risk, before_b)
    expected = evaluate(
        form,
        np.sort(after_b),
        np.sort(before_b),
        held.weights(400),
        level=ask.level,
        margin=ask.shift,
        floor=ask.least,
    )
    assert found.violation * before_b.std() == pytest.approx(expected.violation, abs=1e-9)
    if name == "wang":  # so steep at the top that 400 answers give no bound
        assert found.bound is None or found.bound > found.violation
    else:
        assert found.bound > found.violation


@pytest.mark.parametrize("form", FORMS)
def test_a_model_that_violates_is_seldom_taken_for_feasible(form, profile):
    """At the boundary, a shift that just meets the constraint, at most 5 % may pass."""
    rng = np.random.default_rng(2)
    held = profile(form)
    # In the population the shifts that meet each constraint with equality; of no_worse all quantiles lie
    # 0.1 above the reference that is shifted by 0.5.
    shift = {"no_worse": -0.4, "improvement": -0.2, "spectral": -0.4, "expected": -0.4}[form]
    passed, runs = 0, 400 if form in ("spectral", "expected") else 40  # draws of two curves take time
    for _ in range(runs):
        prompt_p = 0.5 * rng.normal(size=60)
        before_b, after_b = (np.tile(prompt_p, 2) + 0.866 * rng.normal(size=120) for _ in range(2))
        passed += judge(held, 1, rows(before_b), rows(after_b + shift)).feasible
    assert passed <= 0.05 * runs + 2 * np.sqrt(0.05 * 0.95 * runs)


def test_a_model_far_from_the_boundary_is_feasible(profile):
    rng = np.random.default_rng(3)
    before_b = rng.normal(size=400)
    for form in FORMS:
        assert judge(profile(form), 1, rows(before_b), rows(before_b - 1.5)).feasible
        assert not judge(profile(form), 1, rows(before_b), rows(before_b + 1.5)).feasible


def test_too_few_answers_are_no_bound(profile):
    rng = np.random.default_rng(4)
    few = rng.normal(size=100)
    found = judge(profile("spectral", "cvar"), 1, rows(few), rows(few - 5))
    assert found.violations[0].bound is None
    assert found.violations[0].violation < 0
    assert not found.feasible


def test_every_constraint_of_every_segment_must_hold(tmp_path):
    (tmp_path / "two.yaml").write_text(
        "name: two\nrisk: mean\n"
        "constraints:\n"
        "  harm: {risk: mean, form: expected, level: 0, cost: {function: a.py}}\n"
        "  words: {risk: mean, form: expected, level: 1, cost: {function: b.py}}\n"
        "segments:\n  kids: mean\n"
    )
    held = load_profile(tmp_path / "two.yaml")
    rng = np.random.default_rng(5)
    labels = ["kids", "none"]

    def answers(harm, words):
        return [
            {
                **row,
                "label": labels[place % 2],
                "cost": row["cost"] + harm[labels[place % 2]],
                "costs": {"harm": row["cost"] + harm[labels[place % 2]], "words": row["cost"] + words},
            }
            for place, row in enumerate(rows(0.1 * rng.normal(size=400)))
        ]

    before = answers({"kids": 0.0, "none": 0.0}, 0.0)
    good = judge(held, 1, before, answers({"kids": -1.0, "none": -1.0}, 0.0))
    assert [one.constraint for one in good.violations] == ["harm", "harm.kids", "words", "words.kids"]
    assert good.feasible
    bad = judge(held, 1, before, answers({"kids": 1.0, "none": -1.0}, 0.0))
    assert [one.bound > 0 for one in bad.violations] == [False, True, False, False]
    panel = paired(before, before, held)
    assert panel.segments == ("kids", "none")
    assert panel.prompts == 200


def candidate(step, reward, violation, bound):
    return Candidate(step, reward, [Violation("cost", violation, bound)])


SURE, HIGHER = candidate(8, 0.2, -0.3, -0.1), candidate(16, 0.4, -0.2, -0.01)
LIKELY, LIKELIER = candidate(24, 0.9, -0.1, 0.1), candidate(32, 0.8, -0.3, 0.01)
BAD, WORSE = candidate(40, 2.0, 0.1, 0.4), candidate(48, 3.0, 0.2, 0.3)


@pytest.mark.parametrize(
    ("candidates", "chosen", "said"),
    [
        (
            [SURE, HIGHER, LIKELY, WORSE],
            HIGHER,
            "model/ is of step 16: it meets its constraint with 95 % confidence on held-out answers; of those"
            " that do (steps 8, 16) it has the highest reward, 0.4 (candidates: steps 8, 16, 24, 48).",
        ),
        (
            [SURE, BAD],
            SURE,
            "model/ is of step 8: it meets its constraint with 95 % confidence on held-out answers, the only"
            " candidate that does (candidates: steps 8, 40).",
        ),
        (
            [LIKELIER, LIKELY, BAD],
            LIKELY,
            "No candidate (steps 24, 32, 40) is shown to meet its constraint with 95 % confidence on held-out"
            " answers. model/ is of step 24, the best by the estimate: constraint cost holds with 0.1 spreads"
            " to spare by the estimate, at worst it is violated by 0.1.",
        ),
        (
            [BAD, WORSE],
            BAD,
            "No candidate (steps 40, 48) is shown to meet its constraint with 95 % confidence on held-out"
            " answers. model/ is of step 40, the nearest: constraint cost is violated by 0.1 spreads by the"
            " estimate, at worst by 0.4.",
        ),
        (
            [candidate(5, 1.0, -0.1, None)],
            None,
            "No candidate (step 5) is shown to meet its constraint with 95 % confidence on held-out answers."
            " model/ is of step 5: constraint cost holds with 0.1 spreads to spare by the estimate, and the"
            " answers are too few for a bound.",
        ),
    ],
    ids=["highest reward", "only one", "by the estimate", "nearest", "too few"],
)
def test_the_choice_and_its_reason(candidates, chosen, said):
    best = max(candidates, key=lambda one: one.rank)
    assert best is (chosen or candidates[0])
    assert reason(candidates, best, 0.95) == said
