"""examples/: each is short, loads, and does what it says; those that train are run by tests/stack."""

import subprocess
import sys
from pathlib import Path

import pytest

from openrlhf_rad.plugin.costs.sources import FunctionCost, RemoteCost
from openrlhf_rad.plugin.costs.texts import RatedText
from openrlhf_rad.profile import RiskProfile, load_profile

EXAMPLES = Path(__file__).parents[1] / "examples"
TEXTS = [RatedText("how?", f" {answer}") for answer in ("harm-ba help-be harm-bi", "help-be", "harm-ca")]


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.*")), ids=lambda path: path.name)
def test_an_example_is_short_and_a_test_runs_it(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) < 40
    stack = (Path(__file__).parent / "stack" / "test_served_costs.py").read_text(encoding="utf-8")
    here = Path(__file__).read_text(encoding="utf-8")
    rating = (Path(__file__).parent / "judging" / "test_rating.py").read_text(encoding="utf-8")
    assert any(f'"{path.stem}' in text for text in (stack, here, rating))


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.yaml")), ids=lambda path: path.stem)
def test_a_profile_loads_and_reads_back(path):
    profile = load_profile(str(path))
    assert profile.warnings == ()
    assert profile.cost is not None
    assert RiskProfile.from_text(profile.to_yaml()) == profile


def test_the_function():
    path = EXAMPLES / "cost_function.py"
    done = subprocess.run([sys.executable, path], capture_output=True, text=True, check=True)
    assert done.stdout == "[2.0]\n"
    source = FunctionCost(str(path))
    assert source.finish(source.begin([TEXTS])) == [2.0, 0.0, 1.0]


def test_the_server(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    command = [sys.executable, EXAMPLES / "cost_server.py", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            source = RemoteCost(server.stdout.readline().strip())
            assert source.finish(source.begin([TEXTS])) == [2.0, 0.0, 1.0]
        finally:
            server.terminate()
