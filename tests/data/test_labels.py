"""Labelled answers of each kind and shape; what says nothing of harm is refused with its place."""

import json

import pytest

from openrlhf_rad.data import load_labels
from openrlhf_rad.errors import DataError


def table(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def fails(*words, **more):
    with pytest.raises(DataError) as error:
        load_labels(*words, **more)
    return str(error.value)


def harms(labels):
    return [example.harm for example in labels.examples]


def test_beavertails_flags_each_answer(beavertails):
    """Equal answers to a prompt are one, and their flags are averaged."""
    labels = load_labels(beavertails)
    assert [(e.prompt, e.harm) for e in labels.examples] == [
        ("Where to hide it?", pytest.approx(2 / 3)),
        ("Hello?", 0.0),
        ("Mixed?", 0.5),
    ]
    assert labels.pairs == []


def test_pku_flags_and_compares(pku):
    labels = load_labels(pku)
    safe, unsafe = (
        next(i for i, e in enumerate(labels.examples) if e.answer == f"answer {k}") for k in (0, 1)
    )
    assert (labels.examples[safe].prompt, labels.examples[unsafe].prompt) == ("Safe and unsafe",) * 2
    # The third row says the opposite of the first; both are heard.
    assert harms(labels)[:2] == [0.5, 0.5]
    assert {(unsafe, safe), (safe, unsafe)} <= set(labels.order)


def test_scores_are_put_on_the_scale_from_0_to_1(tmp_path):
    rows = [{"prompt": "p", "answer": str(k), "rating": k} for k in (1, 3, 5)]
    path = table(tmp_path / "a.jsonl", rows)
    assert harms(load_labels(path)) == [0.0, 0.5, 1.0]
    assert load_labels(path).pairs == [(1, 0), (2, 0), (2, 1)]
    assert harms(load_labels(path, columns={"score": "-rating"})) == [1.0, 0.5, 0.0]
    assert harms(load_labels(path, scale=(1, 9))) == [0.0, 0.25, 0.5]
    assert fails(path, scale=(1, 4)) == (
        "--scale is 1,4 and 1 of 3 scores lie outside, the first is 5; name the scores that mean harmless and"
        " most harmful"
    )


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_flags_in_other_formats(tmp_path, suffix):
    path = tmp_path / f"flags.{suffix}"
    if suffix == "csv":
        path.write_text("question,reply,unsafe\nhow?,like this,yes\nhow?,no,no\n")
    else:
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(
            pa.table({"question": ["how?"] * 2, "reply": ["like this", "no"], "unsafe": [True, False]}), path
        )
    labels = load_labels(path, columns={"prompt": "question", "answer": "reply"})
    assert harms(labels) == [1.0, 0.0]
    assert labels.pairs == [(0, 1)]


def test_pairs_without_a_level(tmp_path):
    labels = load_labels(table(tmp_path / "p.jsonl", [{"prompt": "p", "chosen": "good", "rejected": "bad"}]))
    assert [(e.answer, e.harm) for e in labels.examples] == [("bad", None), ("good", None)]
    assert labels.order == labels.pairs == [(0, 1)]


def test_pairs_of_equal_answers(tmp_path):
    rows = [{"prompt": "p", "chosen": "a", "rejected": "a"}, {"prompt": "q", "chosen": "a", "rejected": "b"}]
    path = table(tmp_path / "p.jsonl", rows)
    assert fails(path) == (
        f"{path}:1: both answers of the pair are the same, so that it cannot say which is worse;"
        " remove the row"
    )


def test_labels_that_are_all_the_same(tmp_path):
    path = table(tmp_path / "a.jsonl", [{"prompt": "p", "answer": str(k), "is_safe": True} for k in range(3)])
    assert fails(path) == (
        f"{path}: all 3 answers are labelled harmless; nothing can be learned or checked by labels that"
        " are all the same; add answers of the other kind"
    )


def test_labels_of_which_nobody_knows_what_they_mean(tmp_path):
    rows = [{"prompt": "p", "answer": str(k), "verdict": k % 2} for k in range(4)]
    path = table(tmp_path / "a.jsonl", rows)
    assert "its name does not say which of them is harmful; name it with --harmful" in fails(
        path, columns={"label": "verdict"}
    )
    assert harms(load_labels(path, columns={"label": "verdict"}, harmful="1")) == [0.0, 1.0, 0.0, 1.0]


def test_a_table_that_says_nothing_of_harm(tmp_path):
    path = table(tmp_path / "a.jsonl", [{"prompt": "p", "answer": "a", "label": "harmful"}])
    assert fails(path) == (
        f"{path}:1: nothing says how harmful the answer is; the row holds prompt, answer,"
        " label; name its scores by --column score=NAME, or its flags by --column label=NAME"
    )


def test_scores_that_are_no_numbers(tmp_path):
    rows = [{"prompt": "p", "answer": "a", "score": value} for value in ("x", None, 1.0)]
    path = table(tmp_path / "a.jsonl", rows)
    assert fails(path).splitlines() == [
        f'{path}:1: score is "x"; it must be a finite number; mend the row',
        f"{path}:2: score is null; it must be a finite number; mend the row",
    ]


def test_some_of_the_answers():
    from openrlhf_rad.data.labels import Example, Labels

    labels = Labels([Example("p", str(k), None) for k in range(3)], [(0, 1), (2, 1)])
    kept = labels.where([2, 1])
    assert [e.answer for e in kept.examples] == ["2", "1"]
    assert kept.order == [(0, 1)]
