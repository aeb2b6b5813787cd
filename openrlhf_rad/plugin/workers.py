"""What every process of a run is told before it does anything: here, and in Ray's workers on any machine.

Ray calls one ``worker_process_setup_hook`` in each worker. Every ``ray.init`` of the driver, OpenRLHF's or
the CPU backend's, is given :func:`setup`, which calls the hook that was there before.

Code that comes with a model runs only where it was asked for (``--rad.trust_remote_code``). OpenRLHF loads
every configuration, tokenizer and model with ``trust_remote_code=True``, so that a model's folder or
repository is a program. Without the flag the permission is taken back where it is used, whatever the callers
say.
"""

from __future__ import annotations

import importlib
import inspect
import os
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any, NoReturn

import wrapt

from openrlhf_rad.errors import ConfigError
from openrlhf_rad.files import keep_from_others
from openrlhf_rad.plugin.arguments import TRUST

_HOOK = "worker_process_setup_hook"
#: What a worker must call besides: the hook that ``ray.init`` was given.
NEXT = "OPENRLHF_RAD_NEXT_SETUP_HOOK"


def prepare(trust_remote_code: bool) -> None:
    """Settle this process, and all workers of the Ray that it starts or joins; call it first."""
    if trust_remote_code:
        os.environ[TRUST] = "1"
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
    lock_builds()
    if not trusted():
        deny()


def _hand_on(ray: Any) -> None:
    def init(wrapped: Callable[..., Any], _: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        environment = dict(kwargs.get("runtime_env") or {})
        variables = {
            **environment.get("env_vars", {}),
            NEXT: environment.get(_HOOK, ""),
            TRUST: "1" if trusted() else "0",
        }
        environment |= {_HOOK: f"{__name__}.setup", "env_vars": variables}
        return wrapped(*args, **{**kwargs, "runtime_env": environment})

    wrapt.wrap_function_wrapper(ray, "init", init)


_denied = False


def trusted() -> bool:
    """Whether the environment asks for code that comes with models."""
    return os.environ.get(TRUST) == "1"


def deny() -> None:
    """Refuse such code in this process. Safe to call twice, before or after the libraries are imported."""
    global _denied  # noqa: PLW0603 - one switch a process
    if _denied:
        return
    _denied = True
    wrapt.register_post_import_hook(_guard_transformers, "transformers.dynamic_module_utils")
    wrapt.register_post_import_hook(_guard_vllm, "vllm.engine.arg_utils")


def _guard_transformers(module: Any) -> None:
    resolve = module.resolve_trust_remote_code
    signature = inspect.signature(resolve)

    def resolved(*args: Any, **kwargs: Any) -> bool:
        given = signature.bind(*args, **kwargs).arguments
        if given["has_remote_code"] and not given["has_local_code"]:
            _refuse(given["model_name"])
        return False

    def executed(_class: str, module_path: str, *_: Any, **__: Any) -> NoReturn:
        _refuse(module_path)

    _replace(resolve, resolved)
    # All such code passes here; nothing should come so far.
    _replace(module.get_class_in_module, executed)


def _replace(old: Any, new: Any) -> None:
    """Put new wherever a module holds old under its name; modules imported later find new."""
    name: str = old.__name__
    for module in list(sys.modules.values()):
        if isinstance(module, ModuleType) and vars(module).get(name) is old:
            setattr(module, name, new)


def _guard_vllm(module: Any) -> None:
    def settled(wrapped: Callable[[], None], instance: Any, _: Any, __: Any) -> None:
        instance.trust_remote_code = False
        wrapped()

    wrapt.wrap_function_wrapper(module, "EngineArgs.__post_init__", settled)


def _refuse(model: str) -> NoReturn:
    raise ConfigError(
        f"{model} is a model with Python code of its own, and transformers has no class for it; to load it is"
        " to run that code with your rights; read the code, then say --rad.trust_remote_code (rad eval:"
        " --trust-remote-code), or take a model that transformers knows"
    )


_BUILDS = "torch.utils.cpp_extension"


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


def lock_builds() -> None:
    """Give torch the other lock in this process, now or when it needs one."""

    def replace(module: ModuleType) -> None:
        module.FileBaton = KernelBaton  # type: ignore[attr-defined]

    wrapt.register_post_import_hook(replace, _BUILDS)
