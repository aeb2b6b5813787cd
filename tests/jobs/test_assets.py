"""Assets are built once, whole or not at all."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from openrlhf_rad.errors import EnvironmentProblem
from openrlhf_rad.jobs import cost_model, independent_cost, policy, policy_answers, prompts
from openrlhf_rad.jobs.assets import MANIFEST, cache_root, package_path, package_version, prepared


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENRLHF_RAD_CACHE", str(tmp_path / "cache"))


def _write(text: str):
    return lambda folder: (folder / "data.txt").write_text(text)


def _fail(folder: Path) -> None:
    (folder / "half.txt").write_text("half")
    raise RuntimeError("killed half-way")


def test_an_asset_is_built_once() -> None:
    folder = prepared("thing", {"version": 1}, _write("first"))
    assert prepared("thing", {"version": 1}, _fail) == folder
    assert (folder / "data.txt").read_text() == "first"


def test_a_changed_recipe_builds_again_and_leaves_nothing_of_the_old() -> None:
    prepared("thing", {"version": 1}, lambda f: (f / "old.txt").write_text(""))
    folder = prepared("thing", {"version": 2}, _write("second"))
    assert {p.name for p in folder.iterdir()} == {"data.txt", MANIFEST}


def test_a_build_that_fails_leaves_the_old_asset_and_no_half_built_one() -> None:
    folder = prepared("thing", {"version": 1}, _write("first"))
    with pytest.raises(RuntimeError, match="half-way"):
        prepared("thing", {"version": 2}, _fail)
    assert (folder / "data.txt").read_text() == "first"
    assert [p.name for p in cache_root().iterdir() if p.is_dir()] == ["thing"]


def test_the_remains_of_a_killed_build_are_cleared() -> None:
    stale = cache_root() / ".thing.building-abc"
    stale.mkdir()
    (stale / "half.txt").write_text("half")
    prepared("thing", {"version": 1}, _write("whole"))
    assert not stale.exists()


def test_a_missing_package_is_named_with_the_fix() -> None:
    with pytest.raises(EnvironmentProblem, match=r"no-such-wheel is not installed.*make install"):
        package_path("no_such_wheel", "no-such-wheel", "data")
    with pytest.raises(EnvironmentProblem, match="pip install --no-deps no-such-wheel"):
        package_version("no-such-wheel")


def test_a_package_without_the_file_names_its_version() -> None:
    with pytest.raises(EnvironmentProblem, match=r"nothing-here does not exist; rich \d"):
        package_path("rich", "rich", "nothing-here")


def test_what_a_new_recipe_changes_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    prepared("thing", {"version": 1, "format": "bfloat16"}, _write("first"))
    prepared("thing", {"version": 1, "format": "float32"}, _write("second"))
    said = " ".join(capsys.readouterr().err.split())
    assert said == ("thing in the cache is of another recipe and is prepared anew: format bfloat16 → float32")


def test_an_asset_is_built_again_when_one_that_it_is_built_from_was(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def chain(version: int, text: str) -> Path:
        first = prepared("first", {"version": version}, _write(text))
        second = prepared("second", {}, _write((first / "data.txt").read_text()), (first,))
        return prepared("third", {}, _write((second / "data.txt").read_text()), (second,))

    folder = chain(1, "old")
    assert chain(1, "not built") == folder
    assert (folder / "data.txt").read_text() == "old"
    assert not capsys.readouterr().err
    assert (chain(2, "new") / "data.txt").read_text() == "new"
    assert [" ".join(line.split()) for line in capsys.readouterr().err.splitlines()] == [
        "first in the cache is of another recipe and is prepared anew: version 1 → 2",
        "second in the cache is of another recipe and is prepared anew: another first",
        "third in the cache is of another recipe and is prepared anew: another second",
    ]


@pytest.mark.parametrize("cost", [cost_model, independent_cost])
def test_both_costs_follow_the_answers_of_the_policy(
    cost: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The costs' own recipes stay; what the policy answered is of another."""
    built = []

    def stand_in(name: str, recipe: dict[str, object], build: object, sources: tuple[Path, ...] = ()) -> Path:
        return prepared(name, recipe, lambda folder: built.append(name), sources)

    for module in (cost, policy, policy_answers, prompts):
        monkeypatch.setattr(module, "prepared", stand_in)
        monkeypatch.setattr(module, "number_format", lambda: "float32", raising=False)
        monkeypatch.setattr(module, "package_version", lambda name: "1", raising=False)
    folder = cost.prepare()
    cost.prepare()
    assert sorted(built) == sorted(["policy", "prompts", "policy_answers", folder.name])
    monkeypatch.setattr(policy_answers, "TOKENS", 25)
    cost.prepare()
    assert built[4:] == ["policy_answers", folder.name]
    monkeypatch.setattr(prompts, "SEED", 1)
    cost.prepare()
    assert built[6:] == ["prompts", "policy_answers", folder.name]


def test_a_ctrl_c_during_the_preparation_says_what_is_kept(tmp_path: Path) -> None:
    """The signal comes while the tiny preset is built; an asset that was finished before is kept."""
    cache = tmp_path / "cache"
    script = """
import os, signal, sys
from openrlhf_rad.jobs import assets, prepare, tiny
assets.prepared("earlier", {}, lambda folder: None)
tiny.build_policy = lambda folder: os.kill(os.getpid(), signal.SIGINT)
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.exit(prepare.main(["--preset", "tiny"]))
"""
    env = {**os.environ, "OPENRLHF_RAD_CACHE": str(cache)}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script],
        env=env,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 130
    assert done.stderr == "stopped; kept: earlier; the same command goes on with the next\n"
    assert done.stdout == ""
    assert [path.name for path in cache.iterdir() if path.is_dir()] == ["earlier"]


def test_the_preparation_prints_no_bars_and_warnings_of_the_libraries(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "openrlhf_rad.jobs.prepare", "--preset", "tiny", "--quiet"]
    env = {**os.environ, "OPENRLHF_RAD_CACHE": str(tmp_path)}
    done = subprocess.run(words, env=env, capture_output=True, text=True, check=True, timeout=300)
    assert done.stdout == ""
    assert re.fullmatch(r"✓ tiny preset: a random model and its prompts \(\d+ s\)\n", done.stderr), (
        done.stderr
    )
