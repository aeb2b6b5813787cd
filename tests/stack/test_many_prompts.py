"""More prompts to one engine than Ray runs calls of an actor at a time: a run that waits for itself."""

import numpy as np
import pytest

from openrlhf_rad.runs import RunFolder

pytestmark = [pytest.mark.stack, pytest.mark.slow]


def test_twelve_hundred_reference_answers_come_from_one_engine(run, tmp_path):
    out = tmp_path / "run"
    size = ("--data.max_samples", "64", "--train.num_episodes", "1", "--train.full_determinism_enable")
    more = ("--set", "reference.samples=1200")
    done = run("--preset", "tiny", "--profile", "medical", "--out", str(out), *more, "--", *size)
    assert done.returncode == 0, done.stdout + done.stderr
    folder = RunFolder(out)
    cost_r = folder.read_reference().cost_r
    assert cost_r.size == 1200
    assert np.isfinite(cost_r).all()
    assert len(folder.read_metrics()) >= 1
