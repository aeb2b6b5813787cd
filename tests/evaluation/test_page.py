"""The page that goes to a committee, made by the commands from tables; its numbers by hand."""

import json

import numpy as np
import pytest

from openrlhf_rad.evaluation.answers import read_answers
from openrlhf_rad.evaluation.columns import Columns

NO = "I'm sorry, I can't help with that."


@pytest.fixture
def evaluated(rad, write, tmp_path):
    """Evaluate tables under a profile and make the page: (eval.json, page, the gate's words)."""

    def make(baseline, candidate, profile="uniform", **more):
        sides = [
            f"--baseline=old={write('old.jsonl', baseline)}",
            f"--candidate=new={write('new.jsonl', candidate)}",
        ]
        extra = [f"--model={name}={write(f'{name}.jsonl', rows)}" for name, rows in more.items()]
        done = rad("eval", *sides, *extra, "--profile", profile, "--out", "e")
        assert done.exit_code == 0, done.output
        gate = rad("gate", "--eval", "e")
        assert rad("report", "e").exit_code == 0
        data = json.loads((tmp_path / "e" / "eval.json").read_text())
        return data, (tmp_path / "e" / "report.html").read_text(), gate.stdout

    return make


def scored(costs, **columns):
    return [
        {
            "prompt": f"p{i}",
            "answer": f"a{i}",
            "cost": float(cost),
            **{key: held[i] for key, held in columns.items()},
        }
        for i, cost in enumerate(costs)
    ]


def test_the_page_and_eval_json_say_what_the_gate_says(evaluated):
    rng = np.random.default_rng(0)
    base = rng.normal(size=200)
    data, page, said = evaluated(scored(base), scored(base - 1 + 0.3 * rng.normal(size=200)))
    gate = data["comparisons"][0]["gate"]
    assert said.split("\n")[:3] == [gate["sentence"], *(f"- pass, {one['line']}" for one in gate["rulings"])]
    assert gate["sentence"] == "PASS: new against old."
    header = page[: page.index("</header>")]
    assert '<div class="verdict pass">' in header
    assert '<span class="badge">PASS</span>new against old.' in header
    for ruling in gate["rulings"]:
        assert f'<b class="pass">pass</b> {ruling["line"]}'.replace("'", "&#39;") in page
    assert "Doubt" not in page  # nobody gave rewards, and nobody misses them
    assert "mean reward" not in page


def test_a_cost_turned_round_passes_on_no_page(rad, write, tmp_path):
    """What the gate refuses to judge, the page does not judge either."""
    rng = np.random.default_rng(1)
    for name, harm in (("old", 0.1), ("new", 0.5)):
        bad = rng.random(300) < harm
        labels = ["unsafe" if one else "safe" for one in bad]
        write(f"{name}.jsonl", scored(rng.normal(size=300) - 3 * bad, label=labels))
    words = ["--baseline=old=old.jsonl", "--candidate=new=new.jsonl", "--profile", "uniform", "--out", "e"]
    assert rad("eval", *words).exit_code == 1
    gate = json.loads((tmp_path / "e" / "eval.json").read_text())["comparisons"][0]["gate"]
    assert gate["outcome"] == "inconclusive"
    assert "the sign of the cost is inverted" in gate["sentence"]
    rad("report", "e")
    assert '<span class="badge">INCONCLUSIVE</span>' in (tmp_path / "e" / "report.html").read_text()


def test_prompts_that_got_worse_are_counted_and_shown(evaluated):
    old = scored([0.0, 1.0, 2.0, 3.0] * 15)
    new = scored([0.5, 1.0, 1.0, 5.0 - 0.01 * (i // 4)][i % 4] for i in range(60))
    data, page, _ = evaluated(old, new)
    held = data["comparisons"][0]["worse"]
    assert (held["higher"], held["lower"]) == (30, 15)
    assert [row["prompt"] for row in held["prompts"]] == ["p3", "p7", "p11", "p15", "p19"]
    assert held["prompts"][1]["rise"] == pytest.approx(1.99)
    assert [side["answer"] for side in held["prompts"][0]["answers"]] == ["a3", "a3"]
    assert "new costs more than old on 30 of 60 prompts and less on 15." in page


def test_refusals_of_harmful_prompts_and_over_refusals_of_benign_ones(evaluated, write):
    labels = ["harmful", "benign"] * 100
    texts = {
        "old": [NO if i % 2 == 0 and i < 60 else "Of course." for i in range(200)],  # 30 of 100 harmful ones
        "new": [NO if i < 150 else "Of course." for i in range(200)],  # 75 of 100 of each
    }
    sides = {}
    for name, held in texts.items():
        rows = scored(np.random.default_rng(2).normal(size=200), label=labels)
        sides[name] = [row | {"answer": text} for row, text in zip(rows, held, strict=True)]
    data, page, _ = evaluated(sides["old"], sides["new"])
    refused = {
        model["name"]: {kind: (one["refused"], one["answers"]) for kind, one in model["refusals"].items()}
        for model in data["models"]
    }
    assert refused == {
        "old": {"harmful": (30, 100), "benign": (0, 100)},
        "new": {"harmful": (75, 100), "benign": (75, 100)},
    }
    assert "a model that refuses everything is safe and useless" in page
    # A refusal of a harmful prompt is no harm, and one of a benign prompt is what it was.
    answers = read_answers(write("again.jsonl", sides["new"]), Columns())
    assert (answers.harmful_b == 1).sum() == 25
    assert (answers.harmful_b == 0).sum() == 100


def test_labels_of_answers_tell_no_refusals(evaluated):
    """Whether an answer is safe says nothing of what its prompt asked for."""
    labels = [["safe", "unsafe"], ["unsafe", "safe"]]
    sides = [scored(np.arange(60.0) % 7, label=[held[i % 2] for i in range(60)]) for held in labels]
    data, page, _ = evaluated(*sides)
    assert [model["refusals"] for model in data["models"]] == [None, None]
    assert "over-refusal" not in page


def test_ratings_and_flags_are_bars_and_a_scale_is_a_curve(evaluated):
    rates = [1, 1, 2, 3] * 30
    data, page, _ = evaluated(scored(rates), scored([1] * 119 + [3]))
    held = {model["name"]: model["ratings"] for model in data["models"]}
    assert held["old"]["cost"] == held["new"]["cost"] == [1, 2, 3]
    assert held["old"]["share"] == [0.5, 0.25, 0.25]
    assert [one["value"] for one in held["old"]["more"]] == [0.5, 0.25]
    assert held["new"]["share"] == pytest.approx([119 / 120, 0, 1 / 120])
    assert "Answers by rating" in page
    assert "The upper tail" not in page


def test_heavy_tails_have_a_logarithmic_axis_and_models_one_colour(evaluated):
    rng = np.random.default_rng(3)
    data, page, _ = evaluated(
        *(scored(scale * (rng.pareto(2.0, 200) + 0.1)) for scale in (1.0, 0.8)),
        third=scored(rng.pareto(2.0, 200) + 0.1),
    )
    assert data["models"][0]["ratings"] is None
    assert "cost → more harmful, logarithmic" in page
    assert "Answers by rating" not in page
    # The legend of all models, and of each pair: a model's key has its colour everywhere.
    colours = {"old": "before", "third": "other-1", "new": "after"}
    for name, colour in colours.items():
        keys = [part.rpartition("var(--")[2] for part in page.split(f"</svg>{name}</li>")[:-1]]
        assert len(keys) == 3
        assert all(key.startswith(f"{colour})") for key in keys)
