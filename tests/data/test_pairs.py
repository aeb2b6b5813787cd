"""Pairs with the sign of a reward or of a cost."""

import json

import pytest

from openrlhf_rad.data.pairs import TrainingPair, load_training_pairs
from openrlhf_rad.errors import DataError


def table(path, rows):
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def fails(*words, **more):
    with pytest.raises(DataError) as error:
        load_training_pairs(*words, **more)
    return str(error.value)


def test_harm_turns_a_published_pair_round(tmp_path):
    row = {"prompt": "p", "chosen": "kind", "rejected": "cruel"}
    path = table(tmp_path / "p.jsonl", [row])
    assert load_training_pairs(path, by="helpfulness") == [TrainingPair("p", "kind", "cruel")]
    assert load_training_pairs(path, by="harm") == [TrainingPair("p", "cruel", "kind")]


def test_pku_has_both(pku):
    helpful, harmful = (load_training_pairs(pku, by=by) for by in ("helpfulness", "harm"))
    assert helpful[0] == TrainingPair("Safe and unsafe", "answer 1", "answer 0")
    assert TrainingPair("Both safe", "answer 0", "answer 1") in harmful


def test_beavertails_pairs_an_unsafe_answer_with_a_safe_one(tmp_path):
    rows = [
        {"prompt": "p", "response": text, "category": {}, "is_safe": safe}
        for text, safe in (("no", True), ("yes", False), ("never", True))
    ]
    path = table(tmp_path / "b.jsonl", rows)
    assert load_training_pairs(path, by="harm") == [
        TrainingPair("p", "yes", "no"),
        TrainingPair("p", "yes", "never"),
    ]
    assert "hold no pair of answers" in fails(path, by="helpfulness")
    safe = table(tmp_path / "c.jsonl", [{**row, "prompt": row["response"]} for row in rows])
    assert fails(safe, by="harm") == (
        f"{safe}: no two answers to one prompt differ by harm; pairs need such answers"
    )


def test_a_part_of_hh_is_of_what_its_name_says(tmp_path):
    start = "\n\nHuman: hi\n\nAssistant:"
    row = {"chosen": f"{start} hello", "rejected": f"{start} go away"}
    parts = ("harmless-base", "helpful-base")
    harmless, helpful = (table(tmp_path / part / "t.jsonl", [row]) for part in parts)
    assert load_training_pairs(harmless, by="harm") == [TrainingPair("hi", "go away", "hello")]
    assert load_training_pairs(helpful, by="helpfulness") == [TrainingPair("hi", "hello", "go away")]
    assert fails(helpful, by="harm") == (
        f"{helpful}: its name says helpful, and pairs by harm are asked for; name the other part of the set,"
        " or write --by helpfulness"
    )


@pytest.mark.parametrize("by", ["harm", "helpfulness"])
def test_equal_sides_are_refused(tmp_path, by):
    path = table(tmp_path / "p.jsonl", [{"prompt": "p", "chosen": "a", "rejected": "a"}])
    assert "both answers of the pair are the same" in fails(path, by=by)


def test_messages_for_a_chat_template():
    assert TrainingPair("p", "a", "b").line(chat=True) == {
        "prompt": [{"role": "user", "content": "p"}],
        "chosen": [{"role": "assistant", "content": "a"}],
        "rejected": [{"role": "assistant", "content": "b"}],
    }
