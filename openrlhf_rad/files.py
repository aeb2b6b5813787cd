"""Files that survive a kill and a full disk: whole files by rename, logs by whole lines."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from openrlhf_rad.errors import ConfigError, EnvironmentProblem


def keep_from_others() -> None:
    """From now on this process, and what it starts, makes nothing that group or others may write to."""
    os.umask(os.umask(0o077) | 0o022)


def cache_root() -> Path:
    """``$OPENRLHF_RAD_CACHE``, else ``~/.cache/openrlhf-rad``: what is prepared once for all runs."""
    configured = os.environ.get("OPENRLHF_RAD_CACHE")
    root = Path(configured) if configured else Path.home() / ".cache" / "openrlhf-rad"
    root = root.expanduser().absolute()
    root.mkdir(parents=True, exist_ok=True)
    return root


def own_folder(path: Path) -> None:
    """Make a folder with its parents, or take one, such that nobody but its owner may write to it."""
    path.mkdir(mode=0o755, parents=True, exist_ok=True)
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o022:
        path.chmod(mode & ~0o022)


def _for_the_owner(path: str, flags: int) -> int:
    """An opener: a new file may be written to by its owner alone, and be read as the umask says."""
    return os.open(path, flags, 0o644)


def partial_name(path: Path) -> Path:
    """Where a file grows before it takes its name; fixed, so that a killed run leaves one at most."""
    return path.with_name(f".{path.name}.partial")


def write_atomically(path: Path, content: str | bytes) -> None:
    """Replace a file's whole content: a reader sees the old file or the new one, never a part.

    Raises:
        EnvironmentProblem: the disk is full; the old file stands.
    """
    data = content.encode(errors="replace") if isinstance(content, str) else content
    partial = partial_name(path)
    with explained(path, "an earlier version of it, if there was one, is intact"):
        try:
            with open(partial, "wb", buffering=0, opener=_for_the_owner) as file:
                _write_all(file.fileno(), data)
                os.fsync(file.fileno())
            os.replace(partial, path)
        except OSError:
            partial.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)


def write_named(path: Path, content: str | bytes) -> None:
    """:func:`write_atomically` of a path that a user has named. Raises ConfigError for one that cannot be."""
    try:
        write_atomically(path, content)
    except OSError as error:
        raise ConfigError(f"{path}: it cannot be written ({error.strerror}); check the path") from None


def append_lines(path: Path, lines: Iterable[str]) -> None:
    """Add whole lines to a log and hand them to the system, so that a kill loses none that were added.

    A torn last line, left by a kill in the midst of writing, is cut off first. Lines that are made when they
    are asked for never stand in memory all at once.

    Raises:
        EnvironmentProblem: the disk is full; the lines before stand, the new ones are not written. Whatever
            making a line raises: likewise.
    """
    with (
        explained(path, "the lines written before are intact"),
        open(path, "ab+", buffering=0, opener=_for_the_owner) as file,
    ):
        descriptor = file.fileno()
        end = _end_of_whole_lines(path)
        if end < os.fstat(descriptor).st_size:
            os.ftruncate(descriptor, end)
        try:
            for block in _blocks(lines):
                _write_all(descriptor, block)
        except BaseException:
            with contextlib.suppress(OSError):
                os.ftruncate(descriptor, end)
            raise


def _blocks(lines: Iterable[str], size: int = 2**20) -> Iterator[bytes]:
    """Whole lines, encoded, some ``size`` bytes at a time."""
    block = bytearray()
    for line in lines:
        block += line.encode(errors="replace")
        if len(block) >= size:
            yield bytes(block)
            block.clear()
    yield bytes(block)


def cut_lines(path: Path, kept: Callable[[str], bool]) -> None:
    """Cut a log off behind its last line that is kept and whole; read from its end, as far as need be."""
    end = _end_of_whole_lines(path)
    while end > 0:
        start = _end_of_whole_lines(path, end - 1)
        with open(path, "rb") as file:
            file.seek(start)
            line = file.read(end - start)
        if kept(line.decode(errors="replace")):
            break
        end = start
    with open(path, "rb+") as file:
        file.truncate(end)
        os.fsync(file.fileno())


@contextlib.contextmanager
def explained(path: Path, intact: str) -> Iterator[None]:
    """Turn a full disk or a missing right into an EnvironmentProblem that says what was not written."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            reason = "no space is left for this user" if error.errno == errno.EDQUOT else "the disk is full"
            free = shutil.disk_usage(path.parent).free
            raise EnvironmentProblem(
                f"{path}: it could not be written, {reason} ({free / 1e6:,.1f} MB free); {intact};"
                " free some space and run the command again"
            ) from error
        if isinstance(error, PermissionError) or error.errno == errno.EROFS:
            raise EnvironmentProblem(
                f"{path}: it could not be written ({error.strerror}); choose a folder that you may write to"
            ) from error
        raise


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _end_of_whole_lines(path: Path, before: int | None = None, block: int = 65536) -> int:
    """The offset after the last line break, or the last one before ``before``; read from the end, cheaply."""
    with open(path, "rb") as file:
        position = os.fstat(file.fileno()).st_size if before is None else before
        while position > 0:
            start = max(0, position - block)
            file.seek(start)
            place = file.read(position - start).rfind(b"\n")
            if place >= 0:
                return start + place + 1
            position = start
    return 0


def flush(path: Path) -> None:
    """Bring a file, or the names in a folder, to the disk, so that they outlast a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(folder: Path) -> None:
    """Make a rename last through a power cut, where the file system can."""
    with contextlib.suppress(OSError):
        flush(folder)
