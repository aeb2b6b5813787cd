"""The expressions of a risk: every spelling, the exact text and column of every error, hostile texts."""

import random
import time

import pytest

from openrlhf_rad.errors import Place, ProfileError
from openrlhf_rad.method.spectrum import make_mixture, make_piecewise, make_spectrum
from openrlhf_rad.profile import RiskProfile
from openrlhf_rad.profile.risk import MAX_CHARACTERS, expand, read_spectrum
from openrlhf_rad.profile.yaml import Problems, from_plain

CVAR, MEAN = make_spectrum("cvar", alpha=0.9), make_spectrum("mean")
STEPS = make_piecewise([(0, 0.2), (0.9, 1), (0.99, 5)])
MOSTLY_CVAR = make_mixture([(0.8, CVAR), (0.2, MEAN)])
MEASURES = "mean, var, cvar, linear, exponential, power, wang"


def problems_of(risk):
    with pytest.raises(ProfileError) as caught:
        RiskProfile.from_text(f"risk: {risk}\n", "f.yaml")
    return caught.value.problems


@pytest.mark.parametrize(
    ("risk", "expected"),
    [
        ("0.8*cvar(alpha=0.9) + 0.2*mean", MOSTLY_CVAR),
        ("0.8 * cvar α=0.9 + 0.2 * mean", MOSTLY_CVAR),
        (".8*cvar α=9e-1+2e-1*mean()", MOSTLY_CVAR),
        ("'0.8*cvar(α = 0.9,) + 0.2*mean'", MOSTLY_CVAR),
        (">-\n  0.8*cvar α=0.9\n  + 0.2*mean", MOSTLY_CVAR),
        ("{mixture: [{weight: 0.8, measure: cvar, α: 0.9}, {weight: 0.2, measure: mean}]}", MOSTLY_CVAR),
        ("1*mean", MEAN),
        ("{mixture: [{weight: 1, measure: mean}]}", MEAN),
        ("piecewise 0=0.2 0.9=1 0.99=5", STEPS),
        ("piecewise(0=0.2, 0.9=1, 0.99=5)", STEPS),
        ("{piecewise: [[0, 0.2], [0.9, 1], [0.99, 5]]}", STEPS),
        ("0.5*piecewise 0=0.2 0.9=1 0.99=5 + 0.5*mean", make_mixture([(0.5, STEPS), (0.5, MEAN)])),
        (
            "{mixture: [{weight: 0.5, piecewise: [[0, 0.2], [0.9, 1], [0.99, 5]]},"
            " {weight: 0.5, measure: mean}]}",
            make_mixture([(0.5, STEPS), (0.5, MEAN)]),
        ),
        ("0.3333333333*mean + 0.6666666667*linear", None),
        ("exponential κ=1e+1", make_spectrum("exponential", kappa=10)),
    ],
)
def test_a_risk_has_many_spellings(risk, expected):
    profile = RiskProfile.from_text(f"risk: {risk}\n")
    assert expected is None or profile.risk == expected
    again = RiskProfile.from_text(profile.to_yaml())
    assert again == profile
    assert again.hash == profile.hash


