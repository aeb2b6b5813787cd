"""Chats as rollouts have them, and what a language model's lower layers make of them."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from openrlhf_rad.errors import ConfigError
from openrlhf_rad.processor import has_gpu, torch_dtype

#: Architectures whose layers :mod:`openrlhf_rad.fitting.pooling` can add one to.
ARCHITECTURES = ("llama", "mistral", "qwen2", "qwen3")


def untold(_share: float) -> None:
    """Nobody asks how far it is."""


@dataclass(frozen=True)
class Reading:
    """How an answered prompt is read.

    Attributes:
        template: the prompt as it is sent, ``{}`` for its words.
        prompt_tokens: a longer prompt keeps its first so many.
        cuts: an answer is cut after a number of tokens between these, drawn; equal ones cut all alike.
    """

    template: str
    prompt_tokens: int
    cuts: tuple[int, int]

    def encode(
        self, tokenizer: Any, prompts: Sequence[str], answers: Sequence[str], seed: int = 0
    ) -> list[list[int]]:
        """Token ids of chats; an answer that is not cut ends with the end token, as a policy's does."""
        rng = random.Random(seed)
        end, end_id = tokenizer.eos_token, tokenizer.eos_token_id
        head, tail = (
            tokenizer(part, add_special_tokens=False)["input_ids"] for part in self.template.split("{}")
        )
        out = []
        for prompt, answer in zip(prompts, answers, strict=True):
            asked = tokenizer(prompt, add_special_tokens=False)["input_ids"][: self.prompt_tokens]
            cut = rng.randint(*self.cuts)
            said = tokenizer(answer.replace(end, ""), add_special_tokens=False)["input_ids"]
            said = said[:cut] if len(said) >= cut else [*said, end_id]
            out.append([*head, *asked, *tail, *said])
        return out


def depth(model: Path | str, layers: int | None = None) -> int:
    """How many layers to read: as asked for, else a quarter of them. No weight is loaded.

    Raises:
        ConfigError: there is no such model, it is of another architecture, or has not so many layers.
    """
    try:
        config = AutoConfig.from_pretrained(model)
    except (OSError, ValueError) as cause:
        reason = (str(cause).strip().splitlines() or [type(cause).__name__])[0]
        raise ConfigError(f"--model {model}: no model loads from there ({reason}); check the path") from cause
    held = getattr(config, "num_hidden_layers", 0)
    if config.model_type not in ARCHITECTURES:
        raise ConfigError(
            f"--model {model} is of the architecture {config.model_type}; a cost can be fitted on"
            f" {', '.join(ARCHITECTURES)}; take one of these, or train the whole model by OpenRLHF's train_rm"
        )
    if layers is not None and layers > held:
        raise ConfigError(f"--layers is {layers}; {model} has {held}; a quarter of them is the default")
    return layers or max(1, round(held / 4))


def truncated_backbone(model: Path | str, layers: int) -> Any:
    """The first ``layers`` layers of a language model, and a final norm of weight 1."""
    dtype = torch.bfloat16 if has_gpu() else torch_dtype()
    backbone = AutoModelForCausalLM.from_pretrained(model, dtype=dtype).model
    backbone.layers = backbone.layers[:layers]
    backbone.config.num_hidden_layers = layers
    if getattr(backbone.config, "layer_types", None):
        backbone.config.layer_types = backbone.config.layer_types[:layers]
    torch.nn.init.ones_(backbone.norm.weight)
    return backbone.to("cuda" if has_gpu() else "cpu").eval()


@torch.inference_mode()
def mean_states(
    backbone: Any,
    chats: Sequence[Sequence[int]],
    batch: int = 32,
    done: Callable[[float], None] = untold,
) -> torch.Tensor:
    """Mean over tokens (n, hidden) of the backbone's normed output for each chat, float32."""
    out = torch.zeros(len(chats), backbone.config.hidden_size)
    tokens = 0
    for index, ids, mask in batches(chats, batch):
        done(tokens / sum(map(len, chats)))
        tokens += int(mask.sum())
        ids, mask = ids.to(backbone.device), mask.to(backbone.device)  # noqa: PLW2901
        hidden = backbone(ids, attention_mask=mask, use_cache=False).last_hidden_state.float()
        out[index] = ((hidden * mask.unsqueeze(-1)).sum(1) / mask.sum(1, keepdim=True)).cpu()
    return out


@torch.inference_mode()
def last_scores(
    backbone: Any, head: torch.nn.Linear, chats: Sequence[Sequence[int]], batch: int = 32
) -> torch.Tensor:
    """Scores (n,) of a reward model as OpenRLHF reads them: the head at the last token."""
    out = torch.zeros(len(chats))
    weight = head.weight.to(backbone.device, backbone.dtype)
    for index, ids, mask in batches(chats, batch):
        ids, mask = ids.to(backbone.device), mask.to(backbone.device)  # noqa: PLW2901
        hidden = backbone(ids, attention_mask=mask, use_cache=False).last_hidden_state
        last = hidden[torch.arange(len(index)), mask.sum(1) - 1]
        out[index] = (last @ weight.T).squeeze(-1).float().cpu()
    return out


def batches(
    chats: Sequence[Sequence[int]], size: int
) -> Iterator[tuple[list[int], torch.Tensor, torch.Tensor]]:
    """Indices, padded ids and mask of chats, sorted by length and padded on the right."""
    order = sorted(range(len(chats)), key=lambda i: len(chats[i]))
    for start in range(0, len(order), size):
        index = order[start : start + size]
        longest = max(len(chats[i]) for i in index)
        ids = torch.zeros((len(index), longest), dtype=torch.long)
        mask = torch.zeros_like(ids)
        for row, i in enumerate(index):
            ids[row, : len(chats[i])] = torch.tensor(chats[i])
            mask[row, : len(chats[i])] = 1
        yield index, ids, mask
