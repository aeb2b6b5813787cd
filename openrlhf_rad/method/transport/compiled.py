"""`compiled`: numba's njit, with the machine code kept on disk.

Compiling takes seconds, so the code is cached beside the module or, where that folder is read-only, in the
user's cache folder; later processes (every Ray worker, every later run) load it in milliseconds. Only modules
of the linear solver import this one, for numba takes part of a second to load.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

Function = TypeVar("Function", bound=Callable[..., Any])

# Division by zero gives inf, as in numpy; products and sums may fuse, but are not reordered.
_OPTIONS: dict[str, Any] = {"error_model": "numpy", "fastmath": {"contract"}, "nogil": True}


def compiled(function: Function) -> Function:
    """The function, compiled at its first call or loaded from the cache."""
    try:
        return cast(Function, numba.njit(cache=True, **_OPTIONS)(function))
    except RuntimeError:  # no folder to write to: compile in each process
        return cast(Function, numba.njit(**_OPTIONS)(function))
