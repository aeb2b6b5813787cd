"""Prompts of several messages: what training and evaluation make of them."""

import json
from dataclasses import replace

import pytest
from openrlhf.datasets.prompts_dataset import preprocess_data
from openrlhf_rad.cli.rad import app

from openrlhf_rad.data import load_prompts
from openrlhf_rad.errors import ConfigError
from openrlhf_rad.plugin.answering import templated


def test_openrlhf_renders_the_messages_that_rad_prompts_writes_as_rad_eval_does(tmp_path):
    class Tokenizer:
        chat_template = "there is one"

        def apply_chat_template(self, turns, tokenize, add_generation_prompt):
            return "|".join(f"{turn['role']}={turn['content']}" for turn in turns) + "|assistant="

    messages = [{"role": "system", "content": "Answer briefly."}, {"role": "user", "content": "why?"}]
    source, held = tmp_path / "a.jsonl", [messages, [{"role": "user", "content": "how?"}]]
    source.write_text("".join(json.dumps({"context_messages": one}) + "\n" for one in held))
    out = tmp_path / "prompts.jsonl"
    with pytest.raises(SystemExit) as exit_:
        app(["prompts", str(source), "--out", str(out)])
    assert exit_.value.code == 0
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    trained = [preprocess_data(row, None, "prompt", None, Tokenizer().apply_chat_template)[0] for row in rows]
    asked = [templated(list(p.messages) or p.text, None, Tokenizer()) for p in load_prompts(source)]
    assert trained == asked == ["system=Answer briefly.|user=why?|assistant=", "user=how?|assistant="]
    assert load_prompts(out) == [replace(p, source="plain") for p in load_prompts(source)]


@pytest.mark.parametrize(
    ("template", "why"),
    [("<{}>", "a template holds one text"), (None, "the model's tokenizer has no chat template")],
)
def test_messages_that_cannot_be_sent_are_refused(template, why):
    with pytest.raises(ConfigError, match=f"is a list of messages, and {why}"):
        templated([{"role": "user", "content": "why?"}], template, None)
