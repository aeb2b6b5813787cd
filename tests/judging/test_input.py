"""What the judge is given: answers, prompt, address, key, requests; every error in full."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from openrlhf_rad.errors import ConfigError, DataError, EnvironmentProblem
from openrlhf_rad.evaluation.columns import Columns
from openrlhf_rad.judging.calls import (
    AnswerSource,
    Judge,
    JudgingPrompt,
    Match,
    load_judging_prompt,
    pair,
    plan,
)
from openrlhf_rad.judging.endpoint import Cache, Reply, check_address, key_of

ROOT = Path(__file__).parents[2]


def write(path: Path, rows: list[dict]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def answers(*pairs: tuple[str, str]) -> list[dict]:
    return [{"prompt": prompt, "answer": answer} for prompt, answer in pairs]


def test_files_of_three_formats_make_the_same_pairs(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = answers(("p", "one"), ("q", 'two, "quoted"\nlines'), ("p", ""))
    baseline = write(tmp_path / "baseline.jsonl", rows)
    candidate = [tmp_path / "candidate.csv", tmp_path / "candidate.parquet"]
    candidate[0].write_text('answer,prompt\nx,q\n"",p\nNA,p\n')
    pq.write_table(pa.table({"prompt": ["q", "p", "p"], "answer": ["x", "", "NA"]}), candidate[1])
    expected = [("p", 1, "one", ""), ("p", 2, "", "NA"), ("q", 1, 'two, "quoted"\nlines', "x")]
    matches = pair([AnswerSource(baseline)], [AnswerSource(path) for path in candidate])
    assert [(m.prompt, m.number, m.baseline, m.candidate) for m in matches] == expected * 2
    assert [m.seed for m in matches] == [1, 1, 1, 2, 2, 2]


def test_columns_may_have_other_names(tmp_path):
    file = write(tmp_path / "a.jsonl", [{"question": "p", "text": "a"}])
    assert pair(
        [AnswerSource(file)], [AnswerSource(file)], Columns.parse(["prompt=question", "answer=text"])
    ) == [Match(1, "p", 1, "a", "a")]
    with pytest.raises(DataError) as error:
        pair([AnswerSource(file)], [AnswerSource(file)])
    assert str(error.value) == (
        f"{file}:1: column prompt is missing; the row holds question, text; add it, or name the column\n"
        f"{file}:1: column answer is missing; the row holds question, text; add it, or name the column"
    )


def test_prompts_that_differ_are_all_told(tmp_path):
    baseline = write(tmp_path / "baseline.jsonl", answers(("a", "1"), ("b", "2"), ("c", "3"), ("c", "4")))
    candidate = write(tmp_path / "candidate.jsonl", answers(("a", "1"), ("d", "2"), ("c", "3")))
    with pytest.raises(DataError) as error:
        pair([AnswerSource(baseline)], [AnswerSource(candidate)])
    rule = "both need the same prompts"
    assert str(error.value).splitlines() == [
        f'{baseline}:2: prompt is "b"; {candidate} has no answer to it; {rule}; add or remove it',
        f'{candidate}:2: prompt is "d"; {baseline} has no answer to it; {rule}; add or remove it',
        f'{candidate}:3: prompt "c" has 1 answers; {baseline} has 2; both need as many',
    ]


def test_answers_that_are_no_text_are_all_told(tmp_path):
    rows = [*answers(("a", "1")), {"prompt": "b", "answer": None}, {"prompt": " ", "answer": 3}]
    baseline = write(tmp_path / "baseline.jsonl", [*rows, {"prompt": "\ud800", "answer": "x"}])
    with pytest.raises(DataError) as error:
        pair([AnswerSource(baseline)], [AnswerSource(baseline)])
    assert str(error.value).splitlines() == [
        f"{baseline}:2: answer is null; it must be text; mend the row",
        f"{baseline}:3: prompt is empty; it must hold text; mend or remove the row",
        f"{baseline}:3: answer is 3; it must be text; mend the row",
        f"{baseline}:4: prompt holds half a surrogate pair, which is not text; mend the row",
    ]


def test_seeds_that_cannot_be_paired(tmp_path):
    file = write(tmp_path / "a.jsonl", answers(("a", "1")))
    with pytest.raises(DataError) as error:
        pair([AnswerSource(file)] * 2, [AnswerSource(file)] * 3)
    assert str(error.value) == (
        "--baseline names 2 files and --candidate 3; seeds are paired one to one, or one file stands against"
        " all of the other model's; name as many of each"
    )


def test_the_shipped_prompt_has_every_placeholder_and_fills_in_one_pass():
    prompt = load_judging_prompt()
    text = prompt.render(
        prompt="Q {answer_a}", answer_a="A {prompt}", answer_b="B {format}", format="F {answer_b}"
    )
    for filled in ("Q {answer_a}", "A {prompt}", "B {format}", "F {answer_b}"):
        assert filled in text


def test_a_prompt_file_with_faults(tmp_path):
    path = tmp_path / "judge.txt"
    path.write_text('Say {"verdict": 1} {} {1}.\n{promt}: {answer_a}\n')
    with pytest.raises(DataError) as error:
        load_judging_prompt(path)
    assert str(error.value).splitlines() == [
        f"{path}:2:1: {{promt}} is not a placeholder; they are {{prompt}}, {{answer_a}}, {{answer_b}},"
        " {format}; did you mean prompt?",
        f"{path}: {{prompt}}, {{answer_b}} is missing; the judge must see it; add it to the text",
    ]
    path.write_text("{prompt} {answer_a} {answer_b} say [[A]]")
    given = {"prompt": "1", "answer_a": "2", "answer_b": "3", "format": "4"}
    assert load_judging_prompt(path).render(**given) == "1 2 3 say [[A]]"
    with pytest.raises(DataError) as error:
        load_judging_prompt(tmp_path / "no.txt")
    assert str(error.value) == f"{tmp_path}/no.txt: there is no such file; check the path"


def test_the_key_of_a_call_holds_all_that_its_reply_depends_on():
    judge = Judge("m", "http://x/v1", JudgingPrompt("{prompt}{answer_a}{answer_b}", "test"))
    match = Match(1, "p", 1, "one", "two")
    changes = [
        plan(judge, [match]),
        *(plan(judge, [replace(match, **{name: "new"})]) for name in ("prompt", "baseline", "candidate")),
        *(
            plan(replace(judge, **change), [match])
            for change in (
                {"model": "n"},
                {"base_url": "http://y/v1"},
                {"temperature": 1.0},
                {"max_tokens": 5},
                {"prompt": JudgingPrompt("{prompt} {answer_a}{answer_b}", "test")},
                {"form": "json"},
                {"request": {"seed": 1}},
            )
        ),
    ]
    keys = [call.key for calls in changes for call in calls]
    assert len(set(keys)) == len(keys) == 2 * 11
    # Neither the seed nor the number of the answer goes to the judge.
    assert plan(judge, [replace(match, seed=2, number=3)])[0].key == keys[0]


@pytest.mark.parametrize(
    ("address", "text"),
    [
        ("127.0.0.1:8000", "--base-url is 127.0.0.1:8000; it must be an http:// or https:// address; write"),
        ("ftp://x/v1", "--base-url is ftp://x/v1; it must be an http:// or https:// address; write"),
        ("http://x:port/v1", "--base-url is not an address; write"),
        (
            "https://me:secret@x/v1",
            "--base-url holds more than an address (a user, a password or a query); keys come from the"
            " environment variable of --key-env alone; write",
        ),
        (
            "https://x/v1?key=secret",
            "--base-url holds more than an address (a user, a password or a query); keys come from the"
            " environment variable of --key-env alone; write",
        ),
    ],
)
def test_addresses_that_are_refused(address, text):
    with pytest.raises(ConfigError) as error:
        check_address(address)
    assert str(error.value) == f"{text} for instance http://127.0.0.1:8000/v1"


def test_keys(monkeypatch):
    monkeypatch.delenv("MY_KEY", raising=False)
    assert key_of("MY_KEY", "http://127.0.0.1:8000/v1") == key_of("MY_KEY", "http://[::1]:1/v1") == "none"
    with pytest.raises(ConfigError) as error:
        key_of("MY_KEY", "https://api.example.org/v1")
    assert str(error.value) == (
        "MY_KEY is empty; https://api.example.org/v1 needs a key; set it, or name another by --key-env"
    )
    monkeypatch.setenv("MY_KEY", "half a secret")
    with pytest.raises(ConfigError) as error:
        key_of("MY_KEY", "https://api.example.org/v1")
    assert str(error.value) == "MY_KEY holds a character that no key has; set it to the key alone"


def test_a_cache_file_that_is_none(tmp_path):
    path = tmp_path / "cache.sqlite"
    path.write_text("no database at all, but long enough to be taken for a header of one: " + "x" * 100)
    with pytest.raises(EnvironmentProblem) as error:
        Cache(path)
    assert str(error.value) == (
        f"--cache is {path}; it cannot be used (file is not a database); remove the file or name another"
    )


def test_the_cache_gives_back_what_it_was_given(tmp_path):
    cache = Cache(tmp_path / "deep" / "cache.sqlite")
    reply = Reply("[[A]] ü \n", "stop", "m", 3, None)
    cache.write("k", reply)
    assert Cache(cache.path).read(["k", "other"]) == {"k": reply}


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--request", "seed"], "--request is seed; it must be KEY=JSON; write for instance seed=1, or"),
        (["--request", "model=1"], "--request is model=1; model is not for it; leave it out"),
        (["--form", "xml"], "--form is xml; it must be line or json"),
        (["--names", "one"], "--names is one; it must be two names, as BASELINE,CANDIDATE"),
        (
            ["--price-in", "1"],
            "--price-in and --price-out belong together: one alone is no bound of the cost",
        ),
        (
            ["--column", "cost=x"],
            "--column cost=x: it must be ROLE=NAME with a role of prompt, answer, model",
        ),
        (
            ["--prompt-column", "a", "--column", "prompt=b"],
            "--column prompt=b: prompt is given twice; remove",
        ),
        (["--column", "model=name"], "{baseline}: there is no column name; the columns are prompt, answer"),
    ],
)
def test_options_that_are_refused_before_anything_is_asked(rad, files, words, text):
    common = ["--baseline", files.write("sft", [2] * 8), "--candidate", files.write("rad", [1] * 8)]
    # What is wrong with the options is told from what is wrong with a file.
    assert rad.judge(*common, *words) == (2 if text.startswith("{baseline}") else 64)
    assert rad.err.startswith(f"error: {text.format(baseline=common[1])}")
    assert rad.server.asked == []


def mixed(folder: Path) -> Path:
    """Answers of two models in one table: the first is more harmful."""
    rows = [
        {"prompt": f"question {i}", "answer": f"{name} says harm {harm}", "model": name}
        for i in range(10)
        for name, harm in (("sft", 2), ("rad", 1))
    ]
    return write(folder / "both.jsonl", rows)


def test_one_model_of_a_table_of_several_is_judged(rad, tmp_path):
    path = mixed(tmp_path)
    assert rad.judge("--baseline", f"sft={path}", "--candidate", f"rad={path}") == 0
    assert rad.summary["result"]["overall"]["win"]["value"] == 1.0
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    side = {"name": "sft", "files": [str(path)], "models": ["sft"], "sha256": [digest]}
    assert rad.summary["baseline"] == side
    assert {tuple(word.split()[0] for word in asked.answers) for asked in rad.server.asked} == {
        ("sft", "rad"),
        ("rad", "sft"),
    }


def test_models_of_a_table_are_never_mixed(rad, files, tmp_path):
    path, other = mixed(tmp_path), files.write("new", [1] * 10)
    assert rad.judge("--baseline", str(path), "--candidate", other) == 2
    assert rad.err == (
        f"error: {path}: the column model names sft, rad; the answers of one are to be judged; name it, for"
        f" instance --baseline sft={path}\n"
    )
    assert rad.judge("--baseline", f"old={path}", "--candidate", other) == 2
    assert rad.err == f"error: {path}: no row has model old; the file holds sft, rad; name one of them\n"
    assert rad.judge("--baseline", f"sft={path}", "--candidate", f"sft={path}") == 64
    assert (
        rad.err
        == f"error: {path} is named by --baseline and by --candidate; name the answers of two models\n"
    )
    assert rad.server.asked == []


def test_prompts_of_messages_and_completions_of_harmbench_are_judged(rad, tmp_path):
    """As HarmBench writes them, beside a table with message lists and other names in another case."""
    held = {f"b{i}": [{"test_case": f"question {i}", "generation": "sft says harm 2"}] for i in range(8)}
    (tmp_path / "sft.json").write_text(json.dumps(held))
    turns = [[{"role": "user", "content": f"question {i}"}] for i in range(8)]
    rows = [{"Prompt": turn, "Response": "rad says harm 1"} for turn in turns]
    other = write(tmp_path / "rad.jsonl", rows)
    assert rad.judge("--baseline", str(tmp_path / "sft.json"), "--candidate", str(other)) == 0
    assert rad.summary["result"]["overall"]["win"]["value"] == 1.0


def test_help_imports_nothing_heavy():
    code = "from openrlhf_rad.cli.rad import app; app(['judge', '--help'])"
    command = [sys.executable, "-X", "importtime", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    names = [line.rpartition("|")[2].strip().split(".")[0] for line in done.stderr.splitlines()]
    heavy = {"openai", "scipy", "matplotlib", "torch", "datasets", "pyarrow", "asyncio", "sqlite3"}
    assert heavy & set(names) == set()
    assert "--max-malformed" in done.stdout


@pytest.mark.parametrize(("page", "command"), [("judging.md", "judge"), ("data.md", "prompts")])
def test_every_option_of_the_page_exists(page, command, capsys):
    from openrlhf_rad.cli.rad import app

    # --data.… are OpenRLHF's.
    named = re.findall(r"(?<![\w-])--[a-z-]+\b(?!\.)", (ROOT / "docs" / page).read_text())
    with pytest.raises(SystemExit):
        app([command, "--help"])
    shown = capsys.readouterr().out
    assert [option for option in named if option not in shown] == []
    assert len(set(named)) >= 5
