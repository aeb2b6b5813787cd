"""Assets are built once, whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from openrlhf_rad.errors import EnvironmentProblem
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
