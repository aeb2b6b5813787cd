"""No weight of a rating model is ever random: indexes are read before a start, and loading looks again."""

import itertools
import json
import shutil
import struct
from types import SimpleNamespace

import pytest
import torch
from openrlhf.models import get_llm_for_sequence_regression
from safetensors.torch import load_file, save_file
from transformers import LlamaForCausalLM, LlamaForSequenceClassification

from openrlhf_rad.errors import ConfigError
from openrlhf_rad.jobs.tiny import tiny_config
from openrlhf_rad.plugin.actor import CriticActor
from openrlhf_rad.plugin.compatibility import check_arguments
from openrlhf_rad.plugin.costs.checkpoint import RatingModel, weight_problems
from openrlhf_rad.plugin.costs.loading import CostActor, RewardActor, no_new_weights
from openrlhf_rad.plugin.costs.models import problems, rendered, training_problems
from openrlhf_rad.profile import load_profile

RANDOM = "its files have no score.weight, so that its costs would come from random numbers"


def weights_of(tiny):
    return {name: value.clone() for name, value in load_file(tiny.cost_model / "model.safetensors").items()}


@pytest.fixture
def model(tiny, tmp_path):
    """The tiny cost model with other weights: a function of the weights changes them in place."""
    numbers = itertools.count()

    def make(change=lambda weights: None, kind="safetensors", **config):
        folder = tmp_path / f"model{next(numbers)}"
        shutil.copytree(tiny.cost_model, folder)
        (folder / "model.safetensors").unlink()
        weights = weights_of(tiny)
        change(weights)
        if kind == "safetensors":
            save_file(weights, folder / "model.safetensors", {"format": "pt"})
        elif kind == "sharded":
            names = sorted(weights)
            parts = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
            for file, held in parts.items():
                save_file({name: weights[name] for name in held}, folder / file, {"format": "pt"})
            index = {"weight_map": {name: file for file, held in parts.items() for name in held}}
            (folder / "model.safetensors.index.json").write_text(json.dumps(index))
        else:
            torch.save(weights, folder / "pytorch_model.bin", _use_new_zipfile_serialization=kind == "bin")
        held = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(held | config))
        return folder

    return make


def of(folder, role="cost"):
    return weight_problems(RatingModel("cost.model", str(folder), role))


def without_head(weights):
    del weights["score.weight"]


KINDS = ["safetensors", "sharded", "bin"]


@pytest.mark.parametrize("kind", [*KINDS, "old bin"])
def test_a_whole_model_is_taken(kind, model):
    assert of(model(kind=kind)) == []


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_without_its_head_is_named(kind, model):
    (found,) = of(folder := model(without_head, kind))
    assert found == (
        f"cost.model is {folder}; {RANDOM}; beside its layers they have nothing, and config.json says"
        " LlamaForSequenceClassification; name a model that was trained to score answers, or rate by"
        " cost.function, a Python file that asks this one"
    )


def renamed(name):
    def change(weights):
        weights[f"{name}.weight"] = weights.pop("score.weight")

    return change


def with_bias(name):
    def change(weights):
        renamed(name)(weights)
        weights[f"{name}.bias"] = torch.zeros(1)

    return change


def classifier(weights):
    without_head(weights)
    weights["classifier.dense.weight"] = torch.zeros(64, 64)
    weights["classifier.out_proj.weight"] = torch.zeros(2, 64)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("change", "shown", "fix"),
    [
        (
            renamed("score_head"),
            "score_head.weight (1, 64)",
            'if score_head is its score, write "value_head_prefix": "score_head" into its config.json',
        ),
        (
            with_bias("score_head"),
            "score_head.bias (1,), score_head.weight (1, 64)",
            "score_head has a bias, which OpenRLHF's head has not: rate by cost.function, a Python file that"
            " loads it",
        ),
        (
            classifier,
            "classifier.dense.weight (64, 64), classifier.out_proj.weight (2, 64)",
            "it is a classifier: rate by cost.function, a Python file that gives its probability of harm",
        ),
    ],
    ids=["PKU", "PKU with a bias", "classifier"],
)
def test_the_heads_that_a_file_has_are_named(kind, change, shown, fix, model):
    (found,) = of(model(change, kind))
    assert f"{RANDOM}; beside its layers they have {shown}, and config.json says" in found
    assert found.endswith(f"; {fix}")


