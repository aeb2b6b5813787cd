"""Tokens of a micro-batch as lists."""

from __future__ import annotations

import torch


def token_lists(tokens_bt: torch.Tensor, mask_bt: torch.Tensor) -> list[list[int]]:
    """The tokens of each row at which its mask is set.

    One indexing a micro-batch: one a row costs as much as decoding a short answer does.

    Args:
        tokens_bt, mask_bt: of one shape (B, T); a mask of any type, set where it is not 0.
    """
    set_bt = mask_bt.bool()
    rows = torch.split(tokens_bt[set_bt], set_bt.sum(dim=1).tolist())
    return [row.tolist() for row in rows]
