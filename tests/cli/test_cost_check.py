"""rad cost check: a function, a column, a fitted checkpoint's own prompts; exit codes as a gate's."""

import json
import subprocess
import sys

import pytest
from openrlhf_rad.cli.cost import CheckOptions
from openrlhf_rad.cli.cost_check_run import main

from openrlhf_rad.data.labels import digest
from openrlhf_rad.jobs.tiny_words import harm

FUNCTION = """
from openrlhf_rad.jobs.tiny_words import harm

def cost_func(queries, prompts, labels):
    return [sum(map(harm, query[len(prompt):].split())) for query, prompt in zip(queries, prompts)]
"""


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """Forty prompts with two answers each: one of harmful words, one of plain ones, and costs in a column."""
    rows = []
    for number in range(40):
        for kind in ("harm", "plain"):
            answer = " ".join(f"{kind}-b{vowel}" for vowel in "aeiou"[: 2 + (number + (kind == "harm")) % 3])
            cost = sum(map(harm, answer.split()))
            rows.append(
                {"prompt": f"plain-ba {number}", "answer": answer, "unsafe": kind == "harm", "rated": cost}
            )
    path = tmp_path_factory.mktemp("labels") / "labels.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def function(tmp_path):
    path = tmp_path / "cost.py"
    path.write_text(FUNCTION)
    return str(path)


def test_a_function_is_checked_with_its_probes(table, function, capsys):
    assert main(CheckOptions(str(table), function)) == 0
    said = capsys.readouterr()
    assert said.out.startswith("PASS: the cost tells harm, and more than length and refusal words: 100.0 %")
    assert "refusal answers cost 0" in said.out
    assert "profiles that it can carry:" in said.out
    assert f"{table}: 80 answers to 40 prompts (40 harmful, 40 harmless), 40 pairs\n" in said.err


def test_a_column_is_checked_without_probes(table, capsys):
    assert main(CheckOptions(str(table), column=["cost=rated"], as_json=True)) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["outcome"] == "PASS"
    assert data["sentence"].endswith("what refusals and empty answers cost is not known of a column.")
    assert data["probes"] is None
    assert data["order"]["auc"]["value"] == 1.0


def test_a_column_turned_round_fails(table, capsys):
    assert main(CheckOptions(str(table), column=["cost=-rated"])) == 1
    assert capsys.readouterr().out.startswith("FAIL: the sign of the cost is inverted:")


def test_few_answers_are_inconclusive(table, capsys):
    assert main(CheckOptions(str(table), column=["cost=rated"], limit=20)) == 2
    assert capsys.readouterr().out.startswith("INCONCLUSIVE: there are 10 prompts with a harmful answer")


def test_a_profile_that_the_cost_cannot_carry(table, tmp_path, capsys):
    path = tmp_path / "flag.jsonl"
    rows = [json.loads(line) for line in table.read_text().splitlines()]
    path.write_text("".join(json.dumps(row | {"rated": int(row["unsafe"])}) + "\n" for row in rows))
    assert main(CheckOptions(str(path), column=["cost=rated"], profile=["medical"])) == 1
    assert capsys.readouterr().out.startswith(
        "FAIL: the cost cannot carry the profile medical: cvar α=0.9 is"
    )


def test_the_cost_of_a_profile_is_checked(table, function, tmp_path):
    profile = tmp_path / "p.yaml"
    profile.write_text(f"name: p\nrisk: mean\ncost: {{function: {function}}}\n")
    assert main(CheckOptions(str(table), profile=[str(profile)])) == 0


def test_prompts_that_the_checkpoint_was_fitted_to_are_left_out(table, tmp_path, capsys):
    model = tmp_path / "model"
    model.mkdir()
    fitted = [digest(f"plain-ba {number}") for number in range(40)]
    (model / "cost.json").write_text(json.dumps({"fitted_prompts": fitted}))
    assert main(CheckOptions(str(table), str(model))) == 2
    assert capsys.readouterr().err == (
        f"INCONCLUSIVE: {table}: the cost was fitted to answers to each of these prompts; check it by"
        " others\n"
    )


def test_an_ensemble_has_seen_what_its_models_have(table, function, tmp_path, capsys):
    """Half of the prompts were the labels of a model among its sources; the rest is rated by all of them."""
    for name, numbers in (("one", range(20)), ("two", range(10, 40))):
        (tmp_path / name).mkdir()
        fitted = [digest(f"plain-ba {number}") for number in numbers]
        (tmp_path / name / "cost.json").write_text(json.dumps({"fitted_prompts": fitted}))
    profile = tmp_path / "p.yaml"
    profile.write_text("name: p\nrisk: mean\ncost: {ensemble: {models: [./one, ./two]}}\n")
    assert main(CheckOptions(str(table), profile=[str(profile)])) == 2
    assert "the cost was fitted to answers to each of these prompts" in capsys.readouterr().err
    profile.write_text(f"name: p\nrisk: mean\ncost: {{ensemble: {{functions: [{function}, ./twice.py]}}}}\n")
    (tmp_path / "twice.py").write_text(FUNCTION.replace("[sum", "[2 * sum"))
    assert main(CheckOptions(str(table), profile=[str(profile)])) == 0


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (
            {},
            "--cost is missing and the profiles name no cost; name one by --cost MODEL, FILE.py or URL, or a",
        ),
        (
            {"cost": "c.py", "column": ["cost=rated"]},
            "--cost and --column cost=… both name the cost; leave one out",
        ),
    ],
)
def test_wrong_options_have_a_code_of_their_own(table, options, told, capsys):
    assert main(CheckOptions(str(table), **options)) == 64
    assert told in capsys.readouterr().err


def test_a_function_that_fails_is_named(table, tmp_path, capsys):
    path = tmp_path / "bad.py"
    path.write_text("def cost_func(queries, prompts, labels):\n    return [float('nan')] * len(queries)\n")
    assert main(CheckOptions(str(table), str(path))) == 2
    assert "gave the cost nan for sample 0" in capsys.readouterr().err


def test_the_command_imports_no_torch(table):
    words = [
        "-X",
        "importtime",
        "-m",
        "openrlhf_rad.cli.rad",
        "cost",
        "check",
        str(table),
        "--column",
        "cost=rated",
    ]
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    modules = {line.rpartition("|")[2].strip().split(".")[0] for line in done.stderr.splitlines()}
    assert not modules & {"torch", "transformers", "openrlhf", "ray"}
