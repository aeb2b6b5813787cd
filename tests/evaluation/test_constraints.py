"""Several constraints and segments: each its own cost, risk and prompts; the gate needs every one of them."""

import csv
import json

import numpy as np
import pytest
from openrlhf_rad.cli import gate_run

from openrlhf_rad.errors import ConfigError, DataError
from openrlhf_rad.evaluation.answers import read_answers
from openrlhf_rad.evaluation.columns import Columns, CostColumn
from openrlhf_rad.evaluation.compare import Analysis
from openrlhf_rad.evaluation.constraints import CostOf, costs_of
from openrlhf_rad.evaluation.pairing import pair
from openrlhf_rad.evaluation.run import Job, run
from openrlhf_rad.evaluation.sources import AnswerPlan, Rating, parse_sources
from openrlhf_rad.profile import RiskProfile
from openrlhf_rad.report.pictures import draw
from openrlhf_rad.report.terminal import print_evaluation

PROFILE = """
name: hospital
constraints:
  harm: {risk: cvar α=0.8}
  privacy: {risk: mean}
segments:
  children: cvar α=0.95
"""


def silent(*_):
    """No progress."""


def table(seed, harm=0.0, privacy=0.0, count=400, children=0.0):
    """Answers with two costs, every fourth prompt about children."""
    rng = np.random.default_rng(seed)
    labels = ["children" if p % 4 == 0 else ("pets" if p % 4 == 1 else None) for p in range(count)]
    return [
        {
            "prompt": f"prompt {p}",
            "answer": f"answer to {p}",
            "cost": float(rng.normal() + harm + (children if labels[p] == "children" else 0.0)),
            "cost_privacy": float(rng.exponential() + privacy),
            "segment": labels[p],
        }
        for p in range(count)
    ]


def columns(rows):
    """Costs and labels of a table as arrays."""
    cost = {
        "harm": np.array([row["cost"] for row in rows]),
        "privacy": np.array([row["cost_privacy"] for row in rows]),
    }
    return cost, np.array([row["segment"] or "" for row in rows])


def cvar(cost_b, alpha):
    """The mean of the costliest 1 − α; the sizes here make it whole answers."""
    kept = round((1 - alpha) * cost_b.size)
    assert kept == pytest.approx((1 - alpha) * cost_b.size)
    return np.sort(cost_b)[-kept:].mean()


ORACLE = {
    "harm": ("harm", lambda label: label != "children", lambda cost: cvar(cost, 0.8)),
    "harm.children": ("harm", lambda label: label == "children", lambda cost: cvar(cost, 0.95)),
    "privacy": ("privacy", lambda label: label != "children", np.mean),
    "privacy.children": ("privacy", lambda label: label == "children", lambda cost: cvar(cost, 0.95)),
}


@pytest.fixture
def evaluated(tmp_path, write):
    """An evaluation of two tables under PROFILE: its data, its folder and both tables."""

    def make(baseline, candidate, profile=PROFILE, **plan):
        paths = [write("baseline.jsonl", baseline), write("candidate.parquet", candidate)]
        held = RiskProfile.from_text(profile)
        job = Job(
            held,
            parse_sources(f"baseline={paths[0]}", f"candidate={paths[1]}", []),
            AnswerPlan(tmp_path / "out", Columns(), asked=costs_of(held), **plan),
            Analysis(draws=200),
            command="rad eval …",
        )
        return run(job, silent), tmp_path / "out"

    return make


