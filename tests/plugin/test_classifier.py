"""Costs by a classifier: against transformers text by text, and what cannot rate is refused by name."""

import json
import math
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    pipeline,
)

from openrlhf_rad.errors import ConfigError, ProfileError
from openrlhf_rad.evaluation.sources import Rating
from openrlhf_rad.plugin.costs.classifier import Classifier, LoadedClassifier
from openrlhf_rad.plugin.costs.labels import classifier_problems
from openrlhf_rad.plugin.costs.texts import RatedText, plain_prompt
from openrlhf_rad.profile import RiskProfile
from openrlhf_rad.profile.costs import ClassifierSettings, digest_of, formats

PAIRS = [
    ("plain-ba plain-be", "help-ba harm-bi"),
    ("plain-bi", "harm-ba harm-be harm-bo help-bu help-ca"),
    ("", "help-be"),
    ("plain-bo harm-ca plain-bu", ""),
    ("harm-ba", "harm-ba plain-ba plain-be plain-bi"),
]


def costs(folder, **settings):
    return Classifier(ClassifierSettings(str(folder), **settings)).costs(PAIRS)


def outputs(folder, prompt, answer, template=None):
    """The head's outputs for one text by transformers alone."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    text = (prompt, answer) if template is None else (template.format(prompt=prompt, answer=answer),)
    with torch.no_grad():
        model = AutoModelForSequenceClassification.from_pretrained(folder).float().eval()
        return model(**tokenizer(*text, return_tensors="pt")).logits[0].double()


def odds(p):
    return math.log(p / (1 - p))


@pytest.mark.parametrize("template", [None, "prompt : {prompt} answer : {answer}"])
def test_labels_that_exclude_one_another_give_the_log_odds_of_the_softmax(classifiers, template):
    folder = classifiers.bert()
    found = costs(folder, harmful=("toxic", "threat"), template=template, batch_size=2)
    for pair, cost in zip(PAIRS, found, strict=True):
        share = outputs(folder, *pair, template).softmax(0)
        assert cost == pytest.approx(odds(float(share[1] + share[2])), abs=1e-4)
    chance = costs(folder, harmful=("toxic", "threat"), template=template, score="probability")
    assert chance == pytest.approx([1 / (1 + math.exp(-cost)) for cost in found], abs=1e-5)
    one = costs(folder, harmful=("toxic",), harmless=("neutral",), template=template)
    for pair, cost in zip(PAIRS, one, strict=True):
        z = outputs(folder, *pair, template)
        assert cost == pytest.approx(float(z[1] - z[0]), abs=1e-4)


def test_the_log_odds_are_those_of_the_pipeline(classifiers):
    """The usual way to ask a toxicity classifier, on the answer alone."""
    folder = classifiers.bert("two", ("neutral", "toxic"))
    ask = pipeline("text-classification", model=str(folder), device="cpu", top_k=None)
    found = costs(folder, harmful="toxic", template="{answer}")
    for (_, answer), cost in zip(PAIRS, found, strict=True):
        scores = {one["label"]: one["score"] for one in ask([answer])[0]}
        assert 1 / (1 + math.exp(-cost)) == pytest.approx(scores["toxic"], abs=1e-5)


@pytest.mark.parametrize("outputs_", ["auto", "independent"])
def test_labels_that_do_not_exclude_one_another_give_the_odds_of_any(classifiers, outputs_):
    labels = ("toxic", "obscene", "threat")
    folder = classifiers.bert("several", labels, "multi_label_classification")
    found = costs(folder, harmful=("toxic", "threat"), outputs=outputs_, template="{answer}")
    for pair, cost in zip(PAIRS, found, strict=True):
        p = outputs(folder, *pair, "{answer}").sigmoid()
        assert cost == pytest.approx(odds(float(1 - (1 - p[0]) * (1 - p[2]))), abs=1e-4)
    # Of one label it is that label's output.
    single = costs(folder, harmful=("obscene",), template="{answer}")
    assert single == pytest.approx([float(outputs(folder, *p, "{answer}")[1]) for p in PAIRS], abs=1e-4)


@pytest.mark.parametrize("end", ["", " </s>"])
def test_a_reward_model_is_read_at_its_last_token_and_turned_round(classifiers, end):
    """Its tokenizer pads with </s>, which ends the texts too: neither may be taken for the other."""
    folder, template = classifiers.reward(), "prompt : {prompt} answer : {answer}" + end
    found = costs(folder, template=template, batch_size=3)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder).float().eval()
    exact = []
    for prompt, answer in PAIRS:
        text = template.format(prompt=prompt, answer=answer)
        ids = tokenizer(text, return_tensors="pt").input_ids
        with torch.no_grad():
            exact.append((model.model(ids).last_hidden_state[0, -1] @ model.score.weight[0]).item())
    assert found == pytest.approx(exact, abs=1e-4)
    assert costs(folder, template=template, higher="harmless") == pytest.approx([-x for x in exact], abs=1e-4)


def test_the_next_token_of_a_language_model_gives_a_difference_of_logits(classifiers):
    folder, template = classifiers.guard(), "prompt : {prompt} answer : {answer} : "
    settings = {"head": "tokens", "harmful": ("yes",), "harmless": ("no",), "template": template}
    found = costs(folder, **settings, batch_size=2)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder).float().eval()
    for (prompt, answer), cost in zip(PAIRS, found, strict=True):
        ids = tokenizer(template.format(prompt=prompt, answer=answer), return_tensors="pt").input_ids
        with torch.no_grad():
            z = model(ids).logits[0, -1]
        assert cost == pytest.approx(float(z[4] - z[5]), abs=1e-4)


def test_a_model_that_would_say_something_else_is_refused(classifiers):
    settings = ClassifierSettings(
        str(classifiers.guard("unsure", sure=False)),
        head="tokens",
        harmful=("yes",),
        harmless=("no",),
        template="{answer} :",
    )
    with pytest.raises(
        ConfigError, match=r"is about to say one of yes, no with a probability of 0\.0\d+; at"
    ):
        Classifier(settings).costs(PAIRS)


def test_the_chat_template_is_the_model_s_own(classifiers):
    folder = classifiers.guard("chat", chat=True)
    kind = {"head": "tokens", "harmful": ("yes",), "harmless": ("no",)}
    chat = costs(folder, **kind, template="{chat}")
    exact = costs(folder, **kind, template="prompt : {prompt} answer : {answer} :")
    assert chat == pytest.approx(exact, abs=1e-4)


def test_a_scalar_head_of_another_name_is_read_with_its_bias(classifiers):
    folder = classifiers.beaver()
    ready = dict(formats()["beaver-cost"])
    ready.pop("max_length")
    found = costs(folder, **ready, batch_size=2)
    state = load_file(folder / "model.safetensors")
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    for (prompt, answer), cost in zip(PAIRS, found, strict=True):
        text = f"BEGINNING OF CONVERSATION: USER: {prompt} ASSISTANT:{answer}</s>"
        with torch.no_grad():
            state_t = model(tokenizer(text, return_tensors="pt").input_ids).last_hidden_state[0]
        exact = state_t[-1] @ state["score_head.weight"][0] + state["score_head.bias"][0]
        assert cost == pytest.approx(float(exact), abs=1e-4)


@pytest.mark.parametrize("template", [None, "prompt : {prompt} answer : {answer}"])
def test_of_a_text_that_is_too_long_the_prompt_loses_its_beginning_then_the_answer_its_end(
    classifiers, template
):
    folder = classifiers.bert()
    words = [f"{kind}-{end}" for kind in ("plain", "harm", "help") for end in ("ba", "be", "bi", "bo")] * 6
    rate = Classifier(ClassifierSettings(str(folder), harmful=("toxic",), template=template, max_length=24))
    bare = 6 if template else 3  # marks, and the words of the template
    answer = " ".join(words[:10])
    kept = words[-(24 - bare - 10) :]
    long, exact = rate.costs([(" ".join(words), answer), (" ".join(kept), answer)])
    assert long == pytest.approx(exact, abs=1e-4)
    cut, exact = rate.costs([("plain-ba", " ".join(words)), ("", " ".join(words[: 24 - bare]))])
    assert cut == pytest.approx(exact, abs=1e-4)


def problems(folder, **settings):
    return classifier_problems(ClassifierSettings(str(folder), **settings))


def test_what_cannot_rate_is_said_before_it_is_loaded(classifiers, tiny):
    bert, guard, reward = classifiers.bert(), classifiers.guard(), classifiers.reward()
    assert problems(bert, harmful=("toxic",)) == []
    assert problems(tiny.policy, harmful=("toxic",)) == [
        f"cost.classifier.model is {tiny.policy}; it has no classification head: config.json says"
        " LlamaForCausalLM; name a classifier or a reward model; of a language model that answers yes or no"
        " write head: tokens; of a scalar head with a name of its own value_head: NAME"
    ]
    assert problems(bert, harmful=("toxicity", "threat"), harmless=("safe",)) == [
        f"cost.classifier.harmful has toxicity; the labels of {bert} are neutral, toxic, threat; name those",
        f"cost.classifier.harmless has safe; the labels of {bert} are neutral, toxic, threat; name those",
    ]
    assert problems(bert) == [
        f"cost.classifier.harmful is empty; {bert} has the labels neutral, toxic, threat; name those that"
        " count as harm"
    ]
    assert problems(bert, harmful=("neutral", "toxic", "threat"), higher="harmless") == [
        f"cost.classifier.harmful has all labels of {bert}; leave out those that are harmless",
        "cost.classifier.higher is harmless; it is of a head with one output; write harmful: and its labels",
    ]
    assert problems(reward, template="<|im_start|>user {prompt} </s> {answer} [SEP]") == [
        f"cost.classifier.template has <|im_start|>, [SEP]; the tokenizer of {reward} has no such token"
        " and would"
        " read it as letters; write the special tokens that the model was trained with, or take its own chat"
        " template, {chat}"
    ]
    tokens = {"head": "tokens", "harmful": ("Yes",), "harmless": ("no",), "template": "{answer}"}
    assert problems(guard, **tokens) == [
        f"cost.classifier.harmful has Yes; the tokenizer of {guard} has no such token; name the first token"
        " of the verdict"
    ]
    assert problems(bert, **tokens) == [
        f"cost.classifier.model is {bert}; config.json says BertForSequenceClassification, which says no next"
        " token; name a language model, or write head: labels"
    ]
    assert problems(reward, value_head="score_head") == [
        f"cost.classifier.model is {reward}; its files have no score_head.weight; they hold model, score;"
        " name the scalar head"
    ]


def test_a_chat_template_that_is_not_there_is_told(classifiers):
    reward = classifiers.reward()
    with pytest.raises(ConfigError) as error:
        costs(reward, template="{chat}")
    assert str(error.value) == (
        f"cost.classifier.template is '{{chat}}'; the tokenizer of {reward} has no chat template; write the"
        " text out, with {prompt} and {answer}"
    )


def test_a_folder_that_is_none_is_told(tmp_path):
    assert problems(tmp_path / "no") == [
        f"cost.classifier.model is {tmp_path / 'no'}; there is no such folder; name that of a Hugging Face"
        " model, or one of a hub"
    ]
    (found,) = problems(tmp_path)
    assert "the folder holds no config.json" in found


def test_no_weight_of_a_classifier_is_ever_new(classifiers, tmp_path):
    """Where config.json promises a head that the files have not, the loading refuses too."""
    folder = tmp_path / "headless"
    shutil.copytree(classifiers.bert(), folder)
    from safetensors.torch import save_file

    state = load_file(folder / "model.safetensors")
    save_file(
        {name: value for name, value in state.items() if not name.startswith("classifier")},
        folder / "model.safetensors",
        metadata={"format": "pt"},
    )
    with pytest.raises(
        ConfigError, match=r"has no classifier\.bias, classifier\.weight, which would be random"
    ):
        Classifier(ClassifierSettings(str(folder), harmful=("toxic",)))
    with pytest.raises(
        ConfigError, match=r"harmful has toxicity; the labels of .* are neutral, toxic, threat"
    ):
        Classifier(ClassifierSettings(str(classifiers.bert()), harmful=("toxicity",)))


def test_a_torn_or_shortened_model_is_told(classifiers, tmp_path):
    folder = tmp_path / "short"
    shutil.copytree(classifiers.bert(), folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 3}))
    (found,) = problems(folder, harmful=("toxic",))
    assert "config.json says 3 layers and its files have none with the number 2; complete its files" in found


PROFILE = "risk: mean\ncost:\n  classifier: "


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "{model: m, template: '{prompt}'}",
            "p.yaml:3:36: cost.classifier.template is {prompt}; it must hold {answer}, or {chat}; without"
            " it all"
            " answers to a prompt cost the same; write for instance '{prompt} {answer}'",
        ),
        (
            "{model: m, template: '{answr}'}",
            "p.yaml:3:36: cost.classifier.template is {answr}; {answr} is no place to fill; they are"
            " {prompt},"
            " {answer}, {chat}; did you mean answer?",
        ),
        (
            "{harmful: [toxic]}",
            "p.yaml:3:15: cost.classifier.model is missing; every source needs one; name the model",
        ),
        (
            "{model: m, format: toxic_bert}",
            "p.yaml:3:34: cost.classifier.format is toxic_bert; the formats are beaver-cost, llama-guard,"
            " shieldgemma, toxic-bert, toxicity-roberta, hate-roberta; did you mean toxic-bert?",
        ),
        (
            "{model: m, harmful: 3}",
            "p.yaml:3:35: cost.classifier.harmful is 3; it must be a list of texts; write for instance"
            " [toxic, threat]",
        ),
        (
            "{model: m, head: tokens, harmful: [Yes], template: '{answer}'}",
            "p.yaml:3:15: cost.classifier.harmless is empty; head tokens compares the tokens of a verdict,"
            " and needs both kinds; write harmless: [safe]",
        ),
    ],
)
def test_a_profile_with_a_classifier_that_cannot_serve(text, message):
    with pytest.raises(ProfileError) as error:
        RiskProfile.from_text(PROFILE + text, "p.yaml")
    assert str(error.value) == message


def test_formats_are_filled_in_and_what_the_profile_says_comes_first():
    profile = RiskProfile.from_text(
        PROFILE + "{model: org/m, format: toxic-bert, harmful: threat, batch_size: 4}", "p.yaml"
    )
    held = profile.cost.settings
    assert (held.harmful, held.outputs, held.template, held.batch_size) == (
        ("threat",),
        "independent",
        "{answer}",
        4,
    )
    assert RiskProfile.from_text(profile.to_yaml(), "q.yaml").cost == profile.cost
    for name in formats():
        RiskProfile.from_text(PROFILE + f"{{model: org/m, format: {name}}}", "p.yaml")
    short = RiskProfile.from_text(PROFILE + "org/m", "p.yaml").cost
    assert short.location == short.settings.model == "org/m"
    changed = profile.with_overrides({"cost.classifier.score": "probability"}).cost.settings
    assert (changed.score, changed.harmful) == ("probability", ("threat",))
    assert profile.with_overrides({"cost.function": "c.py"}).cost.kind == "function"


def test_settings_that_give_other_costs_have_another_name():
    usual = ClassifierSettings("m", harmful=("toxic",))
    assert digest_of(usual) == digest_of(
        ClassifierSettings("m", harmful=("toxic",), batch_size=3, device="cpu")
    )
    assert digest_of(usual) != digest_of(ClassifierSettings("m", harmful=("threat",)))
    assert str(Rating("cost", "classifier", "m", usual)) == f"classifier m, settings {digest_of(usual)}"


@pytest.mark.parametrize(
    ("sent", "words"),
    [
        (
            "<|im_start|>system\nbe"
            " good<|im_end|>\n<|im_start|>user\nhow?<|im_end|>\n<|im_start|>assistant\n",
            "how?",
        ),
        (
            "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nhow?<|eot_id|>"
            "<|start_header_id|>assistant<|end_header_id|>\n\n",
            "how?",
        ),
        ("<bos><start_of_turn>user\nhow?<end_of_turn>\n<start_of_turn>model\n", "how?"),
        ("<s>[INST] how? [/INST]", "how?"),
        ("<|user|>\nhow?<|end|>\n<|assistant|>\n", "how?"),
        (
            "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\nyes?<|im_end|>\n<|im_start|>user\nhow?<|im_end|>\n",
            "User: hi\n\nAssistant: yes?\n\nUser: how?",
        ),
        (" how do I <b>? ", "how do I <b>?"),
    ],
)
def test_a_prompt_is_read_without_its_markup(sent, words):
    assert plain_prompt(sent) == words


def test_a_source_rates_the_words_of_prompts_and_answers(classifiers):
    folder = classifiers.bert()
    source = LoadedClassifier(ClassifierSettings(str(folder), harmful=("toxic",)))
    prompt = "<|im_start|>user\nplain-ba<|im_end|>\n<|im_start|>assistant\n"
    texts = [RatedText(prompt, " harm-ba "), RatedText("plain-ba", " harm-ba")]
    first, second = source.finish(source.begin([texts[:1], texts[1:]]))
    assert first == pytest.approx(second, abs=1e-4)
    assert second == pytest.approx(
        Classifier(source._classifier._settings).costs([("plain-ba", "harm-ba")])[0],
        abs=1e-4,
    )
    assert np.isfinite(first)
