"""What every process of a run is told before it does anything: here, and in Ray's workers on any machine.

Ray calls one ``worker_process_setup_hook`` in each worker. Every ``ray.init`` of the driver, OpenRLHF's or
the CPU backend's, is given :func:`setup`, which calls the hook that was there before.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from typing import Any

import wrapt

from openrlhf_rad.files import keep_from_others
from openrlhf_rad.plugin import build_lock, remote_code

_HOOK = "worker_process_setup_hook"
#: What a worker must call besides: the hook that ``ray.init`` was given.
NEXT = "OPENRLHF_RAD_NEXT_SETUP_HOOK"


def prepare(trust_remote_code: bool) -> None:
    """Settle this process, and all workers of the Ray that it starts or joins; call it first."""
    if trust_remote_code:
        os.environ[remote_code.VARIABLE] = "1"
    _settle()
    wrapt.register_post_import_hook(_hand_on, "ray")


def setup() -> None:
    """Ray calls it in each worker process, before anything else."""
    _settle()
    module, _, name = os.environ.get(NEXT, "").rpartition(".")
    if module:
        getattr(importlib.import_module(module), name)()


def _settle() -> None:
    keep_from_others()
    build_lock.prepare()
    if not remote_code.trusted():
        remote_code.deny()


def _hand_on(ray: Any) -> None:
    def init(wrapped: Callable[..., Any], _: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        environment = dict(kwargs.get("runtime_env") or {})
        variables = {
            **environment.get("env_vars", {}),
            NEXT: environment.get(_HOOK, ""),
            remote_code.VARIABLE: "1" if remote_code.trusted() else "0",
        }
        environment |= {_HOOK: f"{__name__}.setup", "env_vars": variables}
        return wrapped(*args, **{**kwargs, "runtime_env": environment})

    wrapt.wrap_function_wrapper(ray, "init", init)
