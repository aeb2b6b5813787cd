"""A linear cost of the mean hidden state, written as one more layer of the model.

OpenRLHF reads a reward model's score from the last token only, where a truncated answer says little. The
added layer brings the mean over all tokens there, exactly: zero queries and keys make the attention
uniform, the value is the cost's weights, and two coordinates of the residual stream take what is read out:

* ``cost``: cost of the mean state, times a large gain so that the stream's own content does not matter;
* ``one``: a functional that is 1 on mean states, times a larger gain, so that the final RMS norm divides by
  a constant and the score stays linear.

So ``score = cost`` up to rounding, and the checkpoint is a plain model of its architecture with a head
``score``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

GAIN_COST = 300.0
GAIN_ONE = 30_000.0


def constant_functional(means: torch.Tensor) -> torch.Tensor:
    """Weights (hidden,) whose product with each mean state (n, hidden) is 1 as nearly as possible."""
    gram = means.T @ means / len(means) + 1e-3 * torch.eye(means.shape[1])
    weights: torch.Tensor = torch.linalg.solve(gram, means.mean(0))
    return weights


def add_cost_layer(backbone: Any, weight: torch.Tensor, one: torch.Tensor) -> nn.Linear:
    """Append the pooling layer to a backbone in place; returns the head (1, hidden).

    Args:
        backbone: a model of :data:`~openrlhf_rad.fitting.states.ARCHITECTURES` whose final norm has weight 1.
        weight: (hidden,) of the cost on means of normed hidden states.
        one: (hidden,) of the constant functional on them.
    """
    config = backbone.config
    if getattr(config, "layer_types", None):
        config.layer_types = [*config.layer_types, "full_attention"]
    layer = type(backbone.layers[0])(config, len(backbone.layers)).to(torch.bfloat16)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.zero_()
        layer.input_layernorm.weight.fill_(1.0)
        layer.post_attention_layernorm.weight.fill_(1.0)
        attention = layer.self_attn
        attention.v_proj.weight[0] = weight.to(torch.bfloat16)
        attention.v_proj.weight[1] = one.to(torch.bfloat16)
        attention.o_proj.weight[0, 0] = GAIN_COST
        attention.o_proj.weight[1, 1] = GAIN_ONE
    backbone.layers.append(layer.eval().to(backbone.device, backbone.dtype))
    config.num_hidden_layers = len(backbone.layers)
    head = nn.Linear(len(weight), 1, bias=False)
    with torch.no_grad():
        head.weight.zero_()
        head.weight[0, 0] = GAIN_ONE / GAIN_COST / len(weight) ** 0.5
    return head


def save(backbone: Any, head: nn.Linear, tokenizer: Any, folder: Path) -> None:
    """Write the checkpoint that ``get_llm_for_sequence_regression(folder, "reward")`` loads."""
    save_regression(backbone, head, folder)
    tokenizer.save_pretrained(folder)


def save_regression(backbone: Any, head: nn.Linear, folder: Path) -> None:
    """Write a backbone and a scalar head as the checkpoint that OpenRLHF loads as a reward model.

    Keys are ``model.*`` and ``score.weight``; weights are bf16 safetensors.
    """
    state = {
        f"model.{k}": v.detach().to("cpu", torch.bfloat16).contiguous()
        for k, v in backbone.state_dict().items()
    }
    state["score.weight"] = head.weight.detach().to("cpu", torch.bfloat16).contiguous()
    folder.mkdir(parents=True, exist_ok=True)
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    kind = backbone.config.model_type
    backbone.config.architectures = [f"{kind.capitalize()}ForSequenceClassification"]
    backbone.config.dtype = torch.bfloat16
    backbone.config.save_pretrained(folder)
