"""A checkpoint of the job's cost model is one that OpenRLHF serves: same scores as plain transformers."""

import pytest
import torch
from openrlhf.models import get_llm_for_sequence_regression
from safetensors.torch import load_file
from transformers import AutoConfig, LlamaModel

from openrlhf_rad.processor import number_format

TEXTS = ["help-ba", "harm-ba harm-be harm-bi plain-ba", "plain-be plain-bi help-bo"]


@pytest.fixture(scope="module")
def model(tiny):
    """As OpenRLHF's reward actor loads it, then in float32 so that rounding does not hide a wrong token."""
    loaded = get_llm_for_sequence_regression(
        str(tiny.cost_model), "reward", attn_implementation="eager", param_dtype="bf16"
    )
    assert next(loaded.parameters()).dtype == getattr(torch, number_format())
    return loaded.float().eval()


@pytest.fixture(scope="module")
def plain(tiny):
    """The same score from the files alone: backbone, then the head at the last token of one text."""
    weights = {
        name: value.float() for name, value in load_file(tiny.cost_model / "model.safetensors").items()
    }
    head = weights.pop("score.weight")
    backbone = LlamaModel(AutoConfig.from_pretrained(tiny.cost_model, dtype="float32")).float().eval()
    backbone.load_state_dict({name.removeprefix("model."): value for name, value in weights.items()})

    def score(ids):
        return (backbone(torch.tensor([ids])).last_hidden_state[0, -1] @ head[0]).item()

    return score


@pytest.fixture(scope="module")
def ids(tokenizer):
    return [tokenizer(text, add_special_tokens=False)["input_ids"] for text in TEXTS]


@pytest.fixture(scope="module")
def scores(plain, ids):
    with torch.no_grad():
        found = [plain(row) for row in ids]
    assert max(found) - min(found) > 0.1
    return found


def padded(ids, side):
    longest = max(map(len, ids))
    sequences = torch.full((len(ids), longest), 2)
    mask = torch.zeros_like(sequences)
    for row, tokens in enumerate(ids):
        place = slice(0, len(tokens)) if side == "right" else slice(longest - len(tokens), longest)
        sequences[row, place] = torch.tensor(tokens)
        mask[row, place] = 1
    return sequences, mask


@pytest.mark.parametrize("side", ["right", "left"])
def test_a_padded_batch_scores_each_text_at_its_last_token(side, model, ids, scores):
    sequences, mask = padded(ids, side)
    with torch.no_grad():
        found = model(sequences, mask, pad_sequence=True)
    assert found.shape == (3,)
    assert found.tolist() == pytest.approx(scores, abs=1e-4)


def test_a_single_text_scores_the_same(model, ids, scores):
    with torch.no_grad():
        found = [model(torch.tensor([row]), torch.ones(1, len(row), dtype=torch.long)).item() for row in ids]
    assert found == pytest.approx(scores, abs=1e-4)


def test_the_tokenizer_is_the_policy_s(tiny, tokenizer):
    from transformers import AutoTokenizer

    assert AutoTokenizer.from_pretrained(tiny.cost_model).get_vocab() == tokenizer.get_vocab()
