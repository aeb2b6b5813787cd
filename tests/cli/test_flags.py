"""Flags from a command line and from YAML, merged."""

import re

import pytest
from openrlhf_rad.cli import flags

from openrlhf_rad.errors import ConfigError
from openrlhf_rad.plugin import command_line


def test_words_to_flags_and_back():
    words = ["--a.b", "1", "--c", "--d=x", "--e", "-10", "10"]
    parsed = flags.from_words(words)
    assert parsed == {"a.b": ["1"], "c": [], "d": ["x"], "e": ["-10", "10"]}
    assert flags.to_words(parsed) == ["--a.b", "1", "--c", "--d", "x", "--e", "-10", "10"]
    assert flags.from_words(["--a", "1", "--a", "2"]) == {"a": ["2"]}


def test_a_word_that_is_no_flag():
    with pytest.raises(ConfigError) as error:
        flags.from_words(["medical"])
    assert str(error.value) == (
        "medical is not an option; options of rad-train come first, OpenRLHF's flags after --;"
        " write for instance rad-train --profile medical -- --actor.adam.lr 1e-5"
    )


def test_later_layers_win_and_null_takes_away():
    merged = flags.merge({"a": ["1"], "b": []}, {"b": None, "c": ["2"]}, {"a": ["3"]})
    assert merged == {"a": ["3"], "c": ["2"]}


def test_unknown_flags_are_named_with_the_likely_one():
    given = {"actor.adam.rl": ["1"], "rad.out": ["a"], "actor.adam.lr": ["1"]}
    assert flags.problems(given, {"actor.adam.rl": "f.yaml:2:5"}) == [
        "f.yaml:2:5: --actor.adam.rl is not a flag of OpenRLHF 0.11.2; did you mean --actor.adam.lr?",
        "after --: --rad.out is set by rad-train itself; write --out",
    ]


NUMBER = "it must be a whole number; 128 is the default"


@pytest.mark.parametrize(
    ("name", "values", "text"),
    [
        ("train.batch_size", ["abc"], f"is abc; {NUMBER}"),
        ("train.batch_size", ["1e3"], f"is 1e3; {NUMBER}"),
        ("train.batch_size", ["8", "16"], f"is 8 16; {NUMBER}"),
        ("train.batch_size", [], f"has no value; {NUMBER}"),
        (
            "algo.advantage.estimator",
            ["grpo"],
            "is grpo; it must be one of gae, reinforce, rloo, reinforce_baseline, group_norm, dr_grpo,"
            " flash_reinforce; GRPO is group_norm",
        ),
        (
            "train.colocate_all",
            ["yes"],
            "is yes; it takes no value: written, it is on; leave the value out, or the flag",
        ),
        ("reward.clip_range", ["5"], "is 5; it must be 2 values, each a number; -10 10 is the default"),
        ("actor.adam.lr", ["small"], "is small; it must be a number; 1e-06 is the default"),
        ("actor.model_name_or_path", [], "has no value; it must be a text"),
    ],
)
def test_values_that_openrlhf_refuses_are_named_before_the_start(name, values, text):
    assert flags.problems({name: values}, {}) == [f"after --: --{name} {text}"]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("pretrain", "write --actor.model_name_or_path"),
        ("n_samples_per_prompt", "write --rollout.n_samples_per_prompt"),
        ("micro_train_batch_size", "write --train.micro_batch_size"),
        ("lora_rank", "write --ds.lora.rank"),
        ("max_len", "write --data.max_len"),
        ("prompt_max_len", "write --data.max_len for prompt and answer together"),
    ],
)
def test_old_flags_get_their_new_names(old, new):
    assert flags.problems({old: ["1"]}, {}) == [f"after --: --{old} is not a flag of OpenRLHF 0.11.2; {new}"]


def test_every_new_name_of_an_old_flag_is_a_flag():
    known = command_line.installed().flags
    written = [name for text in command_line.ADVICE.values() for name in re.findall(r"--([a-z0-9_.]+)", text)]
    assert len(command_line.ADVICE) > 120
    assert [name for name in written if name not in known] == []
    assert [name for name in command_line.ADVICE if name in known] == []


def test_yaml_to_flags(tmp_path):
    path = tmp_path / "flags.yaml"
    path.write_text(
        "actor:\n  adam: {lr: 1e-4}\n  model_name_or_path: org/name\n"
        "vllm.enforce_eager: true\nds: {adam_offload: false, zero_stage: null}\n"
        "reward.clip_range: [-20, 20]\n--use_ms: true\n"
    )
    assert flags.load(path).flags == {
        "actor.adam.lr": ["0.0001"],
        "actor.model_name_or_path": ["org/name"],
        "vllm.enforce_eager": [],
        "ds.adam_offload": None,
        "ds.zero_stage": None,
        "reward.clip_range": ["-20", "20"],
        "use_ms": [],
    }
    assert flags.load(path).places["actor.adam.lr"] == f"{path}:2:14"


def test_an_empty_file_sets_nothing(tmp_path):
    (tmp_path / "flags.yaml").write_text("# nothing yet\n")
    assert flags.load(tmp_path / "flags.yaml").flags == {}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            "- a\n",
            ":1:1: the file holds a list; it must be a mapping of OpenRLHF's flags; write for instance"
            " rollout.batch_size: 16",
        ),
        (
            "true\n",
            ":1:1: the file holds one value; it must be a mapping of OpenRLHF's flags; write for instance"
            " rollout.batch_size: 16",
        ),
        ("a: []\n", ":1:4: a is an empty list; a flag takes at least one value; write null to leave it out"),
        ("a:\n  b: [[1]]\n", ":2:6: a.b is a list of more than texts and numbers; write it as [a, b]"),
        ("a: {}\n", ":1:4: a is an empty mapping; it must hold flags; remove it"),
        (
            "a: [b\n",
            ":2:1: this is not valid YAML: expected ',' or ']', but got '<stream end>';"
            " put commas between the items, and close the bracket",
        ),
    ],
)
def test_yaml_that_is_no_set_of_flags(tmp_path, text, problem):
    path = tmp_path / "flags.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as error:
        flags.load(path)
    assert str(error.value) == f"{path}{problem}"


def test_a_flag_given_nested_and_dotted(tmp_path):
    path = tmp_path / "flags.yaml"
    path.write_text("actor: {optim: adam}\nactor.optim: muon\n")
    with pytest.raises(ConfigError, match=r"actor\.optim is given twice; a flag may appear once"):
        flags.load(path)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(ConfigError) as error:
        flags.load(tmp_path / "no.yaml")
    assert str(error.value) == f"--config {tmp_path / 'no.yaml'}: there is no such file; check the path"
