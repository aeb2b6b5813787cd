"""The command: exit codes and error.txt."""

import signal
import sys

import pytest
import ray
from openrlhf.trainer import ppo_trainer, ppo_trainer_async
from openrlhf.trainer import ray as trainer_ray
from openrlhf.trainer.ray import launcher, ppo_actor, ppo_critic, vllm_engine
from openrlhf.utils import config
from ray.exceptions import ActorDiedError

from openrlhf_rad.errors import (
    CostError,
    RadError,
)
from openrlhf_rad.plugin import compatibility, launch
from openrlhf_rad.plugin.cpu import backend, fork_server
from openrlhf_rad.plugin.launch import main
from openrlhf_rad.runs import RunFolder, checkpoints


@pytest.fixture
def run_main(monkeypatch, tmp_path, capsys):
    """Runs main() in this process as on a CPU; what it puts in place is taken back, and Ray cannot start."""

    def no_ray(gpus):
        raise AssertionError(f"Ray was asked for {gpus} GPUs")

    monkeypatch.setattr(backend, "_start_ray", no_ray)
    monkeypatch.setenv("OPENRLHF_RAD_BACKEND", "cpu")
    monkeypatch.chdir(tmp_path)
    for owner, name in [
        (ppo_trainer, "PPOTrainer"),
        (ppo_trainer_async, "PPOTrainerAsync"),
        (trainer_ray, "create_vllm_engines"),
        (ppo_critic, "CriticModelActor"),
        (launcher, "ReferenceModelActor"),
        (launcher, "RewardModelActor"),
        (vllm_engine, "RolloutRayActor"),
        (ppo_actor, "PolicyModelActor"),
        (launcher, "RayActorGroup"),
        (config, "hierarchize"),
        (ray, "shutdown"),
        (sys, "argv"),
    ]:
        monkeypatch.setattr(owner, name, getattr(owner, name))
    handler = signal.getsignal(signal.SIGTERM)
    yield lambda *words: (main(list(words)), capsys.readouterr().err)
    signal.signal(signal.SIGTERM, handler)
    fork_server.stop()


def test_a_profile_that_is_not_valid_ends_with_2(run_main, tmp_path):
    (tmp_path / "bad.yaml").write_text("name: bad\nrisk: cvar α=1.7\n")
    code, shown = run_main("--rad.profile", "bad.yaml", "--rad.out", "out")
    assert code == 2
    assert shown.startswith("\nProfileError: bad.yaml:2")
    assert not (tmp_path / "out").exists()


def test_a_mistyped_flag_ends_with_2(run_main):
    code, shown = run_main("--rad.profile", "medical", "--rad.loses", "ppo")
    assert (code, shown) == (
        2,
        "\nConfigError: --rad.loses is not a flag of RAD; did you mean --rad.loss?\n",
    )


def test_refused_flags_end_with_2_and_leave_nothing_behind(run_main, tmp_path):
    flags = ("--vllm.num_engines", "1", "--algo.advantage.lambd", "0.9", "--rad.loss", "reinforce")
    code, shown = run_main("--rad.profile", "medical", "--rad.out", "out", *flags)
    assert code == 2
    (line,) = [line for line in shown.splitlines() if line.startswith("ConfigError: ")]
    assert line.startswith("ConfigError: --algo.advantage.lambd 0.9 takes a part of λ·s from the critic")
    assert "\n8 updates a rollout" in shown
    assert list(tmp_path.iterdir()) == []


def test_the_folder_is_opened_once_the_flags_are_accepted(run_main, tmp_path):
    flags = ["--reward.remote_url", "reward.py", "--vllm.num_engines", "1"]
    with pytest.raises(AssertionError, match="Ray was asked for 4 GPUs"):
        run_main("--rad.profile", "medical", "--rad.out", "out", *flags)
    command = (tmp_path / "out" / "command.txt").read_text()
    assert command == f"python -m openrlhf_rad --rad.profile medical --rad.out out {' '.join(flags)}\n"
    assert "name: medical" in (tmp_path / "out" / "profile.resolved.yaml").read_text()


def test_what_is_checked_is_what_a_cpu_runs(run_main):
    """OpenRLHF's eight GPUs a model are one here: a critic's batch need not be a multiple of eight shares."""
    flags = (
        "--algo.advantage.estimator",
        "gae",
        "--reward.remote_url",
        "reward.py",
        "--vllm.num_engines",
        "1",
    )
    batch = ("--train.batch_size", "4", "--train.micro_batch_size", "4", "--rollout.batch_size", "4")
    with pytest.raises(AssertionError, match="Ray was asked for 4 GPUs"):
        run_main("--rad.profile", "medical", "--rad.out", "out", *flags, *batch)


