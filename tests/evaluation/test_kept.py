"""What was evaluated is what the gate judges; a cost of the wrong sign is told wherever there are labels."""

import csv
import json

import numpy as np
import pytest

from openrlhf_rad.evaluation import folder as scores
from openrlhf_rad.evaluation.answers import read_answers
from openrlhf_rad.evaluation.columns import Columns
from openrlhf_rad.evaluation.folder import sha256

PASS, FAIL, INCONCLUSIVE, USAGE = 0, 1, 2, 64


@pytest.fixture
def tables(write):
    """Baseline and a far safer candidate: scores that are higher for safer answers, with labels."""
    rng = np.random.default_rng(0)
    made = {}
    for name, harm in (("baseline", 0.5), ("candidate", 0.1)):
        rows = []
        for place in range(400):
            harmful = bool(rng.random() < harm)
            score = float(rng.normal() - 2 * harmful)
            rows.append(
                {"prompt": f"p{place}", "answer": f"a{place}", "score": score, "is_safe": not harmful}
            )
        made[name] = write(f"{name}.jsonl", rows)
    return made


@pytest.fixture
def evaluated(rad, tables):
    sides = [f"--{name}={name}={path.name}" for name, path in tables.items()]
    words = ["--profile", "uniform", "--column", "cost=-score", "--set", "evaluate.improvement=0.2"]
    done = rad("eval", *sides, *words, "--out", "e")
    assert done.exit_code == 0, done.output
    return done


def test_the_gate_judges_from_anywhere_what_was_evaluated(evaluated, rad, tables, tmp_path, monkeypatch):
    before = rad("gate", "--eval", "e")
    assert before.exit_code == PASS
    # A source that is replaced or gone changes nothing, and neither does another folder.
    tables["candidate"].write_text(tables["baseline"].read_text())
    tables["baseline"].unlink()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    after = rad("gate", "--eval", "../e")
    assert after.exit_code == PASS
    assert after.stdout.splitlines()[0] == before.stdout.splitlines()[0]
    # The evaluation's profile, with its override; that of another is said.
    assert "a fall of 0.2 is required" in after.stdout
    assert "is not the evaluation's" not in after.stdout
    other = rad("gate", "--eval", "../e", "--profile", "uniform")
    assert "judged under uniform" in other.stdout
    assert "is not the evaluation's" in other.stdout
    assert "a fall of 0.2 is required" not in other.stdout


def test_rows_and_digests_are_kept_and_shown(evaluated, rad, tables, tmp_path):
    data = json.loads((tmp_path / "e" / "eval.json").read_text())
    baseline = data["models"][0]
    assert baseline["read"] == {
        "file": "baseline.jsonl",
        "sha256": sha256(tables["baseline"]),
        "rows": 400,
        "columns": {"prompt": "prompt", "label": "is_safe", "answer": "answer", "cost": "− score"},
    }
    with open(tmp_path / "e" / "scores" / "baseline.csv", newline="") as file:
        kept = list(csv.DictReader(file))
    rows = [json.loads(line) for line in tables["baseline"].read_text().splitlines()]
    assert sorted(float(row["cost"]) for row in kept) == sorted(-row["score"] for row in rows)
    assert {row["label"] for row in kept} == {"harmful", "safe"}
    digest = sha256(tables["baseline"])[:12]
    shown = f"baseline baseline: baseline.jsonl, 400 rows, sha256 {digest}; cost by column − score, higher"
    for text in (evaluated.stdout, rad("gate", "--eval", "e").stdout):
        assert shown in text
        assert "labels by column" in text


def test_rows_are_the_same_in_parts_of_any_size(write, rows, monkeypatch):
    table = [{**row, "sample": i % 3} for i, row in enumerate(rows(20, each=3, segment="s"))]
    held = read_answers(write("a.jsonl", table), Columns())
    whole = scores._table(held)
    assert whole.count("\n") == 61
    monkeypatch.setattr(scores, "BATCH", 7)
    assert scores._table(held) == whole


@pytest.mark.parametrize("name", ["scores/candidate.csv", "profile.resolved.yaml"])
def test_what_was_changed_after_the_evaluation_is_not_judged(name, evaluated, rad, tmp_path):
    path = tmp_path / "e" / name
    path.write_text(path.read_text().replace("1", "0"))
    done = rad("gate", "--eval", "e")
    assert done.exit_code == INCONCLUSIVE
    assert f"{name}: it was changed after the evaluation" in done.stderr
    path.unlink()
    assert "there is no such file, and eval.json names it" in rad("gate", "--eval", "e").stderr


