"""Options to one command: presets, the user's own jobs, and what dry runs print."""

import json
import shlex
import subprocess
import sys

import pytest
from openrlhf_rad.cli import plan, preflight, prompts, show
from openrlhf_rad.cli.plan import TrainOptions

from openrlhf_rad.errors import ConfigError, ProfileError
from openrlhf_rad.jobs.chat import TEMPLATE
from openrlhf_rad.jobs.presets import PRESETS
from openrlhf_rad.plugin.arguments import parse


def make(*words, **options):
    return plan.make(TrainOptions(words=words, **options))


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("OPENRLHF_RAD_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "cache"


def test_without_a_model_the_default_preset_runs_under_medical(tmp_path, cache):
    made = make()
    assert made.preset is PRESETS["default"]
    assert made.profile.name == "medical"
    assert made.profile.cost is not None
    assert made.profile.cost.kind == "model"
    assert made.flags["actor.model_name_or_path"] == [str(cache / "policy")]
    assert made.flags["data.input_template"] == [TEMPLATE]
    assert "\n" in TEMPLATE
    assert made.out.parent == tmp_path / "runs"
    assert made.out.name.endswith("-medical")


def test_with_a_model_only_the_users_flags_remain():
    words = ["--actor.model_name_or_path", "org/name", "--rollout.batch_size", "8"]
    made = make(*words, profile="cvar", overrides=["cost.remote_url=http://localhost:5000"])
    assert made.preset is None
    assert made.flags == {"actor.model_name_or_path": ["org/name"], "rollout.batch_size": ["8"]}
    assert made.environment == {}


def test_preset_then_file_then_command_line(tmp_path):
    path = tmp_path / "flags.yaml"
    path.write_text("actor.adam.lr: 0.5\nrollout.batch_size: 8\nds.adam_offload: false\n")
    made = make("--rollout.batch_size", "4", preset="tiny", config=path, seed=7)
    assert made.flags["actor.adam.lr"] == ["0.5"]
    assert made.flags["rollout.batch_size"] == ["4"]
    assert made.flags["train.seed"] == ["7"]
    assert made.flags["train.batch_size"] == ["64"]
    assert "ds.adam_offload" not in made.flags


def test_a_model_in_the_file_of_flags_means_no_preset(tmp_path):
    path = tmp_path / "flags.yaml"
    path.write_text("actor: {model_name_or_path: org/name}\n")
    made = make(config=path, profile="medical", overrides=["cost.function=cost.py"])
    assert made.preset is None


def test_the_training_process_reads_the_command_as_it_was_planned(tmp_path):
    """The command goes through a shell and RAD's own parser, and comes out the same."""
    made = make("--rad.fixed_dual", "0", preset="tiny", out=tmp_path / "a run", overrides=["dual.step=0.3"])
    made.out.mkdir()
    made.profile_file.write_text(made.profile.to_yaml())
    shown = made.shell_command
    assert shown.startswith(f"HF_HUB_OFFLINE=1 {sys.executable} -m openrlhf_rad \\\n  --rad.profile ")
    words = shlex.split(shown.replace("\\\n", ""))[1:]
    assert words == made.command
    options, rest = parse(words[3:])
    assert options.profile == made.profile
    assert options.profile.dual.step == 0.3
    assert options.out == made.out
    assert options.fixed_dual == 0
    assert rest[rest.index("--data.input_template") + 1] == TEMPLATE


def test_the_tiny_presets_paths_are_those_that_are_prepared():
    """Prepared in a process of its own, as rad-train does it: the libraries that this takes warn a lot."""
    words = [sys.executable, "-m", "openrlhf_rad.jobs.prepare", "--preset", "tiny"]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    prepared = dict(line.split(maxsplit=1) for line in done.stdout.splitlines())
    made = make(preset="tiny")
    assert made.flags["actor.model_name_or_path"] == [prepared["policy"]]
    assert made.flags["data.prompt_dataset"] == [prepared["train_prompts"]]
    assert made.flags["rad.heldout"] == [prepared["heldout_prompts"]]
    assert made.flags["reward.remote_url"] == [prepared["reward_file"]]
    assert made.profile.cost is not None
    assert made.profile.cost.location == prepared["cost_file"]
    assert sorted(made.assets) == sorted(
        prepared[name] for name in ("policy", "train_prompts", "heldout_prompts")
    )
    assert preflight.input_problems(made) == []
    assert prompts.steps(made) == 48


@pytest.mark.parametrize("name", ["tiny", "default"])
def test_presets_make_one_update_a_rollout_and_fill_their_micro_batches(name):
    """REINFORCE is unbiased for the first update of a rollout only."""
    flags = PRESETS[name].flags
    samples = flags["rollout.batch_size"] * flags["rollout.n_samples_per_prompt"]
    assert samples == flags["train.batch_size"]
    assert samples % flags["rollout.micro_batch_size"] == 0
    assert samples % flags["train.micro_batch_size"] == 0
    assert flags["data.max_samples"] % flags["rollout.batch_size"] == 0


def test_a_profiles_own_cost_wins_over_the_presets(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("risk: mean\ncost: {function: cost.py}\n")
    made = make(preset="tiny", profile=str(path))
    assert made.profile.cost.location == str(tmp_path / "cost.py")


@pytest.mark.parametrize(
    ("options", "words", "error", "text"),
    [
        (
            {"preset": "tinny"},
            [],
            ConfigError,
            "--preset is tinny; it must be one of default, tiny; did you mean tiny?",
        ),
        (
            {},
            ["--actor.model_name_or_path", "org/name"],
            ConfigError,
            "no risk profile is named; add --profile FILE|NAME, for instance --profile medical",
        ),
        (
            {"preset": "tiny"},
            ["--rad.fixed_dul", "0"],
            ConfigError,
            "--rad.fixed_dul is not a flag of RAD; did you mean --rad.fixed_dual?",
        ),
        (
            {"preset": "tiny"},
            ["--rad.loss", "dpo"],
            ConfigError,
            "argument --rad.loss: invalid choice: 'dpo' (choose from 'reinforce', 'ppo');"
            " see python -m openrlhf_rad --rad.help",
        ),
        (
            {"preset": "tiny", "overrides": ["risk.alpha=1.7"]},
            [],
            ProfileError,
            "--set risk.alpha: risk.alpha is 1.7; it must lie in (0, 1); for the worst 10 % use 0.9",
        ),
        (
            {"preset": "tiny", "overrides": ["dual.steps=1"]},
            [],
            ProfileError,
            "--set dual.steps: dual.steps is not a key of dual; the keys are initial, step, max, method,"
            " gap, estimate, memory, confidence, proportional, derivative, smoothing, delay;"
            " did you mean step?",
        ),
        (
            {"preset": "tiny", "overrides": ["dual.step"]},
            [],
            ConfigError,
            "--set dual.step has no '='; write --set dual.step=0.2",
        ),
        (
            {"preset": "tiny"},
            ["--rollout.batch_size", "many"],
            ConfigError,
            "after --: --rollout.batch_size is many; it must be a whole number; 1024 is the default",
        ),
    ],
)
def test_what_is_refused(options, words, error, text):
    with pytest.raises(error) as found:
        show.dry_run(make(*words, **options))
    assert str(found.value) == text


def test_a_dry_run_says_what_a_judge_will_be_asked(tmp_path):
    """24 reference answers; 10 prompts, 4 a rollout of 2 answers each; 3 held out, twice."""
    for name, count in (("train", 10), ("held", 3)):
        rows = "".join(json.dumps({"input": f"p{i}"}) + "\n" for i in range(count))
        (tmp_path / f"{name}.jsonl").write_text(rows)
    judge = {"model": "m", "base_url": "http://127.0.0.1:9/v1", "price_in": "1", "price_out": "2"}
    flags = {
        "actor.model_name_or_path": "m",
        "reward.remote_url": "http://x",
        "data.prompt_dataset": str(tmp_path / "train.jsonl"),
        "rad.heldout": str(tmp_path / "held.jsonl"),
        "rollout.batch_size": "4",
        "rollout.n_samples_per_prompt": "2",
        "data.max_len": "100",
    }
    made = make(
        *(word for name, value in flags.items() for word in (f"--{name}", value)),
        profile="medical",
        overrides=["reference.samples=24", *(f"cost.judge.{key}={value}" for key, value in judge.items())],
    )
    calls = 24 + 3 * 8 + 2 * 3
    (line,) = show.judged(made)
    assert line.startswith(f"m at http://127.0.0.1:9/v1: at most {calls} calls, about ")
    assert f" tokens in (4 bytes a token) and at most {16 * calls} out: at most about 0.0" in line
    assert line.endswith(" at the prices given")
    assert line in show.dry_run(made)


def test_a_dry_run_shows_everything_that_decides_the_run():
    made = make(preset="tiny")
    text = show.dry_run(made)
    assert "64 particles; share of the weight: 10.0% on the worst 1 %, 50.0% on the worst 5 %" in text
    assert (
        "best ▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁██ worst, in 20 bins of equal probability\n" + "0 " * 18 + "10 10\n" in text
    )
    assert f"# cost\nfunction: {made.profile.cost.location}\n" in text
    assert f"# reward\nreward.remote_url: {made.flags['reward.remote_url'][0]}\n" in text
    assert made.profile.to_yaml() in text
    assert text.endswith("# command\n" + made.shell_command)