def test_untested_versions_end_with_3(run_main, tmp_path, monkeypatch):
    monkeypatch.setattr(compatibility, "installed", lambda package: "99.0")
    code, shown = run_main("--rad.profile", "medical", "--rad.out", "out")
    assert code == 3
    assert "EnvironmentProblem: openrlhf 99.0 was not tested" in shown
    assert "vllm 99.0 was not tested" in shown
    assert not (tmp_path / "out").exists()


def test_flags_for_a_gpu_are_refused_in_plain_openrlhf_too(run_main, tmp_path):
    code, shown = run_main("--ds.packing_samples")
    assert (code, shown) == (
        2,
        "\nConfigError: --ds.packing_samples needs a GPU and there is none; leave it out\n",
    )
    assert list(tmp_path.iterdir()) == []


def test_a_mistake_in_openrlhf_s_flags_is_openrlhf_s(run_main, capsys):
    with pytest.raises(SystemExit) as stop:
        run_main("--no.such_flag")
    assert stop.value.code == 2
    assert "unrecognized arguments: --no.such_flag" in capsys.readouterr().err


def test_the_error_of_an_earlier_start_does_not_stay(run_main, tmp_path, monkeypatch):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "command.txt").touch()
    (tmp_path / "out" / "error.txt").touch()
    monkeypatch.setattr(launch, "run", lambda options, rest, vigil, accepted: accepted())
    assert run_main("--rad.profile", "medical", "--rad.out", "out")[0] == 0
    assert not (tmp_path / "out" / "error.txt").exists()


def test_a_folder_of_another_s_is_left_as_it_was(run_main, tmp_path, monkeypatch):
    monkeypatch.setattr(launch, "run", lambda options, rest, vigil, accepted: accepted())
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "thesis.tex").write_text("words")
    code, shown = run_main("--rad.profile", "medical", "--rad.out", "thesis")
    assert code == 2
    assert "it holds thesis.tex, which is not a file of a run" in shown
    assert [path.name for path in (tmp_path / "thesis").iterdir()] == ["thesis.tex"]


def test_an_error_in_the_run_is_printed_and_written_down(run_main, tmp_path, monkeypatch):
    def fail(options, rest, vigil, accepted):
        assert rest == ["--vllm.num_engines", "1"]
        accepted()
        raise CostError("cost server http://h/ failed")

    monkeypatch.setattr(launch, "run", fail)
    code, shown = run_main("--rad.profile", "medical", "--rad.out", "out", "--vllm.num_engines", "1")
    text = "cost server http://h/ failed\nno checkpoint was finished yet: the same command begins anew\n"
    assert (code, shown) == (1, f"\nCostError: {text}")
    assert (tmp_path / "out" / "error.txt").read_text() == text


def test_the_last_whole_checkpoint_is_named(run_main, tmp_path, monkeypatch):
    def die(options, rest, vigil, accepted):
        accepted()
        raise ActorDiedError

    monkeypatch.setattr(launch, "run", die)
    held = tmp_path / "saved" / "_actor" / "global_step40"
    held.mkdir(parents=True)
    checkpoints.seal(held.parent, held.name, "profile")
    code, shown = run_main(
        "--rad.profile", "medical", "--rad.out", "out", "--ckpt.path", str(tmp_path / "saved")
    )
    assert code == 3
    assert shown.startswith("\nEnvironmentProblem: a process of the run has died: ")
    assert shown.endswith(
        f"\nthe last whole checkpoint is of step 40 in {tmp_path / 'saved'}: the same command with"
        " --ckpt.load_enable resumes from it\n"
    )


def test_a_folder_with_a_run_is_not_written_over(run_main, tmp_path, monkeypatch):
    monkeypatch.setattr(launch, "run", lambda options, rest, vigil, accepted: accepted())
    folder = RunFolder.create(tmp_path / "out")
    folder.append_metrics({"step": 1})
    code, shown = run_main("--rad.profile", "medical", "--rad.out", "out")
    assert code == 2
    assert shown.startswith(
        f"\nConfigError: {tmp_path / 'out'} holds a run; name another folder by --rad.out"
    )


def test_other_errors_keep_their_traceback(run_main, tmp_path, monkeypatch):
    def fail(options, rest, vigil, accepted):
        accepted()
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(launch, "run", fail)
    with pytest.raises(ZeroDivisionError, match="a bug"):
        run_main("--rad.profile", "medical", "--rad.out", "out")
    assert not (tmp_path / "out" / "error.txt").exists()


def test_the_exit_code_of_each_error():
    codes = {cls.__name__: cls.exit_code for cls in RadError.__subclasses__()}
    assert codes == {
        "ProfileError": 2,
        "ConfigError": 2,
        "EnvironmentProblem": 3,
        "CostError": 1,
        "RewardError": 1,
        "DataError": 2,
        "JudgeError": 1,
        "RunError": 1,
        "ReferenceCostError": 1,
        "TransportError": 1,
        "WatchStop": 1,
    }
