"""−log π of answers as transformers' own loss has it, and a process that goes on after its last shard."""

import json

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from openrlhf_rad.evaluation.work import likelihood_request, perform
from openrlhf_rad.jobs.chat import TEMPLATE

ROWS = [("plain-ba help-be", "help-ba harm-be"), ("plain-bi", "plain-ba"), ("plain-bi", "")]
#: More than one pass holds, of unlike lengths.
ROWS += [("plain-bo", " ".join(["help-bu"] * size)) for size in (1, 300, 40, 300, 300, 300, 300, 300, 300, 7)]


@pytest.mark.parametrize(("number_format", "close"), [("float32", 1e-5), ("bfloat16", 1e-2)])
def test_it_is_the_loss_of_the_model_on_the_answers_tokens(tiny, tmp_path, monkeypatch, number_format, close):
    monkeypatch.setenv("OPENRLHF_RAD_DTYPE", number_format)
    asked = [
        {"prompt": prompt, "answer": answer, "label": None, "sent": None, "finished": None}
        for prompt, answer in ROWS
    ]
    request = likelihood_request(str(tiny.policy), TEMPLATE)
    found = perform("likelihood", request, asked, tmp_path, lambda *_: None)
    assert json.loads((tmp_path / "00000.jsonl").read_text().splitlines()[0]) == found[0]
    tokenizer = AutoTokenizer.from_pretrained(tiny.policy)
    model = AutoModelForCausalLM.from_pretrained(tiny.policy, dtype=torch.float32)
    for (prompt, answer), row in zip(ROWS, found, strict=True):
        before = tokenizer(TEMPLATE.replace("{}", prompt), add_special_tokens=False)["input_ids"]
        ids = tokenizer(answer, add_special_tokens=False)["input_ids"]
        assert row["tokens"] == len(ids)
        if ids:
            labels = torch.tensor([[-100] * len(before) + ids])
            loss = model(torch.tensor([before + ids]), labels=labels).loss
            assert row["value"] == pytest.approx(loss.item() * len(ids), rel=close)
        else:
            assert row["value"] == 0