def test_every_constraint_against_numpy(evaluated):
    baseline, candidate = table(0), table(1, harm=-0.5, privacy=0.3)
    data, _ = evaluated(baseline, candidate)
    assert [bound["name"] for bound in data["constraints"]] == list(ORACLE)
    (found,) = data["comparisons"]
    for place, (name, (source, holds, risk)) in enumerate(ORACLE.items()):
        sides = []
        for rows in (baseline, candidate):
            costs, labels = columns(rows)
            sides.append(costs[source][[holds(label) for label in labels]])
        bound, held = data["constraints"][place], found["constraints"][place]
        assert (bound["prompts"], bound["cost"]) == (sides[0].size, source)
        assert held["name"] == name
        assert held["improvement"]["risk"]["value"] == pytest.approx(risk(sides[0]) - risk(sides[1]))
        assert held["improvement"]["mean"]["value"] == pytest.approx(sides[0].mean() - sides[1].mean())
        below = np.maximum(np.sort(sides[0]) - np.sort(sides[1]), 0).mean()
        assert held["gaps"]["unweighted"]["below"]["value"] == pytest.approx(below)
        for model, cost_b in zip(data["models"], sides, strict=True):
            one = model["constraints"][place]
            assert one["risk"]["value"] == pytest.approx(risk(cost_b))
            assert one["safe"]["value"] == pytest.approx((cost_b <= 0).mean())
            ranks = np.ceil(np.round(np.array(one["quantiles"]["level"]) * cost_b.size, 6)).astype(int)
            assert one["quantiles"]["cost"] == np.sort(cost_b)[ranks - 1].tolist()
    # The old keys are those of the first constraint's cost and risk, on all prompts.
    harm = [columns(rows)[0]["harm"] for rows in (baseline, candidate)]
    assert found["improvement"]["risk"]["value"] == pytest.approx(cvar(harm[0], 0.8) - cvar(harm[1], 0.8))
    segments = {row["name"]: row for row in found["segments"]}
    assert {name: row["risk"] for name, row in segments.items()} == {
        "children": "cvar α=0.95",
        "pets": "cvar α=0.8",
    }
    assert segments["children"]["improvement_risk"] == found["constraints"][1]["improvement"]["risk"]
    assert [(row["model"], row["constraint"]) for row in data["worst"]] == [
        (model, cost) for cost in ("harm", "privacy") for model in ("baseline", "candidate") for _ in range(5)
    ]
    leaks = [row["cost_privacy"] for row in baseline]
    assert data["worst"][10]["cost"] == max(leaks)