@pytest.mark.parametrize(
    ("risk", "problems"),
    [
        (
            "0.8*cvarr α=0.9 + 0.3*cvar α=2",
            [
                "1:7: risk.mixture is weighted 0.8, 0.3; weights must sum to 1 (their sum is 1.1);"
                " write 0.727272727, 0.272727273",
                f"1:11: risk.mixture.0.measure is cvarr; it must be one of {MEASURES}; did you mean cvar?",
                "1:36: risk.mixture.1.alpha is 2; it must lie in (0, 1); for the worst 10 % use 0.9",
            ],
        ),
        (
            "'0*mean + 0*linear'",
            [
                "1:7: risk.mixture is weighted 0, 0; weights must sum to 1 (their sum is 0); write 0.5, 0.5",
            ],
        ),
        (
            "0.8*cvar α=0.9 + mean",
            [
                "1:24: risk is 0.8*cvar α=0.9 + mean; mean has no weight; in a mixture each measure has one;"
                " write for instance 0.5*mean"
            ],
        ),
        (
            "0.8*cvar α=0.9 +",
            [
                "1:23: risk is 0.8*cvar α=0.9 +; the end stands where a measure belongs;"
                " write for instance cvar α=0.9"
            ],
        ),
        (
            "0.5*cvar 0.9 + 0.5*wangg η=1",
            [
                "1:16: risk is 0.5*cvar 0.9 + 0.5*wangg η=1; 0.9 is not of the form name=value;"
                " write for instance cvar α=0.9",
                f"1:26: risk.mixture.1.measure is wangg; it must be one of {MEASURES}; did you mean wang?",
            ],
        ),
        (
            "0.8*cvar(α=0.9 + 0.2*mean",
            [
                "1:15: risk is 0.8*cvar(α=0.9 + 0.2*mean; this bracket is not closed;"
                " write ) after the last parameter"
            ],
        ),
        (
            "cvar(α=0.9) 0.2*mean",
            [
                "1:7: risk is cvar(α=0.9) 0.2*mean; cvar has no weight; in a mixture each measure has one;"
                " write for instance 0.5*cvar"
            ],
        ),
        (
            "cvar(α=0.9) mean",
            [
                "1:19: risk is cvar(α=0.9) mean; mean stands after the closing bracket; put + before it",
            ],
        ),
        (
            "1.2*cvar α=0.9 - 0.2*mean",
            [
                "1:22: risk is 1.2*cvar α=0.9 - 0.2*mean; a mixture is a sum of weights ≥ 0;"
                " write + and a weight ≥ 0"
            ],
        ),
        (
            "-0.2*mean + 1.2*linear",
            [
                "1:7: risk.mixture.0.weight is -0.2; a weight must be ≥ 0 and finite;"
                " raise this weight and lower another"
            ],
        ),
        (
            "0.5*(mean)",
            [
                "1:11: risk is 0.5*(mean); ( stands where a measure belongs; write for instance cvar α=0.9",
            ],
        ),
        (
            "1*mean * 2",
            [
                "1:14: risk is 1*mean * 2; * is not expected here;"
                " write for instance 0.8*mean α=0.9 + 0.2*mean",
            ],
        ),
        (
            "cvar α=90%",
            [
                "1:14: risk.alpha is 90%; it must be a number in (0, 1); for the worst 10 % use 0.9",
            ],
        ),
        (
            "exponential κ=1e400",
            [
                "1:21: risk.kappa is inf; it must lie in (0, ∞); larger is more averse to the tail;"
                " 3 is moderate"
            ],
        ),
        ("cvar α=0.9 alpha=0.8", ["1:18: risk is cvar α=0.9 alpha=0.8; alpha is given twice; remove one"]),
        (
            "cvar measure=0.9",
            [
                "1:12: risk is cvar measure=0.9; measure is not a parameter of cvar; remove it",
            ],
        ),
        (
            "'cvar alhpa=1 α=0.9'",
            [
                "1:13: risk.alhpa is not a parameter of cvar; cvar takes alpha; did you mean alpha?",
            ],
        ),
        (
            "0.5*mean + 0.5*cvar",
            [
                "1:18: risk.mixture.1.alpha is missing; cvar needs α in (0, 1); write cvar α=0.9",
            ],
        ),
        (">-\n  cvar α=2", ["1:7: risk.alpha is 2; it must lie in (0, 1); for the worst 10 % use 0.9"]),
        ('"cvar\\u0020α=2"', ["1:7: risk.alpha is 2; it must lie in (0, 1); for the worst 10 % use 0.9"]),
        (
            "mean" + " " * 2000 + "()",
            [
                "1:7: risk is mean"
                + " " * 53
                + "...; an expression has at most 2000 characters, this one has"
                " 2006; write the long form"
            ],
        ),
        (
            " + ".join(["0.04*mean"] * 21),
            [
                "1:7: risk.mixture is a list of 21; it must be a list of 1 to 20 measures with their weights;"
                " write for instance [{weight: 1, measure: mean}]"
            ],
        ),
    ],
)
def test_an_error_points_at_the_token_and_says_value_rule_and_fix(risk, problems):
    assert problems_of(risk) == [f"f.yaml:{problem}" for problem in problems]