def test_costs_of_another_source_are_not_judged(rad, write, rows, tmp_path):
    (tmp_path / "cost.py").write_text(
        "def cost_func(queries, prompts, labels):\n    return [float(len(q) % 7) for q in queries]\n"
    )
    sides = []
    for name in ("baseline", "candidate"):
        held = [{key: row[key] for key in ("prompt", "answer")} for row in rows(40)]
        sides.append(f"--{name}={name}={write(f'{name}.jsonl', held)}")
    words = ["--profile", "uniform", "--set", f"cost.function={tmp_path}/cost.py", "--out", "e"]
    assert rad("eval", *sides, *words).exit_code == 0
    assert "INCONCLUSIVE" not in rad("gate", "--eval", "e").stderr
    done = rad("gate", "--eval", "e", "--set", "cost.function=other.py")
    assert done.exit_code == INCONCLUSIVE
    assert f"its costs are by function {tmp_path}/cost.py, and the profile uniform names" in done.stderr


def test_texts_are_kept_by_choice(rad, tables, tmp_path):
    sides = [f"--{name}={name}={path}" for name, path in tables.items()]
    words = ["eval", *sides, "--profile", "uniform", "--column", "cost=-score", "--out"]
    assert rad(*words, "e").exit_code == 0
    assert not (tmp_path / "e" / "answers").exists()
    assert rad(*words, "f", "--keep-texts").exit_code == 0
    kept = [
        json.loads(line) for line in (tmp_path / "f" / "answers" / "baseline.jsonl").read_text().splitlines()
    ]
    assert kept[3]["answer"] == "a3"
    gates = [rad("gate", "--eval", folder).stdout.splitlines()[0] for folder in ("e", "f")]
    assert gates[0] == gates[1]


def test_a_score_turned_round_never_passes(rad, tables):
    """The worse model would pass: the baseline has five times the harm."""
    sides = [
        f"--baseline=old={tables['candidate']}",
        f"--candidate=new={tables['baseline']}",
        "--profile",
        "uniform",
    ]
    done = rad("gate", *sides, "--column", "cost=score")
    assert done.exit_code == INCONCLUSIVE
    assert "old: the sign of the cost is inverted" in done.stderr
    assert "turn it round by --column cost=-score, or say --no-labels" in done.stderr
    assert "is_safe true: taken for safe" in done.stderr
    assert rad("gate", *sides, "--column", "cost=-score").exit_code == FAIL
    unchecked = rad("gate", *sides, "--column", "cost=score", "--no-labels")
    assert unchecked.exit_code == PASS
    assert "labels are not looked at, as --no-labels says" in unchecked.stdout
    shown = rad("eval", *sides, "--column", "cost=score", "--out", "e")
    assert shown.exit_code == 1
    assert "! old: the sign of the cost is inverted" in shown.stdout
    assert rad("gate", "--eval", "e").exit_code == INCONCLUSIVE


def test_earlier_names_of_the_options_are_read_and_not_shown(rad, tables):
    sides = [f"baseline=old={tables['baseline']}", f"candidate=new={tables['candidate']}"]
    words = ["--profile", "uniform", "--column", "cost=-score"]
    said = rad("gate", *(f"--{side}" for side in sides), *words).stdout
    first, second = (side.partition("=")[2] for side in sides)
    assert rad("gate", "--red", first, f"--blue={second}", *words).stdout == said
    assert said.startswith("PASS: new against old.")
    for command in ("gate", "eval", "judge"):
        assert "--red" not in rad(command, "--help").stdout


def test_one_less_a_share_is_a_cost(rad, write):
    rng = np.random.default_rng(1)
    sides = []
    for name, a in (("baseline", 2.0), ("candidate", 6.0)):
        safety_b = rng.beta(a, 2, size=300)
        rows = [{"prompt": f"p{i}", "safety": float(s)} for i, s in enumerate(safety_b)]
        sides.append(f"--{name}={name}={write(f'{name}.csv', rows)}")
    words = ["--profile", "uniform", "--column", "cost=1-safety"]
    done = rad("gate", *sides, *words)
    assert done.exit_code == PASS
    assert "cost by column 1 − safety, higher is more harmful" in done.stdout
    assert "no labels say whether higher is more harmful" in done.stdout
    turned = rad("gate", *sides, "--profile", "uniform", "--column", "cost=safety")
    assert turned.exit_code == FAIL


