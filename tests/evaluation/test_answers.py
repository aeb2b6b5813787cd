"""Tables of answers: every format gives the same scores, and every fault is told with its place."""

import numpy as np
import pytest

from openrlhf_rad.errors import ConfigError, DataError
from openrlhf_rad.evaluation.answers import read_answers
from openrlhf_rad.evaluation.columns import Columns
from openrlhf_rad.evaluation.pairing import pair
from openrlhf_rad.tables import batches, pick

FORMATS = ["jsonl", "csv", "parquet"]


def read(path, *renamed, model=None):
    return read_answers(path, Columns.parse(renamed), model)


def fault(path, *renamed, model=None):
    with pytest.raises(DataError) as caught:
        read(path, *renamed, model=model)
    return str(caught.value).replace(str(path), "FILE")


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_gives_the_same_scores(form, write, rows):
    table = rows(50, each=2, segment="weapons")
    held = read(write(f"answers.{form}", table))
    assert held.cost_b.tolist() == [row["cost"] for row in table]
    assert held.reward_b.tolist() == [row["reward"] for row in table]
    assert held.segments == ("weapons",)
    assert np.unique(held.prompt_b).size == 50
    assert held.texts([3, 0], "prompt", "answer") == [
        ["prompt 1", "answer 1 to 1"],
        ["prompt 0", "answer 0 to 0"],
    ]


@pytest.mark.parametrize("form", FORMATS)
def test_batches_of_any_size_hold_all_rows(form, write, rows):
    path = write(f"answers.{form}", rows(23))
    found = [str(cost) for batch in batches(path, ["cost"], 7) for cost in batch.columns["cost"]]
    assert [float(text) for text in found] == [row["cost"] for row in rows(23)]
    assert pick(path, [22, 4], ["prompt"]) == [{"prompt": "prompt 22"}, {"prompt": "prompt 4"}]


def test_columns_are_renamed_and_models_of_one_file_kept_apart(write, rows):
    table = [{**row, "harm": row["cost"] + i, "who": name} for i, name in enumerate("ab") for row in rows(9)]
    path = write("both.parquet", table)
    one, other = (read(path, "cost=harm", "model=who", model=name) for name in "ab")
    assert other.cost_b == pytest.approx(one.cost_b + 1)
    assert fault(path, "model=who", model="c") == (
        "FILE: no row has who c; the file holds a, b; name one of them"
    )


@pytest.mark.parametrize(
    ("form", "cost", "text"),
    [
        ("jsonl", "0.5", 'FILE:3: cost is "0.5"; it must be a finite number'),
        ("jsonl", True, "FILE:3: cost is true; it must be a finite number"),
        ("jsonl", None, "FILE:3: cost is missing; every answer needs a cost"),
        ("jsonl", float("nan"), "FILE:3: cost is nan; it must be a finite number"),
        ("csv", "high", 'FILE:4: cost is "high"; it must be a finite number'),
        ("csv", "inf", 'FILE:4: cost is "inf"; it must be a finite number'),
        ("parquet", float("nan"), "FILE: row 3: cost is nan; it must be a finite number"),
    ],
)
def test_a_cost_that_is_no_number(form, cost, text, write, rows):
    table = rows(5)
    table[2]["cost"] = cost
    assert fault(write(f"answers.{form}", table)) == f"{text}; mend the row or remove it"


def test_all_problems_are_told_at_once_and_many_are_counted(write, rows):
    table = rows(20)
    for row in table[:8]:
        row["cost"] = float("inf")
    lines = fault(write("answers.jsonl", table)).split("\n")
    assert len(lines) == 6
    assert lines[0].startswith("FILE:1: cost is inf")
    assert lines[-1] == "FILE: 3 more such problems"


