"""What the default job reads from SmolLM2: sampled answers, and hidden states of its lower layers."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from openrlhf_rad.jobs.chat import END, TEMPLATE
from openrlhf_rad.jobs.policy import END_ID, load_tokenizer
from openrlhf_rad.processor import torch_dtype

PROMPT_TOKENS = 48
CUTS = (24, 48)


def _untold(_share: float) -> None:
    """Nobody asks how far it is."""


@torch.inference_mode()
def sample_answers(  # noqa: PLR0917
    policy: Path,
    prompts: Sequence[str],
    tokens: int = 32,
    seed: int = 0,
    temperature: float = 1.0,
    done: Callable[[float], None] = _untold,
) -> list[str]:
    """One answer to each prompt, up to ``tokens`` new tokens, without markup; ``done`` is told the share."""
    tokenizer = load_tokenizer(policy)
    model: Any = AutoModelForCausalLM.from_pretrained(policy, dtype=torch_dtype())
    torch.manual_seed(seed)
    answers = [""] * len(prompts)
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    for start in range(0, len(order), 32):
        done(start / len(order))
        index = order[start : start + 32]
        texts = [TEMPLATE.format(prompts[i]) for i in index]
        inputs = tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=False)
        out = model.generate(
            **inputs, max_new_tokens=tokens, do_sample=True, temperature=temperature, top_k=0, top_p=1.0
        )
        for i, text in zip(
            index, tokenizer.batch_decode(out[:, inputs["input_ids"].shape[1] :]), strict=True
        ):
            answers[i] = text.split("<|", 1)[0].strip()
    return answers


def encode(tokenizer: Any, prompts: Sequence[str], answers: Sequence[str], seed: int = 0) -> list[list[int]]:
    """Token ids of chats as rollouts have them.

    The answer is cut after 24 to 48 tokens, drawn by ``seed``, or ends with the end token if it is shorter;
    a long prompt keeps its first 48 tokens.
    """
    rng = random.Random(seed)
    head, tail = (tokenizer(part, add_special_tokens=False)["input_ids"] for part in TEMPLATE.split("{}"))
    out = []
    for prompt, answer in zip(prompts, answers, strict=True):
        asked = tokenizer(prompt, add_special_tokens=False)["input_ids"][:PROMPT_TOKENS]
        cut = rng.randint(*CUTS)
        said = tokenizer(answer.replace(END, ""), add_special_tokens=False)["input_ids"]
        said = said[:cut] if len(said) >= cut else [*said, END_ID]
        out.append([*head, *asked, *tail, *said])
    return out


def truncated_backbone(policy: Path, layers: int) -> Any:
    """The first ``layers`` layers of the policy, and a final norm of weight 1."""
    model = AutoModelForCausalLM.from_pretrained(policy, dtype=torch_dtype()).model
    model.layers = model.layers[:layers]
    model.config.num_hidden_layers = layers
    torch.nn.init.ones_(model.norm.weight)
    return model.eval()


@torch.inference_mode()
def mean_states(
    backbone: Any,
    chats: Sequence[Sequence[int]],
    batch: int = 32,
    done: Callable[[float], None] = _untold,
) -> torch.Tensor:
    """Mean over tokens (n, hidden) of the backbone's normed output for each chat, float32."""
    out = torch.zeros(len(chats), backbone.config.hidden_size)
    tokens = 0
    for index, ids, mask in batches(chats, batch):
        done(tokens / sum(map(len, chats)))
        tokens += int(mask.sum())
        hidden = backbone(ids, attention_mask=mask, use_cache=False).last_hidden_state.float()
        out[index] = (hidden * mask.unsqueeze(-1)).sum(1) / mask.sum(1, keepdim=True)
    return out


@torch.inference_mode()
def last_scores(
    backbone: Any, head: torch.nn.Linear, chats: Sequence[Sequence[int]], batch: int = 32
) -> torch.Tensor:
    """Scores (n,) of a reward model as OpenRLHF reads them: the head at the last token."""
    out = torch.zeros(len(chats))
    weight = head.weight.to(backbone.dtype)
    for index, ids, mask in batches(chats, batch):
        hidden = backbone(ids, attention_mask=mask, use_cache=False).last_hidden_state
        last = hidden[torch.arange(len(index)), mask.sum(1) - 1]
        out[index] = (last @ weight.T).squeeze(-1).float()
    return out


def batches(
    chats: Sequence[Sequence[int]], size: int
) -> Iterator[tuple[list[int], torch.Tensor, torch.Tensor]]:
    """Indices, padded ids and mask of chats, sorted by length and padded on the right."""
    order = sorted(range(len(chats)), key=lambda i: len(chats[i]))
    for start in range(0, len(order), size):
        index = order[start : start + size]
        longest = max(len(chats[i]) for i in index)
        ids = torch.full((len(index), longest), END_ID)
        mask = torch.zeros_like(ids)
        for row, i in enumerate(index):
            ids[row, : len(chats[i])] = torch.tensor(chats[i])
            mask[row, : len(chats[i])] = 1
        yield index, ids, mask
