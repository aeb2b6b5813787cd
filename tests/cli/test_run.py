"""Runs from start to end, with a stand-in for the training process: it ends well, fails, or is stopped."""

import json
import os
import signal
import subprocess
import time

import psutil
import pytest

from openrlhf_rad.runs.folder import RunFolder

#: Starts a daemon as Ray does: in a session of its own, deaf to Ctrl-C; then writes a step.
DAEMON = """
import json, pathlib, signal, subprocess, sys, time
out = pathlib.Path(sys.argv[1])
daemon = subprocess.Popen(
    [sys.executable, "-c", "import signal, time; signal.signal(2, signal.SIG_IGN); time.sleep(300)"],
    start_new_session=True,
)
(out / "metrics.jsonl").write_text(json.dumps({"step": 1, "cost_mean": 0.5}) + "\\n")
(out / "pids").write_text(f"{daemon.pid} {__import__('os').getpid()}")
"""
WAITS = "time.sleep(300)\n"
DEAF = "signal.signal(signal.SIGINT, signal.SIG_IGN)\n(out / 'deaf').touch()\n" + WAITS

WHOLE = """
import sys, time
import numpy as np
from openrlhf_rad.runs.folder import Reference, RunFolder
folder = RunFolder(sys.argv[1])
print("training")
rng = np.random.default_rng(0)
folder.write_reference(Reference({"cost": rng.random(16)}, rng.random(16), ["a"] * 16, [""] * 16))
for kind, shift in (("before", 1.0), ("after", 0.0)):
    folder.write_answers(kind, [
        {"prompt": f"question {i}", "answer": f"answer {i}", "reward": 0.5, "cost": shift + float(cost)}
        for i, cost in enumerate(rng.random(32))
    ])
    if kind == "before":
        for step in (1, 2):
            row = {"reward_mean": 0.25, "cost_mean": 0.5, "risk": 0.75, "lambda": 1.0}
            folder.append_metrics({"step": step, **row})
            time.sleep(0.7)
"""


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


def wait_for(path):
    deadline = time.monotonic() + 60
    while not path.exists() or (path.name == "pids" and len(path.read_text().split()) < 2):
        assert time.monotonic() < deadline, f"{path} did not appear"
        time.sleep(0.05)


def alive(pids):
    processes = [psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)]
    return [process for process in processes if process.status() != psutil.STATUS_ZOMBIE]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_stop_ends_every_process_of_the_run(job, rad_train, number):
    process = rad_train.start(job.words, DAEMON + WAITS)
    out = job.folder / "run"
    wait_for(out / "pids")
    pids = [int(word) for word in (out / "pids").read_text().split()]
    assert len(alive(pids)) == 2
    process.send_signal(number)
    code, _, err = finish(process)
    assert code == 130, err
    assert alive(pids) == []
    assert f"stopped; what the run wrote is in {out}" in err
    assert [row["cost_mean"] for row in RunFolder(out).read_metrics()] == [0.5]
    assert RunFolder(out).read_profile().name == "medical"
    assert "KeyboardInterrupt" in (out / "train.log").read_text()


def test_a_second_ctrl_c_kills_a_process_that_will_not_stop(job, rad_train):
    process = rad_train.start(job.words, DAEMON + DEAF)
    out = job.folder / "run"
    wait_for(out / "pids")
    wait_for(out / "deaf")
    pids = [int(word) for word in (out / "pids").read_text().split()]
    process.send_signal(signal.SIGINT)
    time.sleep(1)
    assert len(alive(pids)) == 2
    process.send_signal(signal.SIGINT)
    code, _, err = finish(process)
    assert code == 130, err
    assert alive(pids) == []


def test_what_a_crash_leaves_behind_is_ended_too(job, rad_train):
    code, _, err = finish(rad_train.start(job.words, DAEMON + "raise SystemExit(1)\n"))
    assert code == 1, err
    assert alive([int(word) for word in (job.folder / "run" / "pids").read_text().split()]) == []