@pytest.mark.parametrize(
    ("risk", "problems"),
    [
        (
            "piecewise 0.1=1",
            [
                "1:17: risk.piecewise.0.0 is 0.1; the first level must be 0;"
                " put [0, 0] before it to ignore costs below 0.1"
            ],
        ),
        (
            "piecewise 0=1 0.5=0.5 0.4=2",
            [
                "1:25: risk.piecewise.1.1 is 0.5; heights must not fall (the one before is 1);"
                " worse costs never count less; raise it or lower those before",
                "1:29: risk.piecewise.2.0 is 0.4; levels must rise (the one before is 0.5);"
                " sort the steps, one a level",
            ],
        ),
        ("piecewise 0=0", ["1:19: risk.piecewise.0.1 is 0; one height must be positive; write 1"]),
        (
            "piecewise 0=-1 1=2",
            [
                "1:19: risk.piecewise.0.1 is -1; a height must be ≥ 0 and finite;"
                " heights are relative to each other",
                "1:22: risk.piecewise.1.0 is 1; a level must lie in [0, 1); for the worst 10 % use 0.9",
            ],
        ),
        (
            "piecewise -1=0 0=1",
            [
                "1:17: risk.piecewise.0.0 is -1; a level must lie in [0, 1); for the worst 10 % use 0.9",
            ],
        ),
        (
            "piecewise x=1",
            [
                "1:17: risk.piecewise.0.0 is x; a level must be a number in [0, 1);"
                " write for instance [0.9, 1]"
            ],
        ),
        (
            "piecwise 0=1",
            [
                f"1:7: risk.measure is piecwise; it must be one of {MEASURES}; did you mean piecewise?",
            ],
        ),
        (
            "piecewise",
            [
                "1:7: risk.piecewise is a list of 0; it must be a list of 1 to 100 steps, each [level from"
                " which, relative height]; write for instance [[0, 0.2], [0.9, 1], [0.99, 5]]"
            ],
        ),
        (
            "{piecewise: [1, [0, 1, 2], [0, true]], alpha: 3}",
            [
                "1:20: risk.piecewise.0 is 1; a step must be [level from which, relative height];"
                " write for instance [0.9, 1]",
                "1:23: risk.piecewise.1 is a list; a step must be [level from which, relative height];"
                " write for instance [0.9, 1]",
                "1:38: risk.piecewise.2.1 is true; a height must be a number ≥ 0;"
                " write for instance [0.9, 1]",
                "1:46: risk.alpha stands beside piecewise, which takes no more; remove one",
            ],
        ),
        (
            "{mixture: [null, {measure: mean}, {weight: x, measure: mean}, {mixture: []}], weight: 1}",
            [
                "1:18: risk.mixture.0 is null; it must be a measure or steps, with a weight;"
                " write for instance {weight: 0.8, measure: cvar, alpha: 0.9}",
                "1:24: risk.mixture.1.weight is missing; each measure of a mixture has one;"
                " write for instance weight: 0.5",
                "1:50: risk.mixture.2.weight is x; a weight must be a number ≥ 0; write for instance 0.5",
                "1:69: risk.mixture.3 is a mapping; it must be a measure or steps, with a weight;"
                " write for instance {weight: 0.8, measure: cvar, alpha: 0.9}",
                "1:85: risk.weight stands beside mixture, which takes no more; remove one",
            ],
        ),
        (
            "{mesure: cvar}",
            [
                "1:7: risk.measure is missing; a risk is a measure, piecewise or mixture;"
                " did you mean measure?",
            ],
        ),
        (
            "{alpha: 0.9}",
            [
                "1:7: risk.measure is missing; a risk is a measure, piecewise or mixture;"
                " write for instance measure: cvar"
            ],
        ),
        (
            f"{{measure: exponential, κ: -{'9' * 400}}}",
            [
                "1:33: risk.kappa is -inf; it must lie in (0, ∞); larger is more averse to the tail;"
                " 3 is moderate"
            ],
        ),
    ],
)
def test_the_long_form_and_steps_are_checked_alike(risk, problems):
    assert problems_of(risk) == [f"f.yaml:{problem}" for problem in problems]


