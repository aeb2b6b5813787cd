"""The files of profiles, shipped ones by name, others by path, read in bounds; and the paths in them."""

from __future__ import annotations

import importlib.resources
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from openrlhf_rad.errors import Place, Problem, ProfileError, did_you_mean, shown
from openrlhf_rad.profile.yaml import MAX_CHARACTERS, Node

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
        named = str(Path(source).parent / name if source else Path(name))
        return Found(read_text(path, named), named, path.absolute().parent, os.path.realpath(path))
    shipped = shipped_profiles()
    if name not in shipped:
        hint = did_you_mean(name, shipped) or "or give the path of a .yaml file"
        said, rule = f"no risk profile is called {name}", f"shipped are {', '.join(shipped)}"
        raise ProfileError(Problem(None, said, "", rule, hint))
    text = _shipped_folder().joinpath(f"{name}.yaml").read_text(encoding="utf-8")
    return Found(text, f"{name}.yaml", Path.cwd(), f"shipped:{name}")


def read_text(path: Path, named: str) -> str:
    """The text of a regular file of profile size; nothing else is read, nor waited for.

    Args:
        named: the file as messages name it.

    Raises:
        ProfileError: a file that is missing, no regular file, too large, or not UTF-8.
    """
    try:
        return _read_bytes(path).decode("utf-8-sig")
    except FileNotFoundError:
        shipped = shipped_profiles()
        hint = did_you_mean(path.stem, shipped) or f"shipped are {', '.join(shipped)}"
        said, rule, fix = "there is no such file", "give a path or a shipped name", hint
    except UnicodeDecodeError as error:
        said, rule, fix = f"byte {error.start} is not UTF-8", "", "save the file as UTF-8"
    except _WrongFileError as error:
        said, rule, fix = *error.args, "check the path"
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        said, rule, fix = f"it cannot be read ({reason})", "", "check path and rights"
    raise ProfileError(Problem(Place(named), said, "", rule, fix))


class _WrongFileError(Exception):
    """A file that is no profile by its kind or size: what it is, and what a profile is."""


def _read_bytes(path: Path) -> bytes:
    """The file's bytes, at most _MAX_BYTES; a FIFO without a writer does not hold up the opening."""
    file = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))
    try:
        if not stat.S_ISREG(os.fstat(file).st_mode):
            raise _WrongFileError("it is not a regular file", "a profile is one")
        data = b""
        while len(data) <= _MAX_BYTES and (piece := os.read(file, _MAX_BYTES + 1 - len(data))):
            data += piece
    finally:
        os.close(file)
    if len(data) > _MAX_BYTES:
        raise _WrongFileError(f"the file has more than {_MAX_BYTES} bytes", "a profile has far fewer")
    return data


def _shipped_folder() -> Traversable:
    try:
        return importlib.resources.files("openrlhf_rad.risk_profiles")
    except (ModuleNotFoundError, NotADirectoryError):
        # A clone that runs uninstalled, or by an older editable install, has the folder beside the package.
        return Path(__file__).parents[2] / "risk_profiles"


#: Keys of an ensemble that list paths → the key that holds one alone.
_SEVERAL = {"models": "model", "functions": "function"}


def resolve_paths(root: Node, folder: Path) -> list[Problem]:
    """Make the paths of a profile absolute, in place, relative ones from a folder; what is no path at all.

    Other types are left for the checks to refuse.
    """
    entries = root.keys["constraints"].keys.values() if "constraints" in root.keys else ()
    costs = [owner.keys["cost"] for owner in (root, *entries) if "cost" in owner.keys]
    paths = [(cost, name) for cost in costs for name in ("model", "classifier", "function")]
    paths += [(cost.keys["classifier"], "model") for cost in costs if "classifier" in cost.keys]
    paths += [
        (cost.keys["judge"], name) for cost in costs if "judge" in cost.keys for name in ("rubric", "cache")
    ]
    paths += [(root.keys["reference"], "file")] if "reference" in root.keys else []
    named = [(section.keys.get(name), name) for section, name in paths]
    several = [
        (cost.keys["ensemble"], name) for cost in costs if "ensemble" in cost.keys for name in _SEVERAL
    ]
    for section, name in several:
        node = section.keys.get(name)
        listed = node.value if node is not None and isinstance(node.value, list) else [node]
        named += [(one, _SEVERAL[name]) for one in listed]
    problems = []
    for node, name in named:
        if node is None or not isinstance(node.value, str) or not node.value.strip():
            continue
        raw = node.value
        try:
            path = (folder / Path(raw).expanduser()).absolute()
            # A model may also be the name of one on a hub, such as org/name.
            if name not in ("model", "classifier") or raw.startswith((".", "/", "~")) or path.exists():
                node.value, node.column = str(path.resolve()), 0
        except (OSError, ValueError, RuntimeError) as error:
            rule = f"it must be a path on this machine ({error})"
            problems.append(Problem(node.place, node.key, shown(raw), rule, "correct it"))
    return problems
