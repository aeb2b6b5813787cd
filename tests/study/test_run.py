"""``rad study`` from the file to the page: it goes on where it was killed, and refuses what does not fit."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from openrlhf_rad.cli import machine, study_run

from openrlhf_rad.errors import ConfigError, EnvironmentProblem
from openrlhf_rad.runs.folder import Reference, RunFolder
from openrlhf_rad.study import training
from openrlhf_rad.study.folder import StudyFolder
from openrlhf_rad.study.scoring import EvaluatedJob, refuse_overlap
from openrlhf_rad.study.spec import EvaluationPlan, load_study

WORDS = [sys.executable, "-m", "openrlhf_rad.cli.rad", "study"]


def study(*words):
    return subprocess.run([*WORDS, *map(str, words)], capture_output=True, text=True, check=False)


def test_a_killed_study_ends_with_the_tables_of_one_left_alone(study_file, tmp_path):
    whole = study(study_file("alone", steps=60))
    assert whole.returncode == 0, whole.stderr
    assert "lowers its own risk against" in whole.stdout
    path = study_file("killed", steps=60)
    process = subprocess.Popen([*WORDS, path], start_new_session=True, stderr=subprocess.DEVNULL)
    while len(list((tmp_path / "killed").rglob("*.npz"))) < 2:
        assert process.poll() is None
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    kept = {file: file.stat().st_mtime_ns for file in (tmp_path / "killed").rglob("*.npz")}
    again = study(path)
    assert again.returncode == 0, again.stderr
    assert all(file.stat().st_mtime_ns == time for file, time in kept.items())
    for name in ("tables.json", "data/policies.parquet", "data/steps.parquet", "frontier.svg"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "alone" / name).read_bytes()
    page = (tmp_path / "killed" / "report.html").read_text()
    assert "<script" not in page
    assert "Table 3, held-out" in page


def test_a_dry_run_starts_nothing(study_file, tmp_path):
    done = study(study_file(), "--dry-run")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "study small: 5 models, 2 seeds, 8 runs",
        "baseline sft: mean, not trained",
        "baseline safe-rlhf: mean, expected, level 0.2 of reference spread, margin 0",
        "variant uniform: mean, no_worse, level 0.1 of reference spread, margin 0.3 of reference spread",
        "variant cvar: cvar α=0.75, no_worse, level 0.1 of reference spread, margin 0.3 of reference spread",
        "frontier safe-rlhf×0.5: mean, expected, level 0.1 of reference spread, margin 0",
        f"write {tmp_path / 'out'}",
    ]
    assert not (tmp_path / "out").exists()


def test_seeds_and_models_may_be_added_and_nothing_else(study_file, tmp_path):
    first = load_study(study_file())
    StudyFolder(first).open(first)
    more = load_study(study_file(seeds=3, change=lambda text: text.replace("cvar]\nset", "cvar, wang]\nset")))
    assert StudyFolder(more).problem(more) == ""
    out = tmp_path / "out"
    other = load_study(study_file(change=lambda text: text.replace("20% of", "30% of")))
    assert (
        StudyFolder(other)
        .problem(other)
        .startswith(f"{out}: the study there began with other settings (sft: profile ")
    )
    assert (
        StudyFolder(other)
        .problem(other)
        .endswith(
            "ask 0.2 of reference spread → 0.3 of reference spread); only seeds and models may be added to"
            " it; name another folder by out:, or set them back"
        )
    )
    longer = load_study(study_file(steps=21))
    assert StudyFolder(longer).problem(longer) == (
        f"{out}: it holds runs of another world (steps 20 → 21); all runs of a study are of one world; name"
        " another folder by out:, or set the world back"
    )


def test_runs_of_another_job_are_refused(tmp_path):
    text = "out: {out}\nprofiles: [cvar]\njob: {{preset: {preset}}}\nevaluation: {{held-out: a.jsonl}}\n"
    path = tmp_path / "study.yaml"
    path.write_text(text.format(out=tmp_path / "out", preset="tiny"))
    first = load_study(path)
    StudyFolder(first).open(first)
    path.write_text(text.format(out=tmp_path / "out", preset="default"))
    done = study(path)
    assert (done.returncode, done.stderr) == (
        2,
        f"error: {tmp_path / 'out'}: it holds runs of another job (preset tiny → default); all runs of a"
        " study are of one job; name another folder by out:, or set the job back\n",
    )


def test_a_folder_with_other_things_is_left_alone(study_file, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").touch()
    done = study(study_file())
    assert (done.returncode, done.stderr) == (
        2,
        f"error: {tmp_path / 'out'}: it holds other things than a study; a study writes only to an empty"
        " folder or its own; name another by out:\n",
    )


def test_a_run_whose_model_is_gone_is_told(tmp_path):
    run = tmp_path / "cvar" / "1"
    (run / "plots").mkdir(parents=True)
    with pytest.raises(ConfigError) as caught:
        training.done(run)
    assert str(caught.value) == (
        f"{run / 'model'}: the run has come to its end and its model is missing; every model of a study is"
        f" evaluated; put it back, or remove {run} to train it again"
    )
    (run / "model").mkdir()
    (run / "model" / "config.json").touch()
    assert training.done(run)
    assert not training.done(tmp_path / "cvar" / "2")


def test_how_many_runs_are_done_and_how_long_the_others_take(monkeypatch):
    waiting = ["a", "b", "c"]
    monkeypatch.setattr(machine, "expected", lambda plan: {"start": 20.0, "training": 400.0})
    assert study_run.progress_so_far(5, waiting, []) == "2 of 5 runs are done, about 21 min of training left"
    pace = [60.0, 120.0]
    assert study_run.progress_so_far(5, waiting, pace) == "2 of 5 runs are done, about 4 min of training left"
    monkeypatch.setattr(machine, "expected", lambda plan: {})
    assert study_run.progress_so_far(5, waiting, []) == "2 of 5 runs are done"


@pytest.mark.parametrize(
    ("dual", "violation", "bound"),
    [(0.0, -2.0, False), (0.5, -2.0, True), (0.0, -0.1, True), (0.0, 0.3, True)],
)
def test_a_run_whose_constraint_bound_nothing_is_told(tmp_path, dual, violation, bound):
    write_run(tmp_path, dual, violation)
    told = training.unbound(tmp_path)
    assert (told == "") == bound
    if not bound:
        assert "λ stands at 0 and the violation at −1 spreads: nothing was bound there" in told


def write_run(path, dual, violation):
    """A run of eight steps with these in its last quarter, and a spread of 2."""
    cost_r = np.array([-2.0, 2.0] * 8)
    run = RunFolder(path)
    run.write_reference(Reference({"cost": cost_r}, np.full(16, np.nan), ["p"] * 16, [""] * 16))
    for step in range(1, 9):
        last = step > 6
        run.append_metrics(
            {"step": step, "lambda": dual if last else 1.0, "violation": violation if last else 1.0}
        )
    run.flush()


def test_a_run_that_is_done_keeps_its_model_and_no_checkpoints(tmp_path):
    for name in ("model", "checkpoints"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "weights").touch()
    training.tidy(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    training.tidy(tmp_path)


@pytest.mark.parametrize("launcher", [["tee", "-a", "{log}"], ["sh", "-c", "{}"]], ids=["words", "one word"])
def test_a_run_is_handed_over_once(launcher, tmp_path):
    log = tmp_path / "log"
    words = [word.replace("{log}", str(log)) for word in launcher]
    command = ["echo", "a b"] if "{}" in words else [str(tmp_path / "a b")]
    for _ in range(2):
        training.launch(words, command, tmp_path / "cvar" / "1")
    note = tmp_path / "cvar" / "1.handed over.txt"
    assert note.read_text().splitlines()[-1] == ("a b" if "{}" in words else note.read_text().splitlines()[0])
    note.unlink()
    with pytest.raises(EnvironmentProblem) as caught:
        training.launch(["false"], command, tmp_path / "cvar" / "1")
    assert str(caught.value) == (
        f"launcher: false ended with exit code 1 for {tmp_path / 'cvar' / '1'}: ; mend launcher: in the"
        " study, the same command goes on"
    )
    assert not note.exists()


def test_prompts_that_are_trained_on_are_refused(study_file, tmp_path):
    held = tmp_path / "heldout.jsonl"
    held.write_text("".join(json.dumps({"input": text}) + "\n" for text in ("a new one", "an old one")))
    plain = load_study(study_file())
    asked = type(plain)(**{**vars(plain), "evaluation": EvaluationPlan({"held-out": str(held)})})
    job = EvaluatedJob("model", None, None, None, None, {"train.jsonl": ["an old one", "another"]})
    with pytest.raises(ConfigError) as caught:
        refuse_overlap(asked, job)
    assert str(caught.value) == (
        f"evaluation.held-out is {held}; 1 of its 2 prompts are trained on, in train.jsonl, first 'an old"
        " one'; a model is judged on prompts that it has not seen; name others"
    )


@pytest.fixture
def job_file(tmp_path, tiny):
    """Writes the file of a study of the tiny preset."""

    def write(heldout="@tiny/heldout.jsonl", launcher="echo", more=""):
        path = tmp_path / "job.yaml"
        path.write_text(
            f"out: {tmp_path / 'job'}\nseeds: 2\nbaselines: [safe-rlhf]\nprofiles: [cvar]\n"
            f"job: {{preset: tiny}}\nevaluation: {{held-out: '{heldout}'{more}}}\nlauncher: {launcher}\n"
        )
        return path

    return write


@pytest.fixture(scope="module")
def tiny():
    from openrlhf_rad.jobs.prepare import prepare_tiny

    return prepare_tiny()


@pytest.mark.parametrize("words", [["--dry-run"], []])
def test_a_judge_that_cannot_judge_is_told_before_anything_is_trained(job_file, tmp_path, words):
    (tmp_path / "judge.py").write_text("def costs(queries, prompts, labels): ...\n")
    done = study(job_file(more=", independent: judge.py"), *words)
    assert done.returncode == 2
    assert done.stderr.strip().endswith(
        f"evaluation.independent is {tmp_path / 'judge.py'}; it defines costs; it must define"
        " cost_func(queries, prompts, labels)"
    )
    assert not (tmp_path / "job" / "runs").exists()


def test_a_launcher_s_run_that_has_ended_is_tidied_and_judged(job_file, tmp_path):
    run = tmp_path / "job" / "runs" / "safe-rlhf" / "0"
    assert study(job_file()).returncode == 75
    for name in ("plots", "model", "checkpoints"):
        (run / name).mkdir(parents=True)
    write_run(run, 0, -2)
    (run / "model" / "config.json").touch()
    done = study(job_file())
    assert done.returncode == 75
    assert "safe-rlhf, seed 0: over the last quarter of its steps λ stands at 0" in done.stderr + done.stdout
    assert not (run / "checkpoints").exists()
    assert "3 of 4 runs are with the launcher" in done.stdout


def test_with_a_launcher_the_study_says_what_it_waits_for(job_file, tmp_path):
    for _ in range(2):  # the second hands nothing over
        done = study(job_file())
        first = tmp_path / "job" / "runs" / "safe-rlhf" / "0"
        assert done.returncode == 75, done.stderr
        assert done.stdout == (
            f"4 of 4 runs are with the launcher, the first is {first}; run the same command again when they"
            " are done; to hand one over again, remove its file '0.handed over.txt'\n"
        )
    notes = sorted((tmp_path / "job" / "runs").rglob("*.txt"))
    words = notes[0].read_text().split()
    assert len(notes) == 4
    assert words[0] == "echo"
    assert words[words.index("--seed") + 1] == "0"
    flags = (tmp_path / "job" / "flags" / "cvar.yaml").read_text()
    assert flags == "rad.heldout: null\n"


def test_a_dry_run_of_a_job_looks_at_its_prompts(job_file, tiny):
    done = study(job_file("@tiny/train.jsonl"), "--dry-run")
    assert done.returncode == 2
    assert done.stderr.startswith(
        f"error: evaluation.held-out is @tiny/train.jsonl; 256 of its 256 prompts are trained on, in"
        f" {tiny.train_prompts}, first "
    )
    fine = study(job_file(), "--dry-run")
    assert (fine.returncode, fine.stderr) == (0, "")
    commands = [line for line in fine.stdout.splitlines() if line.startswith("echo ")]
    assert [line.split()[line.split().index("--seed") + 1] for line in commands] == ["0", "1", "0", "1"]


def test_one_variant_without_a_frontier_has_no_rival(study_file, tmp_path):
    def alone(text):
        text = text.replace("[uniform, cvar]", "[cvar]")
        return "".join(
            line for line in text.splitlines(keepends=True) if not line.startswith(("frontier", "feas"))
        )

    done = study(study_file(change=alone))
    assert (done.returncode, "Warning" in done.stderr) == (0, False), done.stderr
    (first, *_) = json.loads((tmp_path / "out" / "tables.json").read_text())
    assert [row[0] for row in first["rows"]] == ["H1", "H2", "H4"]
