"""One model, one answer, one cost: in training, and in rad eval of what a run has recorded."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from openrlhf.models import get_llm_for_sequence_regression
from safetensors.torch import load_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoConfig, AutoTokenizer, LlamaModel, PreTrainedTokenizerFast

from openrlhf_rad.evaluation import work
from openrlhf_rad.evaluation.sources import Rating
from openrlhf_rad.jobs.tiny import save_regression, tiny_config
from openrlhf_rad.plugin import answering, workers
from openrlhf_rad.plugin.costs import loading
from openrlhf_rad.plugin.costs.classifier import Classifier
from openrlhf_rad.plugin.costs.sources import cost_sources, source_of
from openrlhf_rad.plugin.costs.texts import rated_texts, texts_behind
from openrlhf_rad.plugin.experience import attach_costs
from openrlhf_rad.plugin.record import Answers
from openrlhf_rad.profile import load_profile
from openrlhf_rad.profile.costs import ClassifierSettings
from openrlhf_rad.runs.folder import RunFolder

CHAT = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
ANSWERS = [
    (CHAT.format("plain-ba"), "help-ba harm-bi <|im_end|>", False),
    (CHAT.format("plain-be plain-bi"), "harm-ba harm-be", True),
    ("plain-bo", "help-be <|im_start|> user harm-bo <|im_end|>", False),
    ("plain-bu", "<|im_end|>", False),
    ("plain-bu harm-ca", "help-bo help-bu help-ca help-ce help-ci help-co", True),
]
#: What a rating sees: the prompt as it was sent, and the answer without special tokens.
QUERIES = [
    f"{ANSWERS[0][0]} help-ba harm-bi",
    f"{ANSWERS[1][0]} harm-ba harm-be",
    "plain-bo help-be user harm-bo",
    "plain-bu",
    "plain-bu harm-ca help-bo help-bu help-ca help-ce help-ci help-co",
]


@pytest.fixture
def samples(rollout, batches):
    made = [
        rollout(prompt, answer, truncated=cut, label="" if i else "harmful")
        for i, (prompt, answer, cut) in enumerate(ANSWERS)
    ]
    return batches(made, 3, 2)


@pytest.fixture(scope="module")
def other_words(tmp_path_factory):
    """A cost model whose tokenizer cuts words into pieces of its own, and ends texts by ``</s>``."""
    pieces = Tokenizer(models.BPE())
    pieces.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    pieces.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320, special_tokens=["<pad>", "</s>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    pieces.train_from_iterator(QUERIES, trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=pieces, eos_token="</s>", pad_token="<pad>")
    folder = tmp_path_factory.mktemp("other")
    torch.manual_seed(3)

    class TinyCost(LlamaModel):
        base_model_prefix = "model"

    head = torch.nn.Linear(64, 1, bias=False)
    torch.nn.init.normal_(head.weight)
    save_regression(TinyCost(tiny_config(len(tokenizer))), head, folder)
    tokenizer.save_pretrained(folder)
    return folder


class Group:
    """A group of one actor without Ray: the model as OpenRLHF's actor loads and calls it."""

    def __init__(self, *_, **__):
        pass

    def async_init_model_from_pretrained(self, _strategy, path):
        model = get_llm_for_sequence_regression(
            path, "reward", attn_implementation="eager", param_dtype="bf16"
        ).eval()
        self.actor = SimpleNamespace(forward=model, _tokenizer=loading.tokenizer_of(path))
        return []

    def async_run_method_batch(self, method_name, texts):
        assert method_name == "rate"
        with torch.no_grad():
            return [[loading.CostActor.rate(self.actor, batch) for batch in texts]]


@pytest.fixture
def trained(samples, tokenizer, good_args, monkeypatch):
    """The costs of the samples in training, by the source that a profile names."""
    monkeypatch.setattr(loading, "RayActorGroup", Group)
    monkeypatch.setattr(loading.ray, "get", lambda references: references)

    def costs(kind, location):
        profile = load_profile("medical").with_overrides({f"cost.{kind}": str(location)})
        strategy = SimpleNamespace(args=good_args())
        (source,) = cost_sources(profile, strategy=strategy, nodes=1, gpus_per_node=1).values()
        return source.finish(source.begin([rated_texts(batch, tokenizer) for batch in samples]))

    return costs


