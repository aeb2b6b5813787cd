"""Touch point 1: OpenRLHF imports ``flash_attn`` at load time, for packing, which needs a GPU anyway."""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, NoReturn

_NAMES = {
    "flash_attn": (),
    "flash_attn.bert_padding": ("index_first_axis", "pad_input", "rearrange", "unpad_input"),
    "flash_attn.utils": (),
    "flash_attn.utils.distributed": ("all_gather",),
}


def install() -> None:
    """Put importable stand-ins in place; each function says what to change when it is called."""
    for module_name, functions in _NAMES.items():
        if module_name in sys.modules:
            continue
        module = ModuleType(module_name, "Stand-in of the CPU backend of openrlhf_rad.")
        module.__spec__ = ModuleSpec(module_name, loader=None, is_package=not functions)
        module.__path__ = []
        for function in functions:
            setattr(module, function, _refusal(f"{module_name}.{function}"))
        sys.modules[module_name] = module


def _refusal(name: str) -> Any:
    def refuse(*_: object, **__: object) -> NoReturn:
        raise RuntimeError(
            f"{name} was called on a CPU; flash attention needs a GPU; leave out --ds.packing_samples, "
            "--train.dynamic_batch_enable and --ds.ring_attn_size"
        )

    return refuse
