"""Raises in one function of the stack, in whatever process of a run calls it; Python imports this by itself.

``RAD_TEST_FAULT`` is JSON: ``at`` ("module:Class.method"), ``call`` (which one in a process, from 1), and who
raises: ``rank`` of its model, ``engine`` (vLLM's own process or the others). When it has raised, the file
``stamp`` is there. Nothing happens without the variable.
"""

import json
import multiprocessing
import os
from pathlib import Path

FAULT = json.loads(os.environ.get("RAD_TEST_FAULT", "null"))


def inject(module: object) -> None:
    """Replace the function; of a Ray actor, that of its class."""
    *path, name = FAULT["at"].partition(":")[2].split(".")
    owner = module
    for part in path:
        owner = getattr(owner, part)
        owner = owner.__ray_metadata__.modified_class if hasattr(owner, "__ray_metadata__") else owner
    original, calls = getattr(owner, name), 0

    def raising(*args: object, **kwargs: object) -> object:
        nonlocal calls
        calls += concerned()
        if concerned() and calls == FAULT.get("call", 1):
            Path(FAULT["stamp"]).touch()
            raise ValueError(f"injected into {name}")
        return original(*args, **kwargs)

    setattr(owner, name, raising)


def concerned() -> bool:
    """Whether this process is one of those that shall raise."""
    rank, engine = FAULT.get("rank"), FAULT.get("engine")
    return rank in (None, os.environ.get("RANK")) and engine in (
        None,
        multiprocessing.parent_process() is not None,
    )


if FAULT:
    import wrapt

    wrapt.register_post_import_hook(inject, FAULT["at"].partition(":")[0])
