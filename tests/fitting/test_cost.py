"""rad cost fit: a checkpoint that OpenRLHF loads and that orders answers it has not seen; what is refused."""

import json

import pytest
import torch
import transformers
from openrlhf_rad.cli.cost import FitOptions
from openrlhf_rad.cli.cost_fit_run import main

from openrlhf_rad.data import load_labels
from openrlhf_rad.data.labels import REPORT, Example, Labels
from openrlhf_rad.errors import ConfigError, DataError
from openrlhf_rad.fitting.cost import FitSettings, build, check, sides_of, template_of
from openrlhf_rad.fitting.pooling import add_cost_layer, constant_functional
from openrlhf_rad.fitting.states import depth, last_scores, mean_states, truncated_backbone
from openrlhf_rad.harm import harm_auc
from openrlhf_rad.jobs.prepare import prepare_tiny
from openrlhf_rad.jobs.tiny import build_tokenizer

ARCHITECTURES = {
    "llama": transformers.LlamaConfig,
    "mistral": transformers.MistralConfig,
    "qwen2": transformers.Qwen2Config,
    "qwen3": transformers.Qwen3Config,
}


@pytest.fixture(scope="module")
def policy():
    return str(prepare_tiny().policy)


@pytest.fixture(scope="module")
def fitted(policy, labelled, tmp_path_factory):
    """The folder that the command writes."""
    out = tmp_path_factory.mktemp("fit") / "cost"
    main(FitOptions(str(labelled(prompts=150)), policy, out, layers=2))
    return out


def test_openrlhf_loads_the_checkpoint_and_it_orders_answers_it_has_not_seen(fitted, labelled):
    """Through OpenRLHF's own loader, against the number of harmful words."""
    from openrlhf_rad.plugin import cpu
    from openrlhf_rad.plugin.answering import templated
    from openrlhf_rad.plugin.costs.sources import source_of
    from openrlhf_rad.plugin.costs.texts import RatedText

    cpu.activate()
    source = source_of("model", str(fitted))
    examples = load_labels(labelled(seed=7)).examples
    sent = [templated(e.prompt, None, source.tokenizer) for e in examples]
    texts = [RatedText(s, e.answer, "", finished=True) for s, e in zip(sent, examples, strict=True)]
    costs = source.finish(source.begin([texts]))
    assert harm_auc(costs, [e.harm >= 0.5 for e in examples]) > 0.65
    assert min(costs) < 0 < max(costs)


def test_the_report_says_what_the_cost_is_worth(fitted):
    report = json.loads((fitted / REPORT).read_text())
    assert (report["answers"], report["prompts"], report["layers"], report["weights"]) == (450, 150, 2, 64)
    assert 0 < report["effective_weights"] < 64
    assert report["held_out"]["auc"]["low"] > 0.5
    assert report["held_out"]["auc_of_length"]["value"] == 0.5
    assert len(report["fitted_prompts"]) == 150
    rows = [json.loads(line) for line in (fitted / "held_out.jsonl").read_text().splitlines()]
    assert len(rows) == 450
    assert rows[0].keys() == {"prompt", "answer", "score", "cost"}


def test_pairs_alone_can_be_fitted(policy, labelled, tmp_path):
    """The same answers, of which people said only which is worse."""
    graded = load_labels(labelled())
    plain = [Example(e.prompt, e.answer, None) for e in graded.examples]
    report = build(Labels(plain, graded.pairs), FitSettings(policy, 2), tmp_path)
    assert report["weak"] == 0
    assert report["held_out"].keys() == {
        *("pair_accuracy", "pair_accuracy_of_length", "pair_accuracy_gain_over_length"),
        *("pair_accuracy_of_refusal_words", "pair_accuracy_gain_over_refusal_words"),
    }
    assert report["held_out"]["pair_accuracy"]["low"] > 0.6


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_layer_gives_the_cost_in_each_architecture(name, tmp_path, monkeypatch):
    """With grouped keys, biases or norms of queries: the last token's score is w · mean of the states."""
    monkeypatch.setenv("OPENRLHF_RAD_DTYPE", "float32")
    torch.manual_seed(0)
    config = ARCHITECTURES[name](
        vocab_size=300,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        max_position_embeddings=128,
    )
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    assert depth(tmp_path) == 1
    backbone = truncated_backbone(tmp_path, 2)
    chats = [torch.randint(3, 300, (size,)).tolist() for size in (5, 9, 40)]
    means = mean_states(backbone, chats)
    weight = torch.randn(64) / 8
    head = add_cost_layer(backbone, weight, constant_functional(means))
    torch.testing.assert_close(last_scores(backbone, head, chats), means @ weight, rtol=0.02, atol=0.03)


