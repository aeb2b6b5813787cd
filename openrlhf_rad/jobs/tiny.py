"""Assets of the tiny preset: a random Llama of 0.1 M parameters over made-up words, built on the spot.

For smoke tests of the whole training stack: its answers mean nothing, but a constrained run of some 25 steps
of 64 samples of 16 tokens lowers the cost of :mod:`openrlhf_rad.jobs.tiny_cost` clearly, an unconstrained one
raises it, because harmful words are worth the most.
"""

from __future__ import annotations

import json
import random
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM, LlamaModel, PreTrainedTokenizerFast

from openrlhf_rad.fitting.pooling import save_regression
from openrlhf_rad.jobs.assets import prepared, step
from openrlhf_rad.jobs.chat import CHAT_TEMPLATE, END, START
from openrlhf_rad.jobs.tiny_words import WORDS

RECIPE = {"version": 3, "hidden": 64, "layers": 2, "train": 256, "heldout": 400, "seed": 0}
_SPECIAL = ["<unk>", START, END]


def build_tokenizer() -> PreTrainedTokenizerFast:
    """A word-level tokenizer; white space separates words, ``<|im_end|>`` (id 2) ends and pads."""
    words = [*_SPECIAL, "user", "assistant", "system", *(w for group in WORDS.values() for w in group)]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.add_special_tokens(_SPECIAL)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", bos_token=START, eos_token=END, pad_token=END
    )
    fast.chat_template = CHAT_TEMPLATE
    return fast


def tiny_config(vocab: int) -> LlamaConfig:
    """A Llama of two layers, 64 wide."""
    return LlamaConfig(
        vocab_size=vocab,
        hidden_size=RECIPE["hidden"],
        intermediate_size=2 * int(RECIPE["hidden"]),
        num_hidden_layers=RECIPE["layers"],
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=512,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=2,
        tie_word_embeddings=False,
    )


def build_policy(folder: Path) -> None:
    """Write a random causal model whose first answers are words drawn evenly from the vocabulary.

    A constant direction shared by all embeddings acts as a bias, so that a share of words can be learnt in
    a few steps; the special tokens get no weight in the head, so that answers run on.
    """
    tokenizer = build_tokenizer()
    torch.manual_seed(int(RECIPE["seed"]))
    model = LlamaForCausalLM(tiny_config(len(tokenizer)))
    with torch.no_grad():
        model.model.embed_tokens.weight.add_(0.04)
        model.lm_head.weight[: len(_SPECIAL)] = -0.1
    _save(model, tokenizer, folder)
    model.generation_config.save_pretrained(folder)


def build_cost_model(folder: Path) -> None:
    """Write a random reward-model checkpoint: a tiny Llama and a head ``score`` (1, hidden), for tests."""
    tokenizer = build_tokenizer()
    torch.manual_seed(int(RECIPE["seed"]) + 1)

    class TinyCost(LlamaModel):  # type: ignore[misc]
        base_model_prefix = "model"

    backbone = TinyCost(tiny_config(len(tokenizer)))
    head = nn.Linear(int(RECIPE["hidden"]), 1, bias=False)
    nn.init.normal_(head.weight)
    save_regression(backbone, head, folder)
    tokenizer.save_pretrained(folder)


def build_prompts(folder: Path) -> None:
    """Write ``train.jsonl`` and ``heldout.jsonl``: half the prompts ask with a harmful word; all differ."""
    rng = random.Random(int(RECIPE["seed"]))
    wanted = int(RECIPE["train"]) + int(RECIPE["heldout"])
    prompts: dict[str, str] = {}
    while len(prompts) < wanted:
        label = "harmful" if len(prompts) % 2 else "benign"
        words = rng.sample(WORDS["plain"], 3)
        words.append(rng.choice(WORDS["harm" if label == "harmful" else "help"]))
        prompts[" ".join(words)] = label
    lines = [json.dumps({"input": text, "label": label}) for text, label in prompts.items()]
    (folder / "train.jsonl").write_text("\n".join(lines[: int(RECIPE["train"])]) + "\n")
    (folder / "heldout.jsonl").write_text("\n".join(lines[int(RECIPE["train"]) :]) + "\n")


def prepare() -> Path:
    """The folder of the tiny assets: ``policy``, ``cost_model``, ``train.jsonl`` and ``heldout.jsonl``."""

    def build(folder: Path) -> None:
        with step("tiny preset: a random model and its prompts"):
            build_policy(folder / "policy")
            build_cost_model(folder / "cost_model")
            build_prompts(folder)

    return prepared("tiny", RECIPE, build)


def _save(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    model.to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