def test_a_language_model_is_none_that_rates(tiny):
    (found,) = of(tiny.policy)
    assert "they have lm_head.weight (348, 64), and config.json says LlamaForCausalLM; name a model" in found
    (found,) = of(tiny.policy, "reward")
    assert "so that its rewards would come from random numbers" in found
    assert "reward by --reward.remote_url (rad eval: --reward), a Python file that asks this one" in found


def test_what_transformers_saves_is_read(tmp_path):
    """Its own shards and names, of a model that rates and of one that does not."""
    LlamaForSequenceClassification(tiny_config(40)).save_pretrained(tmp_path / "two", max_shard_size="100KB")
    (found,) = of(tmp_path / "two")
    assert "its score.weight has the shape (2, 64); a head that rates has one output" in found
    config = tiny_config(40)
    config.num_labels = 1
    LlamaForSequenceClassification(config).save_pretrained(tmp_path / "one", max_shard_size="100KB")
    assert len([*(tmp_path / "one").glob("*.safetensors")]) > 1
    assert of(tmp_path / "one") == []
    config.tie_word_embeddings = True
    LlamaForCausalLM(config).save_pretrained(tmp_path / "tied")
    assert RANDOM in of(tmp_path / "tied")[0]


def test_a_head_of_another_name_is_known_by_the_configuration_or_the_flag(model):
    folder = model(renamed("value"))
    assert len(of(folder)) == 1
    assert weight_problems(RatingModel("cost.model", str(folder)), "value") == []
    assert of(model(renamed("value"), value_head_prefix="value")) == []
    assert len(of(model(value_head_prefix="value"))) == 1


def test_a_bias_would_be_left_out(model):
    (found,) = of(model(with_bias("score")))
    assert "its head has a bias, score.bias, which OpenRLHF's head has not and would leave out" in found


@pytest.mark.parametrize("kind", KINDS)
def test_layers_that_are_missing_are_named(kind, model):
    def half(weights):
        for name in [name for name in weights if name.startswith("model.layers.1.")]:
            del weights[name]

    (found,) = of(model(half, kind))
    assert "its config.json says 2 layers and its files have none with the number 1; complete" in found


def test_files_that_are_missing_or_torn_are_named(model, tmp_path):
    folder = model(kind="sharded")
    (folder / "b.safetensors").unlink()
    assert of(folder) == [f"cost.model is {folder}; the file b.safetensors is missing; complete the folder"]
    torn = "is torn, or stands for a larger one (Git LFS); fetch it again"
    for kind, name in (("safetensors", "model.safetensors"), ("bin", "pytorch_model.bin")):
        folder = model(kind=kind)
        whole = (folder / name).read_bytes()
        pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 1234\n"
        for content in (whole[:-100], whole[:20], b"", pointer):
            (folder / name).write_bytes(content)
            assert of(folder) == [f"cost.model is {folder}; the file {name} {torn}"]
    folder = model(kind="sharded")
    (folder / "model.safetensors.index.json").write_text("[]")
    assert of(folder) == [
        f"cost.model is {folder}; the file model.safetensors.index.json is no index of weights; fetch it"
        " again"
    ]
    folder = model(kind="sharded")
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    index["weight_map"]["score.weight"] = "a.safetensors"
    index["weight_map"]["norm.weight"] = "a.safetensors"
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert "a.safetensors holds norm.weight, which it does not" in of(folder)[0]


