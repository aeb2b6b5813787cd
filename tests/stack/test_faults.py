"""Nothing is lost when a part of a run is killed: a short form of ``make faults``, on the real stack."""

from __future__ import annotations

import importlib.util
import random
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.stack


@pytest.fixture(scope="module")
def faults():  # type: ignore[no-untyped-def]
    """The module benchmarks/faults.py."""
    path = Path(__file__).parents[2] / "benchmarks" / "faults.py"
    spec = importlib.util.spec_from_file_location("rad_faults", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["rad_faults"] = module
    spec.loader.exec_module(module)
    return module


def test_three_kills_change_nothing(faults, tmp_path: Path) -> None:
    """Metrics, λ, answers, reference costs and weights equal those of a run that was left alone."""
    counts, found = faults.run_faults(3, 1, tmp_path, faults.command(1, 3))
    assert counts.kills.total() == 3
    assert counts.problems == []
    assert found == []


class Soon(random.Random):
    """The earliest moment of all that may be drawn."""

    def uniform(self, a: float, b: float) -> float:
        """The least number."""
        return min(a, b)


def test_a_run_whose_engine_dies_at_the_start_waits_not_for_it(faults, tmp_path: Path) -> None:
    """The policy's first rank waits for the engine to join a process group; nobody calls the engine."""
    run, counts = faults.Run(tmp_path / "killed", faults.command(1, 1)), faults.Counts()
    assert faults.kill_once(run, "vLLM engine", "start", Soon(), counts)
    assert counts.problems == []
    assert run.steps() == 0
    assert "a process of the run has died: " in run.out.with_suffix(".log").read_text()
