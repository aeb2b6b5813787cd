"""LoRA adapters on their way to vLLM: merged into the weights that they adapt, under the names of the model.

OpenRLHF 0.11.2 sends the parameters of the PEFT model as they are (``base_model.model.….lora_A.default.…``),
and vLLM, which has no such names, refuses the first. Here each adapted weight goes out as W + (α/r)·B·A, made
when it is sent and never written back: the frozen weights stay exactly as they were, and there is no second
copy of the model.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import torch
from peft import PeftModel
from peft.tuners.lora import LoraLayer

_BASE = ".base_layer."


@contextmanager
def merged_at_sync(trainer: Any) -> Iterator[None]:
    """Let the weight sync of OpenRLHF's ``ActorPPOTrainer`` see merged weights; nothing without adapters."""
    actor = trainer.actor
    model = actor.model.module
    if not isinstance(model, PeftModel):
        yield
        return
    view = SimpleNamespace(named_parameters=lambda: iter(merged_parameters(model)))
    is_vlm = getattr(actor, "is_vlm", False)
    trainer.actor = SimpleNamespace(model=SimpleNamespace(module=view), is_vlm=is_vlm)
    try:
        yield
    finally:
        trainer.actor = actor


def merged_parameters(model: PeftModel) -> list[tuple[str, Any]]:
    """The model's parameters without adapters, by its own names; adapted ones as :class:`MergedWeight`."""
    base = model.get_base_model()
    layers = {name: module for name, module in base.named_modules() if isinstance(module, LoraLayer)}
    found: list[tuple[str, Any]] = []
    for name, parameter in base.named_parameters():
        owner, within, rest = name.rpartition(_BASE)
        if within and owner in layers:
            merges = rest == "weight"
            found.append((f"{owner}.{rest}", MergedWeight(layers[owner]) if merges else parameter))
        elif not _of_an_adapter(name, layers):
            found.append((name, parameter))
    return found


def _of_an_adapter(name: str, layers: dict[str, LoraLayer]) -> bool:
    """Whether a parameter lies under an adapted layer, in one of the parts that PEFT has added to it."""
    parts = name.split(".")
    owners = (place for place in range(1, len(parts)) if ".".join(parts[:place]) in layers)
    return any(parts[place] in layers[".".join(parts[:place])].adapter_layer_names for place in owners)


class MergedWeight:
    """One adapted weight as OpenRLHF's weight sync reads a parameter: shape, type, and data when sent."""

    requires_grad = True  # it changes with its adapter

    def __init__(self, layer: Any) -> None:
        self._layer = layer
        self._weight: torch.Tensor = layer.get_base_layer().weight
        self.shape = self._weight.shape
        self.dtype = self._weight.dtype

    @property
    def data(self) -> torch.Tensor:
        """W + (α/r)·B·A in float32, rounded once to the type of W."""
        with torch.no_grad():
            merged = self._weight.detach().float()
            for adapter in self._layer.active_adapters:
                merged = merged + self._layer.get_delta_weight(adapter).float()
            return merged.to(self.dtype)