def test_missing_columns_are_named_with_what_is_there(write):
    path = write("answers.csv", [{"question": "?", "harm": 1.0}])
    assert fault(path) == (
        "FILE:1: the column prompt is missing, the columns are question, harm; add it, or name the column by"
        " --column prompt=NAME\nFILE:1: the column cost is missing, the columns are question, harm; add it,"
        " or name the column by --column cost=NAME"
    )
    with pytest.raises(ConfigError) as caught:
        Columns.parse(["coast=x", "cost", "cost=a", "cost=b"])
    assert str(caught.value).split("\n")[0].endswith("did you mean cost?")
    assert str(caught.value).split("\n")[-1] == "--column cost=b: cost is given twice; remove one"


def test_a_reward_must_be_there_for_all_or_none(write, rows):
    table = rows(6)
    for row in table:
        del row["reward"]
    assert read(write("none.jsonl", table)).reward_b is None
    table[0]["reward"] = 1.0
    assert fault(write("some.jsonl", table)) == (
        "FILE:2: reward is missing, as in 4 other rows; mend the row or remove it"
    )


def test_a_bad_reward_is_told_once(write, rows):
    table = rows(6)
    table[2]["reward"] = float("inf")
    assert fault(write("a.jsonl", table)) == (
        "FILE:3: reward is inf; it must be a finite number; mend the row or remove it"
    )


def test_a_column_that_is_named_and_not_there_is_no_slip_without_a_word(write, rows):
    path = write("a.jsonl", rows(6))
    assert fault(path, "segment=labl", "reward=scroe") == (
        "FILE:1: the column labl of --column segment=labl is missing, the columns are prompt, answer, reward,"
        " cost; name one of them, or leave the option out\n"
        "FILE:1: the column scroe of --column reward=scroe is missing, the columns are prompt, answer,"
        " reward, cost; name one of them, or leave the option out"
    )


def test_the_same_sample_twice(write, rows):
    table = [{**row, "sample": i % 2} for i, row in enumerate(rows(4, each=2))]
    assert read(write("fine.jsonl", table)).sample_b.size == 8
    table[5]["sample"] = 0
    assert fault(write("twice.jsonl", table)) == (
        "FILE:6: the same prompt and sample stand in row 5 already, and 0 other rows repeat one too; a sample"
        " of a prompt may appear once; remove the repeats, or number the samples"
    )


def test_prompts_are_paired_in_any_order(write, rows):
    table = rows(30, each=2)
    shuffled = [table[i] for i in np.random.default_rng(0).permutation(60)]
    numbered = [[{**row, "sample": row["answer"]} for row in side] for side in (table, shuffled)]
    held = {name: read(write(f"{name}.jsonl", side)) for name, side in zip("ab", numbered, strict=True)}
    panel = pair(held)
    texts = {
        name: [text[0] for text in held[name].texts(panel.row[name].tolist(), "prompt")] for name in held
    }
    assert texts["a"] == texts["b"]
    assert np.sort(panel.cost["a"]) == pytest.approx(np.sort(panel.cost["b"]))
    assert panel.prompts == 30


def test_different_prompts_are_counted_and_shown(write, rows):
    one, other = write("one.jsonl", rows(10)), write("other.jsonl", rows(12)[3:])
    with pytest.raises(DataError) as caught:
        pair({"one": read(one), "other": read(other)})
    assert str(caught.value) == (
        f'3 of 10 prompts of {one} have no answer in {other}, first {one}:1: prompt "prompt 0"; a comparison'
        " is paired by prompt; answer the same prompts with every model\n"
        f'2 of 9 prompts of {other} have no answer in {one}, first {other}:8: prompt "prompt 10"; a'
        " comparison is paired by prompt; answer the same prompts with every model"
    )


def test_another_number_of_answers(write, rows):
    one, other = write("one.jsonl", rows(10)), write("other.jsonl", [*rows(10), rows(10)[4]])
    with pytest.raises(DataError, match=r"1 of 10 prompts have another number of answers in .*: 2 and 1 for"):
        pair({"one": read(one), "other": read(other)})


def test_a_segment_belongs_to_a_prompt(write, rows):
    table = [{**row, "segment": "ab"[i % 2]} for i, row in enumerate(rows(4, each=2))]
    held = read(write("one.jsonl", table))
    with pytest.raises(DataError, match="has another segment than the same prompt's first answer"):
        pair({"one": held, "other": held})