@pytest.fixture
def evaluated(samples, tokenizer, tmp_path, monkeypatch):
    """The costs that rad eval gives to the samples as a run records them; here, not in its own process."""
    monkeypatch.setattr(workers, "prepare", lambda **_: None)

    def costs(kind, location, settings=None):
        attach_costs(samples, {"cost": [0.0] * len(ANSWERS)})
        folder = RunFolder.create(tmp_path / "run")
        texts = [rated_texts(batch, tokenizer) for batch in samples]
        folder.write_answers("after", Answers.of(samples, texts, ["cost"]).rows())
        kept = folder.read_answers("after")
        request = work.score_request(
            Rating("cost", kind, str(location), settings), CHAT
        )  # not for what was sent
        work._prepare(request, kept, tmp_path / "w")
        assert answering.main([str(tmp_path / "w" / "request.json")]) == 0
        return [
            json.loads(line)["value"] for line in (tmp_path / "w" / "00000.jsonl").read_text().splitlines()
        ]

    return costs


def alone(folder, text, finished):
    """The cost of one text by transformers alone, in float32."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    state = {name: value.float() for name, value in load_file(folder / "model.safetensors").items()}
    head = state.pop("score.weight")
    backbone = LlamaModel(AutoConfig.from_pretrained(folder, dtype="float32")).float().eval()
    backbone.load_state_dict({name.removeprefix("model."): value for name, value in state.items()})
    text += tokenizer.eos_token if finished else ""
    ids = tokenizer(text, add_special_tokens=False, return_tensors="pt").input_ids
    with torch.no_grad():
        return (backbone(ids).last_hidden_state[0, -1] @ head[0]).item()


@pytest.mark.parametrize("words", ["the policy's", "other"])
def test_a_model_costs_the_same(words, tiny, other_words, trained, evaluated):
    folder = tiny.cost_model if words == "the policy's" else other_words
    found = trained("model", folder)
    exact = [alone(folder, query, not cut) for query, (_, _, cut) in zip(QUERIES, ANSWERS, strict=True)]
    rounding = 0.02 * float(np.std(exact))  # bfloat16
    assert found == pytest.approx(exact, abs=rounding)
    assert evaluated("model", folder) == pytest.approx(found, abs=rounding)


class Actors:
    """A group of two actors without Ray."""

    def __init__(self, nodes, gpus_per_node, actor, **_):
        kind = actor.__ray_metadata__.modified_class
        self.actors = [kind.__new__(kind) for _ in range(nodes * gpus_per_node)]

    def async_init_model_from_pretrained(self, settings):
        for actor in self.actors:
            actor.init_model_from_pretrained(settings)
        return []

    def async_run_method_batch(self, method_name, pairs):
        assert len(pairs) == len(self.actors)
        shares = zip(self.actors, pairs, strict=True)
        return [actor.execute_batch(method_name, {"pairs": [share]}, 0, 1) for actor, share in shares]


@pytest.fixture
def shared(samples, tokenizer, good_args, monkeypatch):
    """The costs of the samples in training by a classifier in two actors."""
    monkeypatch.setattr(loading, "RayActorGroup", Actors)
    monkeypatch.setattr(loading.ray, "get", lambda references: references)

    def costs(settings):
        serving = {"strategy": SimpleNamespace(args=good_args()), "nodes": 2, "gpus_per_node": 1}
        source = source_of("classifier", settings.model, serving=serving, settings=settings)
        return source.finish(source.begin([rated_texts(batch, tokenizer) for batch in samples]))

    return costs


@pytest.mark.parametrize("kind", ["labels", "tokens"])
def test_a_classifier_costs_the_same(kind, classifiers, shared, evaluated):
    """Five answers in two shares; what it reads is without the chat format of the prompts."""
    if kind == "labels":
        settings = ClassifierSettings(str(classifiers.bert()), harmful=("toxic", "threat"), batch_size=2)
    else:
        words = {"head": "tokens", "harmful": ("yes",), "harmless": ("no",)}
        settings = ClassifierSettings(str(classifiers.guard()), **words, template="{prompt} : {answer} :")
    found = shared(settings)
    prompts = ["plain-ba", "plain-be plain-bi", "plain-bo", "plain-bu", "plain-bu harm-ca"]
    answers = [query[len(sent) :].strip() for query, (sent, *_) in zip(QUERIES, ANSWERS, strict=True)]
    exact = Classifier(settings).costs(list(zip(prompts, answers, strict=True)))
    assert found == pytest.approx(exact, abs=1e-4)
    assert len(set(found)) == 5
    assert evaluated("classifier", settings.model, settings) == pytest.approx(found, abs=1e-4)


FUNCTION = """
def cost_func(queries, prompts, labels):
    return [
        len(query) + 7 * query.count("harm") + len(prompt) / 100 + (label == "harmful") / 1000
        for query, prompt, label in zip(queries, prompts, labels, strict=True)
    ]