def test_refusals_of_harmful_prompts_do_not_make_a_sound_cost_look_inverted(rad, write):
    """Labels of prompts: a model that refuses costs least where the prompt asks for harm."""
    rng = np.random.default_rng(2)
    rows = [
        {
            "prompt": f"p{i}",
            "answer": "I'm sorry, I can't help with that." if i % 2 else "Paris.",
            "cost": float(rng.normal() - 3 * (i % 2)),
            "label": "harmful" if i % 2 else "benign",
        }
        for i in range(300)
    ]
    path = write("a.jsonl", rows)
    done = rad("gate", f"--baseline=a={path}", f"--candidate=b={path}", "--profile", "uniform")
    assert "inverted" not in done.stderr
    assert done.exit_code == FAIL


def test_a_model_that_has_learned_to_be_harmless_is_not_called_inverted(rad, write):
    """Labels of prompts, and no refusals: of the new model harmful prompts have the cheapest answers."""
    rng = np.random.default_rng(5)
    sides = []
    for name, harm in (("start", 1.5), ("trained", -1.5)):
        rows = [
            {
                "prompt": f"p{i}",
                "cost": float(rng.normal() + harm * (i % 2)),
                "label": "harmful" if i % 2 else "benign",
            }
            for i in range(400)
        ]
        sides.append((name, write(f"{name}.jsonl", rows)))
    (start, first), (trained, second) = sides
    words = ["--profile", "uniform", "--rule", "risk"]
    done = rad("gate", f"--baseline={start}={first}", f"--candidate={trained}={second}", *words)
    assert done.exit_code == PASS
    assert "trained: the cost does not tell harm" in done.stdout
    # Compared the other way, nothing says which of the two is turned round.
    assert (
        rad("gate", f"--baseline={trained}={second}", f"--candidate={start}={first}", *words).exit_code
        == INCONCLUSIVE
    )


def test_calibrate_reads_is_safe_for_what_it_says(rad, write):
    rng = np.random.default_rng(3)
    rows = [
        {"pair": f"p{i // 2}", "harm": float(rng.normal() + 2 * bad), "is_safe": not bad}
        for i, bad in enumerate(rng.random(300) < 0.3)
    ]
    write("a.jsonl", [{**row, "is_safe": bool(row["is_safe"])} for row in rows])
    words = [
        "calibrate",
        "a.jsonl",
        "--profile",
        "uniform",
        "--prompt-column",
        "pair",
        "--label-column=is_safe",
    ]
    done = rad(*words, "--cost-column", "harm")
    assert done.exit_code == 0
    assert "300 answers, 150 prompts" in done.stdout
    assert "inverted" not in done.stdout
    assert "labels by column is_safe are taken for harmful: false, for safe: true" in done.stdout
    assert done.stdout.count("taken for safe") + done.stdout.count(": taken for harmful") == 3
    turned = rad(*words, "--column", "cost=-harm")
    assert turned.exit_code == 1
    assert "the sign of the cost is inverted" in turned.stdout
    asked = rad(*words[:-1], "--cost-column", "harm", "--label-column", "pair")
    assert asked.exit_code == 2
    assert "neither harmful nor safe; name the harmful one with --harmful" in asked.stderr


def test_a_table_of_several_models_is_not_one_distribution(rad, write, rows):
    table = [{**row, "model": name} for name, shift in (("a", 0), ("b", 9)) for row in rows(60, shift)]
    write("both.csv", table)
    words = ["calibrate", "both.csv", "--profile", "uniform"]
    done = rad(*words)
    assert done.exit_code == 2
    assert "the column model holds the models a, b; answers of several models" in done.stderr
    found = rad(*words, "--model", "b")
    assert found.exit_code == 0
    assert "60 answers, 60 prompts" in found.stdout
    assert "no row has model c; the file holds a, b" in rad(*words, "--model", "c").stderr


def flags(write, name, share, prompts=300, each=2):
    """Flags of the shape of the cases: a prompt's answers agree."""
    harmful_p = np.arange(prompts) < round(share * prompts)
    rows = [
        {"prompt": f"p{p}", "sample": s, "cost": int(harmful_p[p])}
        for p in range(prompts)
        for s in range(each)
    ]
    return write(f"{name}.csv", rows)


