"""OpenRLHF's checkpoints, each whole or not there: sealed last, and only what is sealed is gone on from.

OpenRLHF writes ``<path>/_actor/<tag>/…`` (and ``_critic``), and names the tag in ``_actor/latest``. A kill or
a power cut in between leaves files that are cut off, or a ``latest`` that is empty. Here a save leaves a note
beside the checkpoint before it begins; once all files are on the disk, a manifest with their sizes goes into
it, ``latest`` is replaced in one go, and the note is taken away.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from openrlhf_rad.errors import ConfigError
from openrlhf_rad.files import flush, sync_folder, write_atomically

#: The folders of the models that train, in that of the checkpoints.
GROUPS = ("_actor", "_critic")
MANIFEST, LATEST = "manifest.json", "latest"
_TAG = re.compile(r"(?:best_)?global_step(\d+)")


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that is whole.

    Attributes:
        path: the folder of the checkpoints, ``--ckpt.path``. tag: its name there. step: the step it follows.
        profile: the hash of the risk profile that it was trained under.
        number_format: what its models computed in on a CPU; empty where it was a GPU.
    """

    path: Path
    tag: str
    step: int
    profile: str
    number_format: str = ""

    def __str__(self) -> str:
        return f"step {self.step} in {self.path}"


def begin(folder: Path, tag: str) -> None:
    """Before ``folder/tag`` is written: whatever is there counts no more."""
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(_note(folder, tag), "")
    (folder / tag / MANIFEST).unlink(missing_ok=True)


def flush_all(folder: Path) -> None:
    """Bring every file of a checkpoint to the disk; each process that wrote some does it."""
    for path in _files(folder):
        flush(path)
    sync_folder(folder)


def seal(folder: Path, tag: str, profile: str, number_format: str = "") -> None:
    """After all files of ``folder/tag`` are on the disk: from now on a start may resume from it."""
    held = folder / tag
    sizes = {str(path.relative_to(held)): path.stat().st_size for path in _files(held)}
    write_atomically(
        held / MANIFEST,
        json.dumps({"profile": profile, "number_format": number_format, "files": sizes}, indent=1) + "\n",
    )
    write_atomically(folder / LATEST, tag)
    _note(folder, tag).unlink(missing_ok=True)
    sync_folder(folder)


def newest(path: Path) -> Checkpoint | None:
    """The latest checkpoint that is whole for every model; None where there is none."""
    # Of a step saved twice, as best and in turn, either will do.
    return max(whole(path), key=lambda one: (one.step, one.tag), default=None)


def whole(path: Path) -> list[Checkpoint]:
    """The checkpoints that are whole for every model."""
    groups = [path / group for group in GROUPS if (path / group).is_dir()]
    tags = {entry.name for entry in groups[0].iterdir() if entry.is_dir()} if groups else set()
    found = []
    for tag in tags:
        manifests = [_manifest(group, tag) for group in groups]
        step = _TAG.fullmatch(tag)
        if step and all(manifests):
            first: dict[str, Any] = manifests[0]  # type: ignore[assignment]
            found.append(
                Checkpoint(path, tag, int(step[1]), first["profile"], first.get("number_format", ""))
            )
    return found


def settle(path: Path) -> Checkpoint | None:
    """Make the newest whole checkpoint the one that OpenRLHF loads, and take away what a kill left.

    Raises:
        ConfigError: there are checkpoints, but none of a run with RAD.
    """
    for group in GROUPS:
        for note in (path / group).glob(".*.saving"):
            tag = note.name.removeprefix(".").removesuffix(".saving")
            shutil.rmtree(path / group / tag, ignore_errors=True)
            note.unlink()
    found = newest(path)
    for group in GROUPS:
        folder = path / group
        if not folder.is_dir():
            continue
        if found is not None:
            write_atomically(folder / LATEST, found.tag)
        elif any(entry.is_dir() for entry in folder.iterdir()):
            raise ConfigError(
                f"{folder} holds checkpoints, but none that a run with RAD has finished: there is no λ to go"
                " on with; start a new run with another --ckpt.path, or leave out --ckpt.load_enable"
            )
        else:
            shutil.rmtree(folder)
    return found


def _note(folder: Path, tag: str) -> Path:
    return folder / f".{tag}.saving"


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != MANIFEST)


def _manifest(folder: Path, tag: str) -> dict[str, Any] | None:
    """What was sealed; None for a checkpoint that is not whole."""
    held = folder / tag
    try:
        manifest: dict[str, Any] = json.loads((held / MANIFEST).read_text(encoding="utf-8"))
        whole = all((held / name).stat().st_size == size for name, size in manifest["files"].items())
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return manifest if whole and "profile" in manifest and not _note(folder, tag).exists() else None
