"""benchmarks/scale_measured.py at its smallest: every part runs, and the meter shows what it is given."""

import time
from pathlib import Path

import numpy as np
import pytest


@pytest.fixture
def measured(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    import scale_measured

    monkeypatch.setattr(scale_measured, "SECONDS", 0.05)
    return scale_measured


def test_every_part_is_measured(measured, tokenizer):
    found = measured.measure(64, 32, 4, 8, tokenizer)
    assert set(found["usual"]) == set(found["full"])
    parts = [part for kind in ("usual", "full", "rollout") for part in found[kind].values()]
    assert len(parts) == 2 * 5 + 15
    assert all(part["seconds"] > 0 and part["mib"] >= 0 for part in parts)
    # 12 words of 4 letters with blanks between them, and what pickle says about a text.
    assert 12 * 5 - 1 <= found["sizes"]["chunk"] < 12 * 5 + 32
    # Two quotes, names and numbers beside 4 + 8 words.
    assert 100 < found["line"] < 400


def test_the_rollout_is_one_as_openrlhf_makes_it(measured, rollout, batches, tokenizer):
    """Fields, types and shapes are those of OpenRLHF's own answers, so that the parts do the same work."""
    (made,) = measured.experiences_of(4, 3, 5, tokenizer)
    words = [tokenizer.decode(row) for row in made.sequences]
    samples = [rollout(" ".join(w.split()[:3]), " ".join(w.split()[3:]), reward=0.5) for w in words]
    (real,) = batches(samples, 4)
    for name in ("sequences", "attention_mask", "action_mask"):
        ours, theirs = getattr(made, name), getattr(real, name)
        assert (ours.dtype, ours.tolist()) == (theirs.dtype, theirs.tolist()), name
    assert made.index == real.index
    assert made.rewards.shape == real.rewards.shape


def test_the_meter_shows_time_and_peak_memory(measured):
    def part():
        held = np.ones(8 * 2**20)  # 64 MiB
        end = time.process_time() + 0.02
        while time.process_time() < end:
            held[0] += 1
        time.sleep(2)  # waiting is no work
        return float(held[0])

    found = measured.timed(part)
    assert 60 < found["mib"] < 80
    assert 0.02 <= found["seconds"] < 2
