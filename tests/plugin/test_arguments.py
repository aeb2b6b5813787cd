"""The --rad.* flags: taken off the command line, the rest untouched."""

import pytest

from openrlhf_rad.errors import ConfigError, ProfileError
from openrlhf_rad.plugin.arguments import overrides, parse
from openrlhf_rad.profile import load_profile

PLAIN = [
    "--actor.model_name_or_path",
    "a model",
    "--reward.clip_range",
    "-10",
    "10",
    "--data.input_template={} and more",
    "--actor.adam.betas",
    "0.9",
    "0.95",
    "--train.async_enable",
    "--data.label_key",
    "",
    "-h",
]


def test_without_a_profile_openrlhf_gets_the_command_line_as_it_is():
    assert parse(PLAIN) == (None, PLAIN)


@pytest.mark.parametrize("place", [0, 2, 5, len(PLAIN)])
def test_rad_flags_are_taken_off_wherever_they_stand(place, tmp_path):
    flags = ["--rad.profile", "medical", "--rad.out", str(tmp_path), "--rad.fixed_dual", "0"]
    options, rest = parse([*PLAIN[:place], *flags, *PLAIN[place:]])
    assert rest == PLAIN
    assert options.profile == load_profile("medical")
    assert options.out == tmp_path
    assert options.fixed_dual == 0.0


def test_all_options_are_read(tmp_path):
    flags = "--rad.profile=cvar --rad.heldout=h.jsonl --rad.loss=ppo --rad.fixed_dual=0.5 --rad.any_version"
    options, rest = parse(
        [
            *flags.split(),
            "--rad.cost_num_nodes=2",
            "--rad.cost_num_gpus_per_node=3",
            "--rad.heldout_samples=4",
        ]
    )
    assert rest == []
    assert (options.profile.name, options.heldout, options.loss) == ("cvar", "h.jsonl", "ppo")
    assert (options.fixed_dual, options.cost_nodes, options.cost_gpus_per_node) == (0.5, 2, 3)
    assert options.heldout_samples == 4
    assert options.any_version


def test_defaults(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options, _ = parse(["--rad.profile", "medical"])
    assert options.out == tmp_path / "runs" / "medical"
    assert (options.loss, options.fixed_dual, options.heldout) == (None, None, None)
    assert (options.cost_nodes, options.cost_gpus_per_node, options.any_version) == (1, 1, False)
    assert options.heldout_samples == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["--rad.profile", "medical", "--rad.lose", "ppo"],
            "--rad.lose is not a flag of RAD; did you mean --rad.loss?",
        ),
        (["--rad.profil", "medical"], "--rad.profil is not a flag of RAD; did you mean --rad.profile?"),
        (["--rad.lossy=1"], "--rad.lossy=1 is not a flag of RAD; did you mean --rad.loss?"),
        (["--rad.out", "runs/a"], "--rad.out needs --rad.profile FILE|NAME"),
        (["--rad.set=dual.step=1"], "--rad.set=dual.step=1 needs --rad.profile FILE|NAME"),
        (["--rad.profile"], "argument --rad.profile: expected one argument; see"),
        (["--rad.profile", "medical", "--rad.loss", "dpo"], "argument --rad.loss: invalid choice: 'dpo'"),
        (["--rad.profile", "medical", "--rad.fixed_dual", "no"], "invalid float value: 'no'"),
        (
            ["--rad.profile", "medical", "--rad.heldout_samples", "0"],
            "argument --rad.heldout_samples: it is 0; it must be a whole number of at least 1; see",
        ),
        (
            ["--rad.profile", "medical", "--rad.cost_num_nodes", "0"],
            "argument --rad.cost_num_nodes: it is 0; it must be a whole number of at least 1; see",
        ),
        (["--rad.profile", "medical", "--rad.set", "dual.step"], "dual.step has no '='; write"),
    ],
)
def test_mistakes_are_named(words, message):
    with pytest.raises(ConfigError) as error:
        parse([*PLAIN, *words])
    assert message in str(error.value)


def test_help_names_every_flag(capsys):
    with pytest.raises(SystemExit) as stop:
        parse(["--rad.help"])
    assert stop.value.code == 0
    shown = capsys.readouterr().out
    for name in (
        "profile",
        "set",
        "out",
        "heldout",
        "heldout_samples",
        "loss",
        "fixed_dual",
        "soft_risk",
        "cost_num_nodes",
        "any_version",
    ):
        assert f"--rad.{name}" in shown


def test_overrides_reach_the_profile():
    plain = load_profile("medical")
    options, _ = parse(
        ["--rad.profile", "medical", "--rad.set", "dual.step=0.25", "--rad.set", "risk=wang η=1"]
    )
    assert options.profile.dual.step == 0.25 != plain.dual.step
    assert options.profile.risk != plain.risk
    assert options.profile.constraint == plain.constraint


def test_an_override_that_is_not_valid_is_a_profile_error():
    with pytest.raises(ProfileError, match=r"dual\.stepp"):
        parse(["--rad.profile", "medical", "--rad.set", "dual.stepp=0.25"])


def test_a_value_may_hold_equals_signs():
    assert overrides(["cost.remote_url=http://h/?a=b", "dual.step=1"]) == {
        "cost.remote_url": "http://h/?a=b",
        "dual.step": "1",
    }


@pytest.mark.parametrize(("word", "kept"), [("all", None), ("0", 0), ("50", 50)])
def test_so_many_answers_are_logged(word, kept):
    assert parse(["--rad.profile", "medical"])[0].log_answers == 256
    assert parse(["--rad.profile", "medical", "--rad.log_answers", word])[0].log_answers == kept


@pytest.mark.parametrize("word", ["-1", "some", "1.5"])
def test_a_number_of_answers_to_log_that_is_none_is_refused(word):
    message = f"it is {word}; it must be a whole number of at least 0, or all; see python -m openrlhf_rad"
    with pytest.raises(ConfigError, match=message):
        parse(["--rad.profile", "medical", f"--rad.log_answers={word}"])