def test_an_adapter_is_no_model(model):
    folder = model()
    (folder / "model.safetensors").rename(folder / "adapter_model.safetensors")
    assert "holds no weights" in of(folder)[0]
    (folder / "adapter_config.json").write_text("{}")
    assert "it holds an adapter alone; merge it into its model" in of(folder)[0]


def test_a_pickle_is_not_run(model, tmp_path):
    """What a .bin file would run when it is loaded leaves no trace."""
    folder = model(kind="bin")

    class Trap:
        def __reduce__(self):
            return open, (str(tmp_path / "run"), "w")

    torch.save({"score.weight": torch.zeros(1, 64), "trap": Trap()}, folder / "pytorch_model.bin")
    assert of(folder) == []
    assert not (tmp_path / "run").exists()


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A hub's cache as its client writes it, and no network."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")

    def hold(name, folder):
        root = tmp_path / "hub" / f"models--{name.replace('/', '--')}"
        (root / "refs").mkdir(parents=True)
        (root / "refs" / "main").write_text("abc")
        shutil.copytree(folder, root / "snapshots" / "abc")

    return hold


def test_a_model_of_a_hub_is_read_in_the_cache(hub, tiny, model):
    hub("org/policy", tiny.policy)
    hub("org/rates", tiny.cost_model)
    hub("org/config-only", model())
    for path in (model()).parent.rglob("snapshots/abc/model.safetensors"):
        if "config-only" in str(path):
            path.unlink()
    assert RANDOM in of("org/policy")[0]
    assert [of(name) for name in ("org/rates", "org/config-only", "org/unknown", "/no/such/folder")] == [
        []
    ] * 4


LOADS = {"attn_implementation": "eager", "param_dtype": "bf16"}


@pytest.mark.parametrize("kind", ["reward", "critic"])
def test_loading_looks_again(kind, model, tiny):
    with no_new_weights("X"):
        whole = get_llm_for_sequence_regression(str(model()), kind, **LOADS)
    assert torch.equal(whole.score.weight.data, weights_of(tiny)["score.weight"])
    message = r"^X has no score\.weight, which would be random numbers;"
    with pytest.raises(ConfigError, match=message), no_new_weights("X"):
        get_llm_for_sequence_regression(str(tiny.policy), kind, **LOADS)
    with no_new_weights("X", learnt=["score"]):
        get_llm_for_sequence_regression(str(tiny.policy), kind, **LOADS)
    # Outside, transformers is as it was.
    assert get_llm_for_sequence_regression(str(tiny.policy), kind, **LOADS).score.weight.shape == (1, 64)


def test_loading_names_whatever_is_missing_or_left_out(model):
    def torn(weights):
        del weights["model.layers.0.mlp.up_proj.weight"]

    message = r"^X has no model\.layers\.0\.mlp\.up_proj\.weight, which"
    with pytest.raises(ConfigError, match=message), no_new_weights("X"):
        get_llm_for_sequence_regression(str(model(torn)), "reward", **LOADS)
    message = r"^X has score\.bias, which OpenRLHF's head has not"
    with pytest.raises(ConfigError, match=message), no_new_weights("X"):
        get_llm_for_sequence_regression(str(model(with_bias("score"))), "reward", **LOADS)


@pytest.fixture
def strategy(good_args):
    """As far as an actor of a reward model asks it."""

    def make(*flags):
        return SimpleNamespace(
            args=good_args("--ds.attn_implementation", "eager", "--reward.normalize_enable", *flags),
            setup_distributed=lambda: None,
            get_ds_eval_config=lambda offload: None,
            print=lambda *_: None,
            prepare=lambda model: model,
        )

    return make


@pytest.mark.parametrize("group", [CostActor, RewardActor])
def test_actors_refuse_a_model_without_its_head(group, strategy, tiny):
    actor = group.__new__(group)
    actor.init_model_from_pretrained(strategy(), str(tiny.cost_model))
    assert actor.model.normalize_reward == (group is RewardActor)  # costs stay in their own units
    with pytest.raises(ConfigError, match=r"has no score\.weight"):
        group.__new__(group).init_model_from_pretrained(strategy(), str(tiny.policy))


