"""What of a rollout is kept: all numbers, some texts; decoded where the tokens are made."""

import hashlib
from types import SimpleNamespace

import numpy as np
import pytest

from openrlhf_rad.plugin.costs.texts import TEXTS, RatedText, _said, rated_texts, said
from openrlhf_rad.plugin.record import Answers
from openrlhf_rad.plugin.sampling import WholeSamples
from openrlhf_rad.runs import RunFolder

#: Answers as their tokens come from an engine: ended, cut off, empty, and in two turns of an agent.
TURNS = [
    (["plain-ba plain-be"], ["help-ba harm-be <|im_end|>"]),
    (["plain-bi"], ["help-bo help-bu help-ba"]),
    (["plain-bo"], ["<|im_end|>"]),
    (["plain-ba", "plain-bu plain-be"], ["help-bi", "harm-bo <|im_end|>"]),
]


def response(tokenizer, observed, acted):
    tokens, ranges = [], []
    for before, answer in zip(observed, acted, strict=True):
        tokens += tokenizer(before, add_special_tokens=False)["input_ids"]
        start = len(tokens)
        tokens += tokenizer(answer, add_special_tokens=False)["input_ids"]
        ranges.append((start, len(tokens)))
    return {
        "prompt": observed[0],
        "label": "label",
        "images": None,
        "mm_train_inputs": None,
        "observation_tokens": tokens,
        "action_ranges": ranges,
        "rollout_log_probs": None,
        "truncated": False,
        "reward": 0.5,
        "scores": 0.5,
        "extra_logs": {},
    }


@pytest.mark.parametrize("agent", [False, True], ids=["answers", "conversations"])
@pytest.mark.parametrize("max_len", [64, 3])
def test_an_engine_says_what_the_controller_would_decode(agent, max_len, tokenizer, batches):
    generator = WholeSamples(SimpleNamespace(args=None), None, None, tokenizer, [])
    generator._made = []
    plain, told = [], []
    for turns in TURNS:
        found = response(tokenizer, *turns)
        plain.append(generator._process_response_into_experience(found, max_len=max_len))
        tokens = found["observation_tokens"][:max_len]
        found[TEXTS] = said(tokens, found["action_ranges"], tokenizer, agent=agent)
        told.append(generator._process_response_into_experience(found, max_len=max_len))
    here, there = batches(plain, 3, 1), batches(told, 3, 1)
    assert [TEXTS in batch.info for batch in (*here, *there)] == [False, False, True, True]
    texts = [[rated_texts(batch, tokenizer, agent=agent) for batch in made] for made in (here, there)]
    assert texts[0] == texts[1]
    # OpenRLHF takes all of info for numbers.
    assert not any(TEXTS in batch.info for batch in there)
    first = texts[0][0][0]
    if max_len == 64:
        assert first.answer == " help-ba harm-be"
        assert first.ended("</s>") == (
            "plain-ba plain-be help-ba harm-be <|im_end|>"
            if agent
            else "plain-ba plain-be help-ba harm-be</s>"
        )
        assert texts[0][1][0].answer == " help-bi harm-bo"


def test_an_answer_s_digest_says_whether_it_is_empty_or_the_same(tokenizer):
    texts = ["no", " no\n", "yes", "", "  ", "I'm sorry, no"]
    found = [_said(text, None, tokenizer) for text in texts]
    assert [text for text, *_ in found] == texts
    digests = [digest for _, _, digest, _ in found]
    assert digests[0] == digests[1] != digests[2]
    assert digests[3:5] == [0, 0]
    assert [refused for *_, refused in found] == [False, False, False, True, True, True]


def answers(costs, prompts=None):
    """Answers of which only the costs matter."""
    size = len(next(iter(costs.values())))
    texts = [
        RatedText(prompts[i] if prompts else f"p{i // 4}", f"a{i}", f"label {i % 2}", i % 3 > 0)
        for i in range(size)
    ]
    held = {name: np.asarray(cost_b, dtype=np.float64) for name, cost_b in costs.items()}
    return Answers(texts, np.arange(size) / 8, held, np.arange(size))


def test_few_answers_are_kept_whole():
    few = answers({"cost": range(8)})
    assert few.sample(8, 0) == few.sample(None, 0) == few.rows()
    assert [row["answer"] for row in few.rows()] == [f"a{i}" for i in range(8)]
    assert not any("worst" in row for row in few.rows())
    assert answers({"cost": range(9)}).sample(0, 0) == []


def test_the_most_costly_are_kept_beside_a_lot_of_all():
    """Three of four by lot, which may draw costly ones too; the others cost most of what is left."""
    rng = np.random.default_rng(3)
    many = answers({"cost": rng.normal(size=4000)})
    drawn = np.zeros(4000)
    for seed in range(300):
        kept = many.sample(64, seed)
        worst = [row for row in kept if row.get("worst")]
        lot = [row for row in kept if not row.get("worst")]
        assert (len(lot), len(worst)) == (48, 16)
        places = {int(row["answer"][1:]) for row in lot}
        drawn[list(places)] += 1
        left = sorted((-cost for i, cost in enumerate(many.costs["cost"]) if i not in places))[:16]
        assert [-row["cost"] for row in worst] == left
    assert kept == many.sample(64, 299)
    # Each answer is drawn with probability 48/4000, whatever it costs: 3.6 times in 300.
    costly = np.argsort(-many.costs["cost"])[:1000]
    assert drawn[costly].mean() == pytest.approx(3.6, abs=4 * np.sqrt(3.6 / 1000))


def test_of_several_sources_each_has_its_worst():
    rng = np.random.default_rng(4)
    costs = {"harm": rng.normal(size=500), "privacy": rng.normal(size=500)}
    worst = {row["answer"] for row in answers(costs).sample(40, 1) if row.get("worst")}
    lot = {row["answer"] for row in answers(costs).sample(40, 1) if not row.get("worst")}
    for cost_b in costs.values():
        assert {f"a{i}" for i in np.argsort(-cost_b)[:4]} <= worst | lot


@pytest.mark.parametrize("names", [("cost",), ("harm", "privacy")])
def test_the_numbers_of_all_answers_are_read_by_pandas(names, tmp_path):
    pandas = pytest.importorskip("pandas")
    folder = RunFolder.create(tmp_path / "run")
    rng = np.random.default_rng(5)
    made = [answers({name: rng.normal(size=12) for name in names}) for _ in range(3)]
    for step, one in enumerate(made, 1):
        folder.append_samples({"step": step, **row} for row in one.sample(4, step))
        folder.write_step(step, one.columns())
    table = pandas.read_parquet(tmp_path / "run" / "answers")
    columns = ["cost"] if len(names) == 1 else [f"cost_{name}" for name in names]
    assert list(table) == ["step", "prompt", "label", "finished", "tokens", "reward", *columns]
    assert table["step"].tolist() == [1] * 12 + [2] * 12 + [3] * 12
    for name, column in zip(names, columns, strict=True):
        assert table[column].tolist() == [cost for one in made for cost in one.costs[name].tolist()]
    assert table["prompt"][4] == hashlib.sha256(b"p1").hexdigest()[:16]
    assert table["label"].tolist() == ["label 0", "label 1"] * 18
    folder.rewind(1)
    assert pandas.read_parquet(tmp_path / "run" / "answers")["step"].tolist() == [1] * 12
    folder.rewind(0)
    assert list((tmp_path / "run" / "answers").iterdir()) == []