def test_the_weights_that_an_error_proposes_are_accepted():
    rng = random.Random(0)
    for _ in range(200):
        weights = [round(rng.expovariate(1), 3) for _ in range(rng.randint(2, 20))]
        text = " + ".join(f"{weight}*mean" for weight in weights)
        (problem,) = problems_of(text)
        fixed = problem.rpartition("; write ")[2].split(", ")
        members = read_spectrum(" + ".join(f"{weight}*mean" for weight in fixed)).plain()["mixture"]
        total = sum(weights)
        for member, weight in zip(members, weights, strict=True):
            assert member["weight"] == pytest.approx(weight / total, abs=2e-8)


def test_the_short_form_and_overrides_place_their_errors():
    with pytest.raises(ProfileError) as caught:
        RiskProfile.from_text("medical: 1*cvar α=3", "f.yaml")
    assert caught.value.problems[0].startswith("f.yaml:1:19: risk.mixture.0.alpha is 3;")
    profile = RiskProfile.from_text("medical: 0.8*cvar α=0.9 + 0.2*mean", "f.yaml")
    with pytest.raises(ProfileError) as caught:
        profile.with_overrides({"risk": "0.5*cvar α=3 + 0.5*mean"})
    assert caught.value.problems[0].startswith("--set risk: risk.mixture.0.alpha is 3;")
    with pytest.raises(ProfileError) as caught:
        profile.with_overrides({"risk.alpha": "0.8"})
    assert caught.value.problems == [
        "--set risk.alpha: risk.alpha stands beside mixture, which takes no more; remove one"
    ]


def test_reading_back_an_expression_names_the_column():
    with pytest.raises(ProfileError) as caught:
        read_spectrum("0.5*mean + 0.5*cvar α=1")
    assert caught.value.problems == [
        "risk:1:23: risk.mixture.1.alpha is 1; it must lie in (0, 1); for the worst 10 % use 0.9"
    ]


def test_random_texts_give_a_spectrum_or_a_profile_error():
    rng = random.Random(1)
    words = [
        *"()*+=,-.αhκ% \t\n0",
        "0.5",
        "1e-3",
        "mean",
        "cvar",
        "α=0.9",
        "piecewise",
        "0=1",
        "mixture",
        "9" * 50,
    ]
    read, problems = 0, []
    for _ in range(20_000):
        text = " ".join(rng.choices(words, k=rng.randint(0, 8)))
        try:
            read_spectrum(text)
            read += 1
        except ProfileError as error:
            problems += error.problems
    assert read > 20
    assert all(problem.startswith("risk:") for problem in problems)


@pytest.mark.parametrize(
    "piece", ["(", "+", "0=1 ", "1*", "mean+", "α", " ", ",", "1*cvar(α=0.9)+", "9", "."]
)
def test_long_texts_are_read_in_linear_time(piece):
    text = "piecewise " + piece * (50_000 // len(piece)) + "!"
    start = time.process_time()
    node = from_plain(text, "risk", Place("f.yaml", 1, 1))
    expand(Problems(["f.yaml"]), node, limit=200_000)
    assert time.process_time() - start < 2
    problems = Problems(["f.yaml"])
    assert expand(problems, node) is None
    assert problems.found[0].rule.startswith(f"an expression has at most {MAX_CHARACTERS} characters")