def test_files_pictures_and_print_show_every_constraint(evaluated):
    import io

    from rich.console import Console

    data, folder = evaluated(table(0), table(1, harm=-0.5))
    with open(folder / "constraint_pairs.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["constraint"] for row in rows] == list(ORACLE)
    held = data["comparisons"][0]["constraints"][2]["improvement"]["risk"]
    assert float(rows[2]["risk_low"]) == held["low"]
    names = {path.stem for path in folder.glob("constraint*.csv")}
    kinds = ("models", "quantiles", "pairs", "tests")
    assert names == {"constraints", *(f"constraint_{kind}" for kind in kinds)}
    drawn = {path.name for path in draw(folder) if path.suffix == ".png"}
    assert {f"exceedance-{name}.png" for name in ORACLE} <= drawn
    for width in (44, 100):
        console = Console(width=width, record=True, force_terminal=False, file=io.StringIO())
        print_evaluation(data, console, samples=1)
        text = console.export_text()
        assert max(map(len, text.splitlines())) <= width
        assert {"harm.children", "privacy"} <= set(text.split())
        assert "candidate, privacy cost" in " ".join(text.split())


def test_one_constraint_is_as_it_was(evaluated):
    """Another name and a second cost in the table change nothing but the list of constraints."""
    plain, folder = evaluated(table(0), table(1), profile="harm: cvar α=0.8")
    named, _ = evaluated(table(0), table(1), profile="{name: x, constraints: {harm: cvar α=0.8}}")
    assert not list(folder.glob("constraint*"))
    for data in (plain, named):
        for row in (*data["comparisons"], *data["models"]):
            (one,) = row.pop("constraints")
            assert {key: row[key] for key in one if key != "name"} == {
                key: value for key, value in one.items() if key != "name"
            }
    assert plain["comparisons"] == named["comparisons"]
    assert plain["models"] == named["models"]


def test_a_constraint_without_prompts_is_told(evaluated):
    rows = [{**row, "segment": None} for row in table(0)]
    data, _ = evaluated(rows, rows)
    assert data["constraints"][1]["prompts"] == 0
    assert data["comparisons"][0]["constraints"][1]["improvement"]["risk"] is None
    assert (
        "constraint harm.children: no prompt carries the label children, the table has no labels; add such"
        " prompts, name the column of the labels by --column segment=NAME, or take a profile without that"
        " segment"
    ) in data["warnings"]


def test_constraints_of_few_prompts_have_no_intervals(evaluated):
    rows = [{**row, "segment": "children" if p == 0 else None} for p, row in enumerate(table(0, count=60))]
    data, _ = evaluated(rows, table(1, count=60))
    one = data["comparisons"][0]["constraints"][1]["improvement"]["risk"]
    assert one["value"] == pytest.approx(rows[0]["cost"] - table(1, count=60)[0]["cost"])
    assert one["low"] is None


NAMED = """
name: x
risk: mean
cost: {function: p.py}
constraints: {harm: {cost: {function: h.py}}, privacy: {risk: mean}, tail: {risk: mean}}
"""


@pytest.mark.parametrize(
    ("given", "renamed", "expected"),
    [
        (["prompt", "cost", "cost_privacy"], [], ["cost", "cost_privacy", "cost_privacy"]),
        (["prompt", "cost", "cost_privacy", "cost_tail"], [], ["cost", "cost_privacy", "cost_tail"]),
        (["costs.harm", "costs.privacy", "cost"], [], ["costs.harm", "costs.privacy", "costs.privacy"]),
        (["a", "b", "cost"], ["cost.privacy=b", "cost=a"], ["a", "b", "b"]),
        (["a", "b", "cost"], ["cost.tail=b"], ["cost", None, "b"]),
        (["cost_harm"], ["cost.harm=gone"], [None, None, None]),
    ],
)
def test_which_column_is_whose_cost(given, renamed, expected):
    """Constraints of one source share its column unless one has its own."""
    costs = costs_of(RiskProfile.from_text(NAMED))
    assert costs == {
        "harm": CostOf("harm", "harm", True),
        "privacy": CostOf("privacy", "privacy", False),
        "tail": CostOf("tail", "privacy", False),
    }
    held = Columns.parse(renamed, costs)
    found = [held.find_cost(cost, given) for cost in costs.values()]
    assert [column and column.name for column in found] == expected


def test_constraints_without_sources_do_not_share_a_cost():
    """Nothing says that privacy is what the column cost measures."""
    costs = costs_of(RiskProfile.from_text(PROFILE))
    assert [Columns().find_cost(cost, ["cost"]) for cost in costs.values()] == [CostColumn("cost"), None]
    with pytest.raises(ConfigError) as caught:
        Columns.parse(["cost.privcy=x"], costs)
    assert str(caught.value).endswith("did you mean cost.privacy?")


@pytest.mark.parametrize("form", ["jsonl", "csv", "parquet"])
def test_a_missing_cost_is_told_with_file_and_column(form, write):
    path = write(f"a.{form}", [{"prompt": "a", "cost": 1.0, "leaks": 2.0}])
    costs = costs_of(RiskProfile.from_text(PROFILE))
    with pytest.raises(DataError) as caught:
        read_answers(path, Columns(), None, costs)
    place = f"{path}: row 1" if form == "parquet" else f"{path}:1"
    assert str(caught.value) == (
        f"{place}: the column cost_privacy is missing, the columns are prompt, cost, leaks; add it, or name"
        " the column by --column cost.privacy=NAME"
    )
    held = read_answers(path, Columns.parse(["cost.privacy=leaks"], costs), None, costs)
    assert {name: cost_b.tolist() for name, cost_b in held.costs.items()} == {"harm": [1.0], "privacy": [2.0]}


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
def test_the_answers_of_a_run_are_read_as_they_are(form, write):
    """A run records the costs of several sources under ``costs``."""
    rows = [
        {"prompt": str(i), "cost": 1.0 * i, "costs": {"harm": 1.0 * i, "privacy": 2.0 * i}} for i in range(3)
    ]
    costs = costs_of(RiskProfile.from_text(PROFILE))
    held = read_answers(write(f"a.{form}", rows), Columns(), None, costs)
    assert held.costs["privacy"].tolist() == [0.0, 2.0, 4.0]
    del rows[1]["costs"]["privacy"]
    with pytest.raises(DataError, match=r"costs\.privacy is missing; every answer needs a cost; mend"):
        read_answers(write(f"b.{form}", rows), Columns(), None, costs)


COST = """
from pathlib import Path
def cost_func(queries, prompts, labels):
    with open(Path(__file__).with_suffix(".calls"), "a") as file:
        file.write("x")
    return [float(len(q) * {factor} % 7) - 3 for q in queries]
"""


def test_each_source_scores_once(evaluated, tmp_path):
    """harm and tail share a source; the table's own costs of privacy are kept."""
    for name, factor in (("h", 3), ("p", 5)):
        (tmp_path / f"{name}.py").write_text(COST.replace("{factor}", str(factor)))
    sides = [table(seed, count=40) for seed in (0, 1)]
    for rows in sides:
        for row in rows:
            del row["cost"]
    profile = "{name: x, constraints: {harm: mean, privacy: mean, tail: mean}}"
    ratings = {name: Rating("cost", "function", str(tmp_path / "h.py")) for name in ("harm", "tail")}
    ratings["privacy"] = Rating("cost", "function", str(tmp_path / "p.py"))
    data, folder = evaluated(*sides, profile=profile, costs=ratings)
    assert (tmp_path / "h.calls").read_text() == "xx"
    assert not (tmp_path / "p.calls").exists()
    kept = [json.loads(line) for line in (folder / "answers" / "baseline.jsonl").read_text().splitlines()]
    assert set(kept[0]["costs"]) == {"harm", "privacy", "tail"}
    assert all(row["cost"] == row["costs"]["harm"] == row["costs"]["tail"] for row in kept)
    assert [row["costs"]["privacy"] for row in kept] == [row["cost_privacy"] for row in sides[0]]
    means = [one["mean"]["value"] for one in data["models"][0]["constraints"]]
    names = ("harm", "privacy", "tail")
    assert means == pytest.approx([np.mean([row["costs"][name] for row in kept]) for name in names])


def options(baseline, candidate, profile, **more):
    plain = dict.fromkeys(
        ("rule", "improvement", "worsening", "tolerance", "confidence", "levels", "segments", "column")
    )
    plain |= {"harmful": None, "no_labels": False}
    sides = {
        "baseline": f"baseline={baseline}",
        "candidate": f"candidate={candidate}",
        "evaluation": None,
        "overrides": None,
    }
    return gate_run.GateOptions(
        **{**plain, **sides, "profile": str(profile), "seed": 0, "as_json": False, **more}
    )


@pytest.fixture
def gate(tmp_path, write):
    """rad gate on two tables under PROFILE: (exit code, rulings)."""

    def decide(baseline, candidate, profile=PROFILE, **more):
        path = tmp_path / "profile.yaml"
        path.write_text(profile)
        given = options(write("baseline.csv", baseline), write("candidate.jsonl", candidate), path, **more)
        verdict = gate_run.judge(given, gate_run._ask(given), gate_run.evidence(given))
        return verdict.outcome, "\n".join(verdict.lines), verdict.rulings

    return decide


BIG = {"count": 4000}


def test_the_gate_passes_only_if_every_constraint_does(gate):
    baseline = table(0, **BIG)
    better = table(1, harm=-2.0, privacy=-2.0, **BIG)
    outcome, words, rulings = gate(baseline, better)
    assert outcome.name == "PASS"
    assert [(one.constraint, one.rule) for one in rulings] == [
        (name, rule) for name in ORACLE for rule in ("risk", "quantiles")
    ]
    assert "\n- pass, cvar α=0.95, constraint privacy.children: " in words
    for worse, name in (
        (table(1, harm=-2.0, privacy=0.5, **BIG), "privacy"),
        (table(1, harm=-2.0, privacy=-2.0, children=4.0, **BIG), "harm.children"),
    ):
        outcome, words, rulings = gate(baseline, worse)
        assert outcome.name == "FAIL"
        failed = {one.constraint for one in rulings if one.outcome.name == "FAIL"}
        assert name in failed <= {name, f"{name}.children"}
        assert words.startswith("FAIL: candidate against baseline.\n")
        assert f", constraint {name}: " in next(line for line in words.split("\n") if "- fail" in line)


def test_the_gate_judges_each_constraint_by_its_own_numbers(gate):
    baseline, candidate = table(0, **BIG), table(1, harm=-1.0, privacy=-0.5, **BIG)
    _, _, rulings = gate(baseline, candidate, rule=["risk"])
    for one in rulings:
        source, holds, risk = ORACLE[one.constraint]
        sides = []
        for rows in (baseline, candidate):
            costs, labels = columns(rows)
            sides.append(costs[source][[holds(label) for label in labels]])
        assert one.change == pytest.approx(risk(sides[1]) - risk(sides[0]))
        # evaluate.improvement is 0.1 of the baseline's spread: of these prompts and this cost.
        assert one.limit == pytest.approx(-0.1 * sides[0].std())


def test_segments_asked_for_are_judged_by_the_constraints_that_hold_for_them(gate):
    baseline, candidate = table(0, **BIG), table(1, harm=-2.0, privacy=-2.0, **BIG)
    _, words, rulings = gate(baseline, candidate, segments="all", rule=["risk"])
    assert [(one.constraint, one.segment) for one in rulings] == [
        ("harm", ""),
        ("harm", "pets"),
        ("harm.children", ""),
        ("privacy", ""),
        ("privacy", "pets"),
        ("privacy.children", ""),
    ]
    assert "mean, constraint privacy, segment pets: " in words


def test_the_gate_never_passes_without_a_constraint_s_cost_or_prompts(gate):
    baseline, candidate = table(0, **BIG), table(1, harm=-2.0, privacy=-2.0, **BIG)
    lacking = [{key: value for key, value in row.items() if key != "cost_privacy"} for row in candidate]
    with pytest.raises(DataError, match=r"candidate\.jsonl:1: the column cost_privacy is missing"):
        gate(baseline, lacking)
    sides = [[{**row, "segment": None} for row in side] for side in (baseline, candidate)]
    with pytest.raises(DataError, match=r"constraint harm\.children: no prompt carries the label children"):
        gate(*sides)


def test_a_panel_never_takes_another_constraint_s_costs(write):
    rows = table(0, count=10)
    held = pair({name: read_answers(write(f"{name}.csv", rows), Columns()) for name in ("a", "b")})
    with pytest.raises(KeyError):
        held.with_costs("privacy")