def test_a_critic_learns_a_head_of_the_policy_s_weights_alone(strategy, tiny, monkeypatch):
    def load(self, strategy, pretrain, *_):
        self.critic = get_llm_for_sequence_regression(pretrain, "critic", **LOADS)

    monkeypatch.setattr(CriticActor.__mro__[2], "init_model_from_pretrained", load)
    policy, other = str(tiny.policy), str(tiny.cost_model)
    critic = CriticActor.__new__(CriticActor)
    critic.init_model_from_pretrained(strategy("--actor.model_name_or_path", policy), policy, 1)
    critic.init_model_from_pretrained(strategy("--actor.model_name_or_path", policy), other, 1)
    with pytest.raises(ConfigError, match=r"has no score\.weight"):
        critic.init_model_from_pretrained(strategy("--actor.model_name_or_path", other), policy, 1)


def refused(args, options):
    with pytest.raises(ConfigError) as error:
        check_arguments(args, options)
    return str(error.value).splitlines()


def test_a_run_is_refused_with_every_model_that_cannot_rate(good_args, rad_options, tiny):
    options = rad_options("--rad.set", f"cost.model={tiny.policy}")
    args = good_args("--actor.model_name_or_path", "p", "--reward.model_name_or_path", str(tiny.policy))
    args.reward.remote_url = None
    args.algo.advantage.estimator, args.critic.model_name_or_path = "gae", str(tiny.policy)
    lines = refused(args, options)
    assert [line.split(" is ")[0] for line in lines] == ["cost.model", "--reward.model_name_or_path"]
    args.reward.remote_url = ["reward.py"]
    args.reward.model_name_or_path = None
    lines = refused(args, options)
    assert [line.split(" is ")[0] for line in lines] == ["cost.model", "--critic.model_name_or_path"]
    assert "its values would come from random numbers" in lines[1]
    assert lines[1].endswith(
        "leave --critic.model_name_or_path out, or name the policy itself, whose head is then learnt from the"
        " start"
    )
    args.actor.model_name_or_path = str(tiny.policy)
    assert len(refused(args, options)) == 1
    args.train.agent_func_path = "agent.py"
    assert len(refused(args, options)) == 1


def flags_of(tiny, **others):
    given = {"actor.model_name_or_path": str(tiny.policy)}
    return (given | {name.replace("__", "."): value for name, value in others.items()}).get


def with_cost(folder):
    return load_profile("medical").with_overrides({"cost.model": str(folder)})


def test_models_of_several_constraints_are_named_by_their_place(tiny, tmp_path):
    path = tmp_path / "p.yaml"
    path.write_text(
        f"constraints:\n  harm: {{risk: mean, cost: {{model: {tiny.policy}}}}}\n"
        f"  privacy: {{risk: mean, cost: {{model: {tiny.cost_model}}}}}\n"
    )
    (found,) = training_problems(flags_of(tiny), load_profile(path))
    assert found.startswith("constraints.harm.cost.model is ")


@pytest.fixture
def other_words(tiny, model):
    """The tiny cost model with a tokenizer that has two ids exchanged."""
    folder = model()
    held = json.loads((folder / "tokenizer.json").read_text())
    vocab = held["model"]["vocab"]
    vocab["help-ba"], vocab["harm-ba"] = vocab["harm-ba"], vocab["help-ba"]
    (folder / "tokenizer.json").write_text(json.dumps(held))
    return folder


