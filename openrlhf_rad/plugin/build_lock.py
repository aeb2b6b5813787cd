"""The lock under which torch compiles DeepSpeed's operators: the kernel holds it, not a file's being there.

torch's own ``FileBaton`` is a file that its owner removes. A process that is killed while it builds, or looks
whether it must, leaves the file, and every later process on that machine waits for ever.
"""

from __future__ import annotations

from types import ModuleType

import wrapt
from filelock import FileLock, Timeout

_MODULE = "torch.utils.cpp_extension"


class KernelBaton:
    """In the place of ``torch.utils.file_baton.FileBaton``: it falls to the next when its owner dies."""

    def __init__(self, lock_file_path: str) -> None:
        self._lock = FileLock(f"{lock_file_path}.held")

    def try_acquire(self) -> bool:
        """Whether this process holds it now."""
        try:
            self._lock.acquire(blocking=False)
        except Timeout:
            return False
        return True

    def wait(self) -> None:
        """Until no other process holds it."""
        with self._lock:
            pass

    def release(self) -> None:
        """Leave it to the next."""
        self._lock.release()


def prepare() -> None:
    """Give torch the other lock in this process, now or when it needs one."""

    def replace(module: ModuleType) -> None:
        module.FileBaton = KernelBaton  # type: ignore[attr-defined]

    wrapt.register_post_import_hook(replace, _MODULE)
