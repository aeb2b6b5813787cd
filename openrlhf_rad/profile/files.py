"""The files of profiles: shipped ones by name, others by path, read in bounded time and memory."""

from __future__ import annotations

import importlib.resources
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from openrlhf_rad.errors import ProfileError, did_you_mean
from openrlhf_rad.profile.document import MAX_CHARACTERS

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

# As many characters as a document may have, of four bytes each.
_MAX_BYTES = 4 * MAX_CHARACTERS
_SUFFIXES = (".yaml", ".yml")


class Found(NamedTuple):
    """A profile's text.

    Attributes:
        source: the file as messages name it.
        folder: where its relative paths start.
        identity: the same for the same file, however it is named.
    """

    text: str
    source: str
    folder: Path
    identity: str


def shipped_profiles() -> list[str]:
    """The names of the shipped profiles, sorted."""
    return sorted(Path(item.name).stem for item in _shipped_folder().iterdir() if item.name.endswith(".yaml"))


def is_path(name: str) -> bool:
    """Whether a profile is named by its path rather than as a shipped one."""
    return Path(name).suffix in _SUFFIXES or len(Path(name).parts) > 1


def find(name: str, *, beside: Path | None = None, source: str = "") -> Found:
    """A profile by its path, or a shipped one by its name. Raises ProfileError.

    Args:
        beside: the folder that a relative path starts from; the working directory without one.
        source: the file that names it, so that messages name the other one relative to it.
    """
    if is_path(name) or (beside is None and Path(name).is_file()):
        path = (beside or Path.cwd()) / name
        shown = Path(source).parent / name if source else Path(name)
        return Found(read_text(path, shown), str(shown), path.absolute().parent, os.path.realpath(path))
    shipped = shipped_profiles()
    if name not in shipped:
        hint = did_you_mean(name, shipped) or "or give the path of a .yaml file"
        raise ProfileError(f"no risk profile is called {name}; shipped are {', '.join(shipped)}; {hint}")
    text = _shipped_folder().joinpath(f"{name}.yaml").read_text(encoding="utf-8")
    return Found(text, f"{name}.yaml", Path.cwd(), f"shipped:{name}")


def read_text(path: Path, shown: Path | None = None) -> str:
    """The text of a regular file of profile size; nothing else is read, nor waited for.

    Args:
        shown: how messages name it.

    Raises:
        ProfileError: a file that is missing, no regular file, too large, or not UTF-8.
    """
    shown = shown or path
    try:
        data = _read_bytes(path, shown)
        return data.decode("utf-8-sig")
    except FileNotFoundError:
        shipped = shipped_profiles()
        hint = did_you_mean(path.stem, shipped) or f"shipped are {', '.join(shipped)}"
        raise ProfileError(f"{shown}: there is no such file; give a path or a shipped name; {hint}") from None
    except UnicodeDecodeError as error:
        raise ProfileError(f"{shown}: byte {error.start} is not UTF-8; save the file as UTF-8") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ProfileError(f"{shown}: it cannot be read ({reason}); check path and rights") from None


def _read_bytes(path: Path, shown: Path) -> bytes:
    """The file's bytes, at most _MAX_BYTES; a FIFO without a writer does not hold up the opening."""
    file = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))
    try:
        if not stat.S_ISREG(os.fstat(file).st_mode):
            raise ProfileError(f"{shown}: it is no regular file; a profile is one; check the path")
        data = b""
        while len(data) <= _MAX_BYTES and (piece := os.read(file, _MAX_BYTES + 1 - len(data))):
            data += piece
    finally:
        os.close(file)
    if len(data) > _MAX_BYTES:
        raise ProfileError(
            f"{shown}: the file has more than {_MAX_BYTES} bytes; a profile has far fewer; check the path"
        )
    return data


def _shipped_folder() -> Traversable:
    try:
        return importlib.resources.files("openrlhf_rad.risk_profiles")
    except (ModuleNotFoundError, NotADirectoryError):
        # A clone that runs uninstalled, or by an older editable install, has the folder beside the package.
        return Path(__file__).parents[2] / "risk_profiles"