def test_processes_of_others_are_left_alone(job, rad_train):
    other = subprocess.Popen(["sleep", "60"], env={**os.environ, "OPENRLHF_RAD_RUN": "another"})
    try:
        assert finish(rad_train.start(job.words, "raise SystemExit(1)\n"))[0] == 1
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


def test_a_run_that_fails_says_why_in_its_own_words(job, rad_train):
    stand_in = (
        "import pathlib, sys\n"
        "(pathlib.Path(sys.argv[1]) / 'error.txt').write_text('cost.py: prompt 3 has no cost\\nmend it\\n')\n"
        "raise SystemExit(3)\n"
    )
    code, out, err = finish(rad_train.start(job.words, stand_in))
    assert code == 3
    assert out == ""
    log = job.folder / "run" / "train.log"
    assert err.splitlines()[-3:] == ["error: cost.py: prompt 3 has no cost", "error: mend it", f"log: {log}"]


def test_a_run_that_dies_shows_the_end_of_its_log(job, rad_train):
    stand_in = "for number in range(99):\n    print('line', number)\nraise SystemExit(1)\n"
    code, _, err = finish(rad_train.start(job.words, stand_in))
    assert code == 1
    lines = err.splitlines()
    assert "line 68" not in lines
    assert lines[-32:-2] == [f"line {number}" for number in range(69, 99)]
    assert lines[-2] == (
        "error: the training process ended with exit code 1; the last lines of its log stand above"
    )


def test_a_run_that_is_killed(job, rad_train):
    code, _, err = finish(rad_train.start(job.words, "import os\nos.kill(os.getpid(), 9)\n"))
    assert code == 137
    assert (
        "error: the training process was killed by signal 9; most often the machine has run out of memory;"
        " the last lines of its log stand above"
    ) in err.splitlines()


def test_a_run_that_ends_well_is_reported_and_can_be_again(job, rad_train):
    words = [*job.words, "--rad.heldout", str(job.folder / "prompts.jsonl")]
    code, out, err = finish(rad_train.start(words, WHOLE))
    assert code == 0, err
    folder = job.folder / "run"
    steps = [line.partition("] ")[2] for line in err.splitlines() if "] step" in line]
    assert steps == [f"step {step}/2  reward 0.25  cost 0.5  risk 0.75  λ 1" for step in (1, 2)]
    assert json.loads((folder / "summary.json").read_text())["answers"] == 32
    assert list((folder / "plots").glob("*.png"))
    assert "32 answers to 32 held-out prompts" in out
    code, again, err = finish(rad_train.start(["--report", str(folder)], ""))
    assert code == 0, err
    report, _, where = out.rpartition("\nmodel  ")
    assert again == report
    assert where.splitlines()[-1] == f"next   rad report {folder} --open"


def test_a_report_of_a_folder_without_a_run(tmp_path, rad_train):
    code, _, err = finish(rad_train.start(["--report", str(tmp_path / "no")], ""))
    assert code == 2
    assert err.startswith("error: ")
    assert str(tmp_path / "no") in err


def test_a_dry_run_starts_nothing_and_fails_on_wrong_input(job, rad_train):
    code, out, err = finish(rad_train.start(["--dry-run", *job.words], "raise SystemExit(9)"))
    assert code == 0
    assert err.splitlines() == [
        "note: the watch inverted is off: no prompt carries the label harmful, there are no labels; name"
        " their key by --data.label_key and the one that means harm by watches.harmful_label in the profile,"
        " or set watches.inverted to off"
    ]
    assert "# loss\nREINFORCE, the paper's\n" in out
    assert "# command\n" in out
    assert not (job.folder / "run").exists()
    (job.folder / "reward.py").unlink()
    code, out, err = finish(rad_train.start(["--dry-run", *job.words], ""))
    assert code == 2
    missing = job.folder / "reward.py"
    must = "it must define reward_func(queries, prompts, labels)"
    assert f"\nerror: --reward.remote_url is {missing}; there is no such file; {must}\n" in err
    assert "# command\n" in out
