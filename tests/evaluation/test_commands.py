"""rad eval and rad gate as processes: what they print, and their exit codes."""

import json
import os
import re
import subprocess
import sys

import pytest


@pytest.fixture
def rad(tmp_path):
    def run(*words, width="100"):
        env = {**os.environ, "COLUMNS": width, "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "openrlhf_rad.cli.rad", *map(str, words)]
        return subprocess.run(command, capture_output=True, text=True, env=env, cwd=tmp_path, check=False)

    return run


@pytest.fixture
def tables(write, rows):
    """Baseline, a clearly safer candidate, and one that is worse."""
    return {
        name: write(f"{name}.parquet", rows(250, shift, seed=seed, segment="weapons"))
        for seed, (name, shift) in enumerate({"sft": 0.0, "rad": -1.5, "bad": 1.0}.items())
    }


def test_an_evaluation_and_its_gate(rad, tables, tmp_path):
    words = [
        f"--baseline=sft={tables['sft']}",
        f"--candidate=rad={tables['rad']}",
        f"--model=bad={tables['bad']}",
    ]
    done = rad("eval", *words, "--profile", "uniform", "--out", "e")
    assert done.returncode == 0, done.stderr
    assert "Table 2" in done.stdout
    assert "Table 3" in done.stdout
    assert "Figure 1" in done.stdout
    assert (tmp_path / "e" / "plots" / "exceedance.png").stat().st_size > 10_000
    data = json.loads((tmp_path / "e" / "eval.json").read_text())
    assert [(pair["baseline"], pair["candidate"]) for pair in data["comparisons"]] == [
        ("sft", "rad"),
        ("sft", "bad"),
        ("bad", "rad"),
    ]
    assert data["command"].startswith("rad eval --baseline=sft=")
    gate = rad("gate", "--eval", "e", "--profile", "uniform")
    assert (gate.returncode, gate.stdout[:5]) == (0, "PASS:")
    assert gate.stdout.splitlines()[3].endswith(f" under uniform {data['profile']['hash'][:12]}")
    other = rad("gate", "--eval", "e", "--profile", "uniform", "--candidate", "bad", "--json")
    assert other.returncode == 1
    assert json.loads(other.stdout)["outcome"] == "fail"


def test_gate_cannot_say_on_too_few_prompts_and_on_bad_input(rad, tables, write, rows):
    sides = [f"--baseline=sft={tables['sft']}", f"--candidate=rad={tables['rad']}"]
    few = rad("gate", *sides, "--profile", "medical", "--rule", "risk", "--improvement", "0.1")
    assert few.returncode == 2
    assert "about 500 prompts would do, not 250" in few.stdout
    table = rows(250)
    table[7]["cost"] = float("nan")
    path = write("nan.jsonl", table)
    bad = rad("gate", sides[0], f"--candidate=rad={path}", "--profile", "uniform")
    assert bad.returncode == 2
    assert f"INCONCLUSIVE: {path}:8: cost is nan" in bad.stderr
    missing = rad("gate", *sides, "--profile", "uniform", "--segments", "drugs")
    assert missing.returncode == 64
    assert "--segments drugs: the answers have weapons" in missing.stderr


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--improvement", "-1"], "--improvement -1: it must be an amount of cost of at least 0"),
        (["--tolerance", "much"], "--tolerance much: it must be an amount of cost of at least 0"),
        (["--levels", "0.9"], "--levels 0.9: it must be two levels LOW,HIGH"),
        (["--rule", "mean"], "--rule mean: it must be one of risk, quantiles"),
    ],
)
def test_gate_refuses_what_it_does_not_know(words, text, rad, tables):
    sides = [f"--baseline=sft={tables['sft']}", f"--candidate=rad={tables['rad']}"]
    done = rad("gate", *sides, "--profile", "uniform", *words)
    assert done.returncode == 64
    assert text in done.stderr


def test_a_dry_run_starts_nothing(rad, tables, tmp_path):
    words = [
        f"--baseline=sft={tables['sft']}",
        "--candidate=rad=org/model",
        "--profile",
        "uniform",
        "--out",
        "e",
    ]
    asked = "eval", *words, "--dry-run", "--prompts", "p.jsonl", "--set", "cost.function=c.py"
    file = tmp_path / "c.py"
    refused = rad(*asked, "--reward", "r.py")
    assert refused.returncode == 2
    assert refused.stderr.splitlines() == [
        "error: p.jsonl: there is no such file; check the path",
        f"error: cost.function is {file}; there is no such file; it must define cost_func(queries, prompts,"
        " labels)",
        f"error: --reward is {tmp_path / 'r.py'}; there is no such file; it must define reward_func(queries,"
        " prompts, labels)",
    ]
    file.write_text("def cost_func(queries, prompts, labels): return [1.0] * len(queries)\n")
    (tmp_path / "p.jsonl").write_text('{"prompt": "a"}\n')
    done = rad(*asked)
    assert done.returncode == 0, done.stderr
    assert "candidate rad: answer p.jsonl with org/model, 1 a prompt" in done.stdout
    assert not (tmp_path / "e").exists()
    refused = rad("eval", *words, "--dry-run")
    assert refused.returncode == 2
    assert "rad is a checkpoint and there are no prompts" in refused.stderr


def test_a_dry_run_says_what_a_judge_will_be_asked(rad, tmp_path):
    (tmp_path / "p.jsonl").write_text('{"prompt": "one"}\n{"prompt": "two"}\n')
    rows = [
        {"prompt": "one", "answer": "x" * 397},
        {"prompt": "two", "answer": "y"},
        {"prompt": "two", "answer": "z"},
    ]
    (tmp_path / "sft.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    judge = ["cost.judge.model=m", "cost.judge.base_url=http://127.0.0.1:9/v1", "cost.judge.max_tokens=7"]
    sets = [word for value in judge for word in ("--set", value)]
    words = [
        "--baseline=sft=sft.jsonl",
        "--candidate=rad=org/model",
        "--profile",
        "uniform",
        "--prompts",
        "p.jsonl",
    ]
    done = rad("eval", *words, *sets, "--samples", "5", "--max-len", "64", "--out", "e", "--dry-run")
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if "at most" in line]
    table, model = (
        re.search(r"at most ([\d,]+) calls, about ([\d,]+) tokens in .* at most (\d+) out", line)
        for line in lines
    )
    assert [lines[0].split(":")[0], table[1], table[3]] == ["baseline sft", "3", "21"]
    assert [lines[1].split(":")[0], model[1], model[3]] == ["candidate rad", "10", "70"]
    # 400 bytes are 100 tokens and one more; what the request itself takes is the same in both.
    own = int(table[2].replace(",", "")) / 3 - 101
    assert int(model[2].replace(",", "")) == 10 * (own + 64)


def test_a_template_without_a_place_for_the_prompt_is_refused(rad, tables):
    words = [f"--baseline=sft={tables['sft']}", f"--candidate=rad={tables['rad']}", "--profile", "uniform"]
    done = rad("eval", *words, "--template", "Answer:", "--out", "e")
    assert done.returncode == 2
    assert "--template is 'Answer:'; it must hold {} where the prompt goes, or none is sent" in done.stderr
