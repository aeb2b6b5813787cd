"""Code that comes with a model runs only where it was asked for: ``--rad.trust_remote_code``.

OpenRLHF loads every configuration, tokenizer and model with ``trust_remote_code=True``, so that a model's
folder or repository is a program. Without the flag this module takes the permission back where it is used,
whatever the callers say; :mod:`openrlhf_rad.plugin.workers` calls it in the driver and in every worker:

======================================================  ====================================================
``transformers.dynamic_module_utils``                   a class that comes as code is refused by name; where
                                                        transformers has one of its own, that is taken
``vllm.engine.arg_utils.EngineArgs.trust_remote_code``  False, for vLLM's own processes, which obey it
======================================================  ====================================================
"""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any, NoReturn

import wrapt

from openrlhf_rad.errors import ConfigError

#: Set to 1 it is the flag, for processes that take none; see :func:`trusted`.
VARIABLE = "OPENRLHF_RAD_TRUST_REMOTE_CODE"

_denied = False


def trusted() -> bool:
    """Whether the environment asks for code that comes with models."""
    return os.environ.get(VARIABLE) == "1"


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
