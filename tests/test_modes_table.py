"""The table of modes says what ran: it cannot be changed by hand, nor the list without a run."""

import importlib.util
import re
import shlex
import sys
from pathlib import Path

import pytest

PATH = Path(__file__).parents[1] / "benchmarks" / "modes.py"


@pytest.fixture(scope="module")
def benchmark():
    spec = importlib.util.spec_from_file_location("modes_benchmark", PATH)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_the_table_is_that_of_what_ran(benchmark):
    assert benchmark.PAGE.read_text(encoding="utf-8") == benchmark.page(benchmark.kept()), "run make modes"


def test_every_mode_has_run_and_passed(benchmark):
    results = benchmark.kept()["modes"]
    assert list(results) == [mode["name"] for mode in benchmark.modes()]
    assert all(result["passed"] and result["tests"] > 0 for result in results.values())
    trained = [mode["name"] for mode in benchmark.modes() if "reason" not in mode]
    assert all(results[name]["steps"] == 4 for name in trained)


def test_a_mode_that_failed_or_was_not_run_shows(benchmark):
    mode = {"name": "a", "flags": "--a"}
    versions = {"openrlhf": "1"}
    failed = {"versions": versions, "modes": {"a": {"passed": False, "tests": 1}}}
    assert "| a | `--a` | the five points below | **fails** |" in benchmark.table([mode], failed)
    with pytest.raises(KeyError):
        benchmark.table([mode], {"versions": versions, "modes": {}})


def test_a_reason_has_its_contract_tests(benchmark):
    for mode in benchmark.modes():
        assert ("reason" in mode) == ("contract" in mode)
        if "contract" in mode:
            file, _, keyword = shlex.split(mode["contract"])
            text = (PATH.parents[1] / file).read_text(encoding="utf-8")
            assert re.search(rf"def test_\w*{keyword}|\"{keyword}", text), mode["name"]


def test_make_test_trains_in_few_of_them(benchmark):
    assert sum(mode.get("quick", False) for mode in benchmark.modes()) <= 3
