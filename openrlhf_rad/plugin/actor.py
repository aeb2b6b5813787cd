"""The models' actors: the paper's loss, LoRA merged at the sync, a seed a step, whole checkpoints.

Adapters are merged on their way to vLLM. OpenRLHF 0.11.2 sends the parameters of the PEFT model as they are
(``base_model.model.….lora_A.default.…``), and vLLM, which has no such names, refuses the first. Here each
adapted weight goes out as W + (α/r)·B·A under the model's own name, made when it is sent and never written
back: the frozen weights stay exactly as they were, and there is no second copy of the model.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import torch
from openrlhf.trainer.ray import launcher, ppo_actor, ppo_critic
from openrlhf.utils.distributed_util import torch_dist_barrier_and_cuda_sync
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from torch import nn

from openrlhf_rad import processor
from openrlhf_rad.errors import RunError
from openrlhf_rad.files import write_atomically
from openrlhf_rad.plugin.attach import plain_class
from openrlhf_rad.plugin.costs.loading import no_new_weights
from openrlhf_rad.plugin.resume import reseed, seed_of
from openrlhf_rad.plugin.vigil import telling
from openrlhf_rad.runs import checkpoints


class ReinforceLoss(nn.Module):
    """−Â · ∇log π, by OpenRLHF's own policy loss at ratio 1.

    The importance ratio is taken against the policy itself, π_θ / stop-gradient(π_θ), so its value is 1, no
    clipping acts, and its gradient is ∇log π_θ. Masks, aggregation over data-parallel ranks and the
    correction for the rollout engine stay OpenRLHF's. Right for one update a rollout, which
    :mod:`openrlhf_rad.plugin.compatibility` checks.

    Args:
        policy_loss: OpenRLHF's ``PolicyLoss`` as configured by the command line.
    """

    def __init__(self, policy_loss: nn.Module) -> None:
        super().__init__()
        self.policy_loss = policy_loss

    def forward(self, log_probs: torch.Tensor, old_log_probs: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        """The signature of ``PolicyLoss.forward``; the third result is KL(old ‖ new) as OpenRLHF logs it."""
        # What follows the third is passed on: its number differs between versions.
        loss, clip_ratio, _, *rest = self.policy_loss(log_probs, log_probs.detach(), *args, **kwargs)
        mask = kwargs["action_mask"]
        drift = ((old_log_probs - log_probs.detach()) * mask).sum() / mask.sum().clamp(min=1)
        return loss, clip_ratio, drift, *rest


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
    parameters: list[tuple[str, Any]] = []
    for name, parameter in base.named_parameters():
        owner, within, rest = name.rpartition(_BASE)
        if within and owner in layers:
            merges = rest == "weight"
            parameters.append((f"{owner}.{rest}", MergedWeight(layers[owner]) if merges else parameter))
        elif not _of_an_adapter(name, layers):
            parameters.append((name, parameter))
    return parameters


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


class Resumable:
    """What a run must be able to resume from, for an actor of OpenRLHF's that trains a model.

    Args:
        profile: what identifies the risk profile, for the seal of a checkpoint; the rest is OpenRLHF's.

    Attributes:
        group: the model's folder of checkpoints.
    """

    group: ClassVar[str]
    strategy: Any
    disable_ds_ckpt: bool

    def __init__(self, profile: str, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.profile = profile

    def reseed(self, step: int) -> None:
        """Seed the order of micro-batches, dropout and the like; each rank has its own."""
        rank = self.strategy.get_rank()
        reseed(seed_of(self.strategy.args.train.seed, self.group, step, rank))

    def save_checkpoint(self, tag: str, *args: Any, **kwargs: Any) -> None:
        """As OpenRLHF's, and sealed once all files of all ranks are on the disk."""
        save = super().save_checkpoint  # type: ignore[misc]
        if self.disable_ds_ckpt:
            save(tag, *args, **kwargs)
            return
        folder = Path(self.strategy.args.ckpt.path) / self.group
        first = self.strategy.is_rank_0()
        if first:
            checkpoints.begin(folder, tag)
        save(tag, *args, **kwargs)
        checkpoints.flush_all(folder / tag)
        torch_dist_barrier_and_cuda_sync()
        if first:
            checkpoints.seal(folder, tag, self.profile, os.environ.get(processor.VARIABLE, ""))
        torch_dist_barrier_and_cuda_sync()


@telling
class PolicyActor(Resumable, plain_class(ppo_actor, "PolicyModelActor")):  # type: ignore[misc]
    """OpenRLHF's policy actor, resumable."""

    group = checkpoints.GROUPS[0]
    card: tuple[str, str] | None = None

    def load_weights(self, tag: str) -> None:
        """Take the model of a checkpoint, to be sampled from or exported; the optimizer stays as it is."""
        folder = Path(self.strategy.args.ckpt.path) / self.group
        found, _ = self.strategy.load_ckpt(
            self.actor.model,
            str(folder),
            tag=tag,
            load_optimizer_states=False,
            load_lr_scheduler_states=False,
            load_module_only=True,
        )
        if found is None:
            raise RunError(f"{folder / tag} cannot be loaded; the log says why")

    def name_model(self, name: str, card: str) -> None:
        """What ``model/`` will be called, and the notice that it will carry."""
        self.card = name, card

    def save_model(self) -> None:
        """Export as OpenRLHF does, with the name and the notice."""
        super().save_model()
        out = Path(self.strategy.args.ckpt.output_dir)
        if self.card is None or not self.strategy.is_rank_0():
            return
        name, card = self.card
        write_atomically(out / "README.md", card)
        config = out / "config.json"
        if config.is_file():  # adapters have none
            held = {**json.loads(config.read_text(encoding="utf-8")), "_name_or_path": name}
            write_atomically(config, json.dumps(held, indent=2) + "\n")

    def broadcast_to_vllm(self) -> None:
        """Hand the weights to the engines; adapters go out merged into the weights that they adapt."""
        with merged_at_sync(self.trainer):
            super().broadcast_to_vllm()


@telling
class ReinforcePolicyActor(PolicyActor):
    """The policy actor, trained by :class:`~openrlhf_rad.plugin.actor.ReinforceLoss`."""

    def init_model_from_pretrained(self, *args: Any, **kwargs: Any) -> None:
        """Build the model and its trainer as OpenRLHF does, then replace the loss."""
        super().init_model_from_pretrained(*args, **kwargs)
        self.trainer.actor_loss_fn = ReinforceLoss(self.trainer.actor_loss_fn)


@telling
class CriticActor(Resumable, plain_class(ppo_critic, "CriticModelActor")):  # type: ignore[misc]
    """OpenRLHF's critic, resumable."""

    group = checkpoints.GROUPS[1]

    def init_model_from_pretrained(self, strategy: Any, pretrain: str, *args: Any, **kwargs: Any) -> None:
        """Build and load the model as OpenRLHF does.

        Of the policy's weights it learns a head of its own; any other model must have one.
        """
        settings = strategy.args
        head = (settings.ds.value_head_prefix,) if pretrain == settings.actor.model_name_or_path else ()
        with no_new_weights(pretrain, learnt=head):
            super().init_model_from_pretrained(strategy, pretrain, *args, **kwargs)


@telling
class ReferenceActor(plain_class(launcher, "ReferenceModelActor")):  # type: ignore[misc]
    """OpenRLHF's reference model."""