@pytest.mark.parametrize("prompts", [300, 900])
def test_a_saturated_measure_is_told_instead_of_judged(prompts, rad, write):
    old, new = flags(write, "old", 0.288, prompts), flags(write, "new", 0.127, prompts)
    sides = [f"--baseline=old={old}", f"--candidate=new={new}"]
    text = (
        "both sit at the largest cost that occurs, 1, on all that is weighed; no number of such prompts tells"
        " them apart; for a flag use the mean, the share of harmful answers (the profile flags), or cvar with"
        " α below 0.87"
    )
    done = rad("gate", *sides, "--profile", "medical")
    assert done.exit_code == INCONCLUSIVE
    assert done.stdout.startswith(
        f"INCONCLUSIVE: new against old.\n- inconclusive, cvar α=0.9: {text}\n"
        "- inconclusive, quantiles 0.9 to 0.95: both sit at the largest cost that occurs, 1"
    )
    # Harm that doubles is no pass either where quantiles alone are asked for.
    worse = rad(
        "gate",
        f"--baseline=old={new}",
        f"--candidate=new={old}",
        "--profile",
        "medical",
        "--rule",
        "quantiles",
    )
    assert worse.exit_code == INCONCLUSIVE
    told = rad("gate", *sides, "--profile", "flags")
    assert told.exit_code == PASS
    assert (
        rad("gate", f"--baseline=old={new}", f"--candidate=new={old}", "--profile", "flags").exit_code == FAIL
    )


def test_eval_report_and_calibrate_tell_a_saturated_measure(rad, write, tmp_path):
    old, new = flags(write, "old", 0.288), flags(write, "new", 0.127)
    done = rad(
        "eval", f"--baseline=old={old}", f"--candidate=new={new}", "--profile", "medical", "--out", "e"
    )
    assert done.exit_code == 0
    assert "! cvar α=0.9 cannot tell new from old: both sit at the largest cost" in " ".join(
        done.stdout.split()
    )
    assert "about 500 prompts" not in done.stdout
    assert rad("report", "e").exit_code == 0
    page = (tmp_path / "e" / "report.html").read_text()
    assert "cvar α=0.9: both sit at the largest cost that occurs, 1" in page
    found = rad("calibrate", old, "--profile", "medical")
    assert "cvar α=0.9 is saturated" in " ".join(found.stdout.split())
    assert "saturated" not in rad("calibrate", old, "--profile", "flags").stdout


@pytest.mark.parametrize(("cost", "which"), [(0.2, "no answer is"), (-0.2, "all answers are")])
def test_a_threshold_that_divides_nothing_is_told(cost, which, rad, write):
    rng = np.random.default_rng(4)
    rows = [{"prompt": f"p{i}", "cost": cost + 0.1 * c} for i, c in enumerate(rng.random(60))]
    path = write("a.csv", rows)
    words = ["eval", f"--baseline=a={path}", f"--candidate=b={path}", "--profile", "uniform", "--out"]
    done = rad(*words, "e")
    assert f"! {which} safe: costs lie from" in done.stdout
    assert "set evaluate.threshold in the profile" in " ".join(done.stdout.split())
    set_ = rad(*words, "f", "--set", f"evaluate.threshold={np.median([row['cost'] for row in rows])}")
    assert "safe: costs lie from" not in set_.stdout
    assert "50\N{NO-BREAK SPACE}%" in set_.stdout


@pytest.mark.parametrize(
    "words",
    [
        ["gate", "--evl", "e"],
        ["gate", "--confidence", "3"],
        ["gate", "--rule", "mean", "--baseline=a=a.csv", "--candidate=b=b.csv", "--profile", "uniform"],
        ["gate", "--profile", "none-such", "--baseline=a=a.csv", "--candidate=a=a.csv"],
        ["gate"],
        ["gtae"],
        ["judge", "--tmperature", "1"],
    ],
)
def test_usage_has_a_code_of_its_own(words, rad):
    assert rad(*words).exit_code == USAGE


def test_a_fault_of_the_program_is_no_verdict(rad, tables, monkeypatch):
    from openrlhf_rad.cli import gate_run

    def broken(_panel):
        raise ZeroDivisionError

    monkeypatch.setattr(gate_run, "pair", broken)
    sides = [
        f"--baseline=a={tables['baseline']}",
        f"--candidate=b={tables['candidate']}",
        "--column",
        "cost=-score",
    ]
    assert rad("gate", *sides, "--profile", "uniform").exit_code not in (PASS, FAIL, INCONCLUSIVE)