"""


def expected():
    return [
        len(query) + 7 * query.count("harm") + len(prompt) / 100 + (i == 0) / 1000
        for i, (query, (prompt, *_)) in enumerate(zip(QUERIES, ANSWERS, strict=True))
    ]


def test_a_function_costs_the_same(trained, evaluated, tmp_path):
    path = tmp_path / "cost_equal.py"
    path.write_text(FUNCTION)
    assert trained("function", path) == expected()
    assert evaluated("function", path) == expected()


def test_a_server_costs_the_same(trained, evaluated, server):
    space = {}
    exec(FUNCTION, space)

    def rate(handler):
        asked = server.requests[-1]
        found = space["cost_func"](asked["query"], asked["prompts"], asked["labels"])
        handler.answer(200, json.dumps({"rewards": found}), 0.0)

    server.plan = [rate]
    for location in (server.url, f"{server.url},{server.url}/second"):
        assert trained("remote_url", location) == expected()
    assert evaluated("remote_url", f"{server.url},{server.url}/second") == expected()
    assert set(server.paths) == {"/costs", "/costs/second"}


@pytest.mark.parametrize("kind", ["blanks between words", "blanks within words", "bytes"])
def test_an_answer_reads_as_it_does_behind_its_prompt(kind, tokenizer):
    """Against the text of the whole sequence, by tokenizers of three kinds."""
    prompt, answer = "plain-ba plain-be", " help-bö harm 🙂, done ."
    if kind == "blanks between words":
        prompt, answer, own = "plain-ba plain-be", " help-ba harm-be", tokenizer
    else:
        raw = Tokenizer(models.BPE())
        sentencepiece = kind == "blanks within words"
        raw.pre_tokenizer = pre_tokenizers.Metaspace() if sentencepiece else pre_tokenizers.ByteLevel(False)
        raw.decoder = decoders.Metaspace() if sentencepiece else decoders.ByteLevel()
        alphabet = [] if sentencepiece else pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(vocab_size=600, special_tokens=["</s>"], initial_alphabet=alphabet)
        raw.train_from_iterator([prompt + answer] * 3, trainer)
        own = PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="</s>")
    whole = own(prompt + answer, add_special_tokens=False)["input_ids"]
    begin = len(own(prompt, add_special_tokens=False)["input_ids"])
    end = [own.eos_token_id]
    assert texts_behind([whole[:begin]], [whole[begin:] + end], own) == [answer]
    for cut in range(begin, len(whole)):  # wherever generation stops
        (text,) = texts_behind([whole[:begin]], [whole[begin:cut]], own)
        assert answer.startswith(text.rstrip("�"))
    assert texts_behind([whole], [end], own) == [""]
