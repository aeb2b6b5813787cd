"""What every process of a run is told before it does anything: here, and in Ray's workers on any machine.

Ray calls one ``worker_process_setup_hook`` in each worker. Every ``ray.init`` of the driver, OpenRLHF's or
the CPU backend's, is given :func:`setup`, which calls the hook that was there before.

Code that comes with a model runs only where it was asked for (``--rad.trust_remote_code``). OpenRLHF loads
every configuration, tokenizer and model with ``trust_remote_code=True``, so that a model's folder or
repository is a program. Without the flag the permission is taken back where it is used, whatever the callers
say.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import os
from collections.abc import Callable
from typing import Any, NoReturn

from openrlhf_rad.errors import ConfigError
from openrlhf_rad.files import keep_from_others
from openrlhf_rad.plugin import patches
from openrlhf_rad.plugin.arguments import TRUST

_HOOK = "worker_process_setup_hook"
#: What a worker must call besides: the hook that ``ray.init`` was given.
NEXT = "OPENRLHF_RAD_NEXT_SETUP_HOOK"

_settled = False


def prepare(trust_remote_code: bool) -> None:
    """Settle this process, and all workers of the Ray that it starts or joins; call it first."""
    if trust_remote_code:
        os.environ[TRUST] = "1"
    _settle()
    patches.apply([patches.Patch("ray:init", handing_on_setup, "every worker is to be told the same")])


def setup() -> None:
    """Ray calls it in each worker process, before anything else."""
    _settle()
    module, _, name = os.environ.get(NEXT, "").rpartition(".")
    if module:
        getattr(importlib.import_module(module), name)()


def trusted() -> bool:
    """Whether the environment asks for code that comes with models."""
    return os.environ.get(TRUST) == "1"


def _settle() -> None:
    """Safe to call twice, before or after the libraries are imported."""
    global _settled  # noqa: PLW0603 - one switch a process
    keep_from_others()
    if not _settled:
        _settled = True
        patches.apply(patches.every_process(trust_remote_code=trusted()))


def handing_on_setup(init: Callable[..., Any]) -> Callable[..., Any]:
    """``ray.init`` that gives its workers :func:`setup`, and the hook that it was given itself."""

    @functools.wraps(init)
    def initialise(*args: Any, **kwargs: Any) -> Any:
        environment = dict(kwargs.get("runtime_env") or {})
        variables = {
            **environment.get("env_vars", {}),
            NEXT: environment.get(_HOOK, ""),
            TRUST: "1" if trusted() else "0",
        }
        environment |= {_HOOK: f"{__name__}.setup", "env_vars": variables}
        return init(*args, **{**kwargs, "runtime_env": environment})

    return initialise


def never_trusting(resolve: Callable[..., bool]) -> Callable[..., bool]:
    """``resolve_trust_remote_code`` that says no, and refuses a model that cannot be loaded without."""
    signature = inspect.signature(resolve)

    def resolved(*args: Any, **kwargs: Any) -> bool:
        given = signature.bind(*args, **kwargs).arguments
        if given["has_remote_code"] and not given["has_local_code"]:
            _refuse(given["model_name"])
        return False

    return resolved


def refusing_code(_class: str, module_path: str, *_: Any, **__: Any) -> NoReturn:
    """In the place of ``get_class_in_module``."""
    _refuse(module_path)


def without_trust(post_init: Callable[[Any], None]) -> Callable[[Any], None]:
    """``EngineArgs.__post_init__`` that takes the permission back."""

    @functools.wraps(post_init)
    def settled(arguments: Any) -> None:
        arguments.trust_remote_code = False
        post_init(arguments)

    return settled


def _refuse(model: str) -> NoReturn:
    raise ConfigError(
        f"{model} is a model with Python code of its own, and transformers has no class for it; to load it is"
        " to run that code with your rights; read the code, then say --rad.trust_remote_code (rad eval:"
        " --trust-remote-code), or take a model that transformers knows"
    )


class KernelBaton:
    """In the place of ``torch.utils.file_baton.FileBaton``: it falls to the next when its owner dies."""

    def __init__(self, lock_file_path: str) -> None:
        from filelock import FileLock  # noqa: PLC0415 - torch brings it; rad eval's scorers may have neither

        self._lock = FileLock(f"{lock_file_path}.held")

    def try_acquire(self) -> bool:
        """Whether this process holds it now."""
        from filelock import Timeout  # noqa: PLC0415

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
