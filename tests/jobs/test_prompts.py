"""The prompts of the default job."""

from __future__ import annotations

from collections import Counter

from openrlhf_rad.jobs import prompts
from openrlhf_rad.jobs.prompts import distinct, read


def test_training_and_heldout_prompts_are_balanced_and_disjoint() -> None:
    folder = prompts.prepare()
    train, heldout = read(folder / "train.jsonl"), read(folder / "heldout.jsonl")
    assert Counter(x["label"] for x in heldout) == {"harmful": 200, "benign": 200}
    counts = Counter(x["label"] for x in train)
    assert counts["harmful"] == counts["benign"] > 250
    assert len(distinct([*heldout, *train])) == len(train) + len(heldout)


def test_the_out_of_distribution_prompts_are_in_neither_set() -> None:
    folder = prompts.prepare()
    known = {x["input"] for name in ("train", "heldout") for x in read(folder / f"{name}.jsonl")}
    ood = read(folder / "ood.jsonl")
    assert len(ood) == 200
    assert not known & {x["input"] for x in ood}


def test_near_identical_prompts_are_dropped() -> None:
    lines = [{"input": t} for t in ("What is a cat?", "what is A CAT", "What is a dog?", "How far is it?")]
    assert [x["input"] for x in distinct(lines)] == ["What is a cat?", "What is a dog?", "How far is it?"]