def test_a_reward_model_must_know_the_policy_s_token_ids(tiny, other_words, model):
    profile = with_cost(other_words)  # a cost model reads texts by its own
    assert training_problems(flags_of(tiny), profile) == []
    assert training_problems(flags_of(tiny, reward__model_name_or_path=str(tiny.cost_model)), profile) == []
    (found,) = training_problems(flags_of(tiny, reward__model_name_or_path=str(other_words)), profile)
    assert f"{other_words}; its tokenizer is not the policy's: 'harm-ba' has the id " in found
    assert found.endswith("--reward.remote_url, or name a model with the policy's tokenizer")
    ends = model()
    config = json.loads((ends / "tokenizer_config.json").read_text())
    (ends / "tokenizer_config.json").write_text(json.dumps(config | {"eos_token": "<|im_start|>"}))
    (found,) = training_problems(flags_of(tiny, reward__model_name_or_path=str(ends)), profile)
    assert "answers end with '<|im_start|>' there and '<|im_end|>' here" in found
    # The same words in another layout of the file are the same tokenizer.
    held = json.loads((ends / "tokenizer.json").read_text())
    (ends / "tokenizer.json").write_text(json.dumps(held, indent=4))
    (ends / "tokenizer_config.json").write_text(json.dumps(config))
    assert training_problems(flags_of(tiny, reward__model_name_or_path=str(ends)), profile) == []
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (ends / name).unlink()
    (found,) = training_problems(flags_of(tiny, reward__model_name_or_path=str(ends)), profile)
    assert "its tokenizer cannot be compared with the policy's" in found


def test_a_cost_model_needs_a_tokenizer(tiny, model):
    folder = model()
    for path in folder.glob("tokenizer*"):
        path.unlink()
    (found,) = problems([RatingModel("cost.model", str(folder))])
    assert "its folder holds no tokenizer (tokenizer.json, …)" in found


@pytest.mark.parametrize("held", ["file", "text", "list"])
def test_the_chat_format_is_transformers_own(held, tiny, model):
    from transformers import AutoTokenizer

    folder = model()
    template = (
        "{%- if messages[0]['role'] != 'system' %}{{ bos_token }}be kind\n{% endif %}"
        "{% for message in messages %}\n    {{ message.role }}: {{ message.content | trim }}{{ eos_token }}"
        "\n{% if loop.last %}{% break %}{% endif %}{% endfor %}{% if add_generation_prompt %}bot:{% endif %}"
    )
    config = json.loads((folder / "tokenizer_config.json").read_text())
    if held == "file":
        (folder / "chat_template.jinja").write_text(template)
    else:
        (folder / "chat_template.jinja").unlink()
        value = template if held == "text" else [{"name": "default", "template": template}]
        config["chat_template"] = value
        (folder / "tokenizer_config.json").write_text(json.dumps(config))
    turns = [{"role": "user", "content": " hi "}]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    expected = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    assert rendered(str(folder), " hi ") == expected


def test_a_cost_model_of_another_chat_format_is_refused(tiny, model):
    folder = model()
    (folder / "chat_template.jinja").write_text("[INST]{{ messages[0].content }}[/INST]")
    for sent in ({"data__apply_chat_template": True}, {"data__input_template": "<|im_start|>user\\n{}"}):
        (found,) = training_problems(flags_of(tiny, **sent), with_cost(folder))
        assert "by its chat template it reads prompts like '[INST]Which words?[/INST]', and the" in found
        assert "use --data.input_template '[INST]{}[/INST]', or, if it was trained on" in found
    for sent in ({}, {"data__input_template": "[INST]{}[/INST]"}):
        assert training_problems(flags_of(tiny, **sent), with_cost(folder)) == []
    assert training_problems(flags_of(tiny, data__apply_chat_template=True), with_cost(tiny.cost_model)) == []


def test_the_header_says_where_the_file_ends(model):
    """Against the library's own reader, for a file one byte short."""
    from safetensors import SafetensorError, safe_open

    path = model() / "model.safetensors"
    whole = path.read_bytes()
    (length,) = struct.unpack("<Q", whole[:8])
    path.write_bytes(whole[:-1])
    with pytest.raises(SafetensorError):
        safe_open(path, "pt")
    assert "torn" in of(path.parent)[0]
    path.write_bytes(whole[: 8 + length] + whole[8 + length :])
    assert of(path.parent) == []