def test_the_zero_of_pairs_lies_between_their_sides():
    examples = [Example("p", answer, None) for answer in "abc"]
    sides = sides_of(Labels(examples, [(2, 1)]))
    assert (sides.harmful.tolist(), sides.harmless.tolist()) == ([False, False, True], [False, True, False])


def test_too_few_labels(labelled):
    with pytest.raises(DataError) as error:
        check(load_labels(labelled(prompts=9)), "few.jsonl")
    assert str(error.value) == (
        "few.jsonl: prompts: 7 with a harmful answer, 8 with a harmless answer, 0 with answers compared in"
        " pairs; a cost needs 30 of both kinds, or 30 in pairs, or nothing is known of what it learned; label"
        " more"
    )


def test_fewer_labels_than_the_weights_that_they_move(policy, tmp_path):
    labels = Labels([Example(f"plain-b{v}", f"harm-b{v}", float(v in "ae")) for v in "aeiou"])
    with pytest.raises(DataError) as error:
        build(labels, FitSettings(policy, 1, weak=False), tmp_path)
    assert str(error.value) == (
        "5 labelled answers are to settle 5 effective weights (of 64), at most 75% of their number; label"
        " more, or take a smaller model"
    )


def fails(options):
    with pytest.raises(ConfigError) as error:
        main(options)
    return str(error.value)


def test_what_does_not_fit_is_refused_before_anything_is_read(policy, tmp_path, labelled):
    labels, out = str(labelled()), tmp_path / "out"
    assert fails(FitOptions(labels, policy, out, layers=9)) == (
        f"--layers is 9; {policy} has 2; a quarter of them is the default"
    )
    assert fails(FitOptions(labels, policy, out, template="Hello")) == (
        "--template is 'Hello'; it must hold {} once, where the words of the prompt go"
    )
    assert fails(FitOptions(labels, policy, out, scale="5,1")) == (
        "--scale is 5,1; it must be two numbers LOW,HIGH, LOW the smaller; write 1,5"
    )
    assert fails(FitOptions(labels, policy, out, column=["rating=x"])).startswith(
        "--column rating=x: it must be ROLE=NAME with a role of prompt, answer, score, label, cost;"
    )
    other = tmp_path / "gpt2"
    transformers.GPT2Config(n_layer=2).save_pretrained(other)
    assert fails(FitOptions(labels, str(other), out)) == (
        f"--model {other} is of the architecture gpt2; a cost can be fitted on llama, mistral, qwen2,"
        " qwen3; take one of these, or train the whole model by OpenRLHF's train_rm"
    )
    assert not out.exists()


def test_a_tokenizer_of_another_model(policy, tmp_path, labelled):
    model = transformers.AutoModelForCausalLM.from_pretrained(policy)
    model.resize_token_embeddings(100)
    model.save_pretrained(tmp_path / "other")
    tokenizer = build_tokenizer()
    tokenizer.save_pretrained(tmp_path / "other")
    assert fails(FitOptions(str(labelled()), str(tmp_path / "other"), tmp_path / "out")) == (
        f"--model {tmp_path / 'other'}: its tokenizer makes {len(tokenizer)} tokens and the model knows"
        " 100; they do not belong together; save the model's own tokenizer beside its weights"
    )
    assert not (tmp_path / "out").exists()


def test_a_checkpoint_that_is_there_is_kept(policy, fitted, labelled):
    assert "it would be overwritten; name another or add --force" in fails(
        FitOptions(str(labelled()), policy, fitted)
    )


def test_a_tokenizer_without_a_chat_format():
    tokenizer = build_tokenizer()
    assert template_of(tokenizer, "m").count("{}") == 1
    tokenizer.chat_template = None
    with pytest.raises(ConfigError, match="has no chat template to say how prompts are sent"):
        template_of(tokenizer, "m")
