"""Tokens of a micro-batch as lists, against one indexing a row."""

import torch

from openrlhf_rad.plugin.costs.texts import token_lists


def test_each_row_gives_the_tokens_at_its_mask():
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(1000, (50, 9), generator=generator)
    mask = torch.randint(2, (50, 9), generator=generator)
    mask[3], mask[7] = 0, 1
    expected = [row[set_.bool()].tolist() for row, set_ in zip(tokens, mask, strict=True)]
    assert token_lists(tokens, mask) == expected
    assert token_lists(tokens, mask.bool()) == expected
    assert expected[3] == []
    assert len(expected[7]) == 9
