"""Nothing is lost when a part of a run is killed: a short form of ``make faults``, on the real stack."""

from __future__ import annotations

import importlib.util
import random
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from torch.utils.cpp_extension import _get_build_directory

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


class Soon(random.Random):
    """The earliest of all moments that may be drawn."""

    def uniform(self, a: float, b: float) -> float:
        """The least number."""
        return min(a, b)

    def randint(self, a: int, b: int) -> int:
        """The least number."""
        return min(a, b)


@pytest.fixture
def left_lock() -> Iterator[None]:
    """The file that a process leaves which is killed while torch builds or looks at an operator."""
    lock = Path(_get_build_directory("deepspeed_shm_comm", verbose=False)) / "lock"
    lock.touch()
    yield
    lock.unlink()


@pytest.mark.usefixtures("left_lock")
def test_three_kills_change_nothing(faults, tmp_path: Path) -> None:
    """Metrics, λ, answers, reference costs and weights equal those of a run that was left alone.

    An engine that dies at the start leaves the policy's first rank waiting for it in a collective operation.
    """
    kills = [("vLLM engine", "start"), ("policy", "save"), ("rad-train", "step")]
    counts, found = faults.run_faults(kills, Soon(), tmp_path, faults.command(1, 1))
    assert counts.kills.total() == 3
    assert counts.problems == []
    assert found == []
    assert "a process of the run has died: " in (tmp_path / "killed.log").read_text()
