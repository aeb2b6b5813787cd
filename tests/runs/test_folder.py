"""The folder of a run: kills, full disks, broken lines."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from openrlhf_rad.errors import ConfigError, EnvironmentProblem, RadError, ReferenceCostError
from openrlhf_rad.files import partial_name
from openrlhf_rad.method.reference import read_costs
from openrlhf_rad.profile import RiskProfile, load_profile
from openrlhf_rad.runs import RunFolder
from openrlhf_rad.runs.folder import METRICS, SUMMARY, Reference
from openrlhf_rad.runs.records import COLUMNS

ROW = {"prompt": "Größe?\n", "answer": "œ 😀\u2028x", "label": "benign", "reward": 0.5, "cost": -1.25}


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return RunFolder.create(tmp_path / "run")


def test_create_takes_new_and_empty_folders_only(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path / "a" / "b")
    run.write_command("rad-train --profile medical")
    with pytest.raises(ConfigError, match="holds a run"):
        RunFolder.create(run.path)
    RunFolder.create(run.path, exist_ok=True)
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.tex").write_text("words")
    with pytest.raises(ConfigError, match=r"thesis\.tex, which is not a file of a run"):
        RunFolder.create(other, exist_ok=True)
    with pytest.raises(ConfigError, match="it is a file"):
        RunFolder.create(other / "thesis.tex")
    assert (other / "thesis.tex").read_text() == "words"


def test_a_run_killed_before_its_first_file_can_begin_again(tmp_path: Path) -> None:
    (tmp_path / ".command.txt.partial").write_text("rad-tr")
    RunFolder.create(tmp_path, exist_ok=True)


def test_profile_reads_back_equal_and_shows_its_hash(run: RunFolder) -> None:
    profile = RiskProfile.from_text("medical: wang η=0.75")
    run.write_profile(profile)
    path = run.path / "profile.resolved.yaml"
    assert load_profile(path) == profile == run.read_profile()
    assert path.read_text().splitlines()[0] == f"# profile hash: {profile.hash}"


def test_metrics_have_all_columns_and_plain_numbers(run: RunFolder) -> None:
    run.append_metrics({"step": np.int64(1), "risk": np.float32(0.5), "custom": 3})
    run.append_metrics({"step": 2, "kl": None})
    first, second = run.read_metrics()
    assert [*first] == [*COLUMNS, "custom"]
    assert (first["step"], first["risk"], first["kl"], first["custom"]) == (1, 0.5, None, 3)
    assert second["step"] == 2


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"step": 3, "kl": float("nan")}, "step 3: kl is nan; it must be a finite number or null"),
        ({"step": 3, "risk": np.inf}, "risk is inf"),
        ({"step": 3, "risk": "high"}, "risk is 'high'"),
        ({"risk": 1.0}, "step is None"),
        ({"step": 1.5}, "step is 1.5"),
    ],
)
def test_metrics_refuse_what_is_no_finite_number(
    run: RunFolder, row: dict[str, object], message: str
) -> None:
    with pytest.raises(RadError, match=message):
        run.append_metrics(row)
    assert run.read_metrics() == []


def test_a_torn_last_line_is_passed_over_and_cut_by_the_next(run: RunFolder) -> None:
    run.append_metrics({"step": 1})
    with open(run.path / METRICS, "ab") as file:
        file.write('{"step": 2, "note": "é'.encode()[:-1])
    assert [row["step"] for row in run.read_metrics()] == [1]
    run.append_metrics({"step": 2})
    assert [row["step"] for row in run.read_metrics()] == [1, 2]


def test_steps_repeated_after_a_resume_count_once(run: RunFolder) -> None:
    for step, risk in [(1, 1.0), (2, 2.0), (3, 3.0), (2, 4.0)]:
        run.append_metrics({"step": step, "risk": risk})
    assert [(row["step"], row["risk"]) for row in run.read_metrics()] == [(1, 1.0), (2, 4.0), (3, 3.0)]


def test_a_broken_line_is_named_by_file_and_line(run: RunFolder) -> None:
    (run.path / METRICS).write_text('{"step": 1}\n{"step": \n{"step": 3}\n')
    with pytest.raises(RadError, match=r"metrics\.jsonl:2:\d+: the line is not JSON"):
        run.read_metrics()


def test_answers_round_trip_with_any_text(run: RunFolder) -> None:
    rows = [ROW, {**ROW, "label": None, "reward": None, "cost": np.float64(2)}]
    run.write_answers("before", rows)
    assert run.read_answers("before") == rows
    assert "Größe" in (run.path / "heldout_before.jsonl").read_text(encoding="utf-8")
    run.write_answers("after", [{**ROW, "answer": "half a pair \ud83d"}])
    assert run.read_answers("after")[0]["answer"] == "half a pair ?"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"prompt": "p", "ans', r"heldout_after\.jsonl:2:\d+: the line is not JSON"),
        ('{"prompt": "p", "answer": "a", "reward": 1}\n', r"jsonl:2: cost is missing"),
        ('{"prompt": "p", "answer": "a", "cost": NaN}\n', r"jsonl:2: cost is nan"),
        ('{"prompt": 7, "answer": "a", "cost": 1}\n', r"jsonl:2: prompt is 7"),
        ("[1]\n", r"jsonl:2: the line is no mapping"),
    ],
)
def test_a_broken_answer_is_named_by_file_and_line(run: RunFolder, line: str, message: str) -> None:
    (run.path / "heldout_after.jsonl").write_text(json.dumps(ROW) + "\n" + line)
    with pytest.raises(RadError, match=message):
        run.read_answers("after")


def test_answers_that_are_not_there_say_what_to_do(run: RunFolder) -> None:
    with pytest.raises(ConfigError, match=r"heldout_before\.jsonl: there is no such file.*run the training"):
        run.read_answers("before")


@pytest.mark.parametrize("finished", [True, False, None])
def test_the_files_keep_what_rad_eval_needs_to_rate_the_same_text(
    run: RunFolder, finished: bool | None
) -> None:
    """Without ``sent`` it would put the template around a prompt that has it already."""
    row = {**ROW, "sent": True, "finished": finished}
    kept = {key: value for key, value in row.items() if value is not None}
    run.write_answers("after", [row])
    run.append_samples([{"step": 1, **row}])
    assert run.read_answers("after") == [kept]
    assert json.loads((run.path / "samples.jsonl").read_text("utf-8").split("\n")[0]) == {**kept, "step": 1}


def test_samples_are_added(run: RunFolder) -> None:
    run.append_samples([{**ROW, "step": 1}, {**ROW, "step": 1}])
    run.append_samples([{**ROW, "step": 2}])
    lines = (run.path / "samples.jsonl").read_text(encoding="utf-8").split("\n")[:-1]
    assert [json.loads(line)["step"] for line in lines] == [1, 1, 2]


def test_a_bad_sample_among_many_adds_none_of_them(run: RunFolder) -> None:
    """Samples are written as they are made, megabytes before the bad one comes."""
    run.append_samples([{**ROW, "step": 1}])
    before = (run.path / "samples.jsonl").read_bytes()
    long = {**ROW, "step": 2, "answer": "é" * 100_000}
    seen: list[int] = []

    def samples() -> Iterator[dict[str, Any]]:
        for number in range(20):
            seen.append((run.path / "samples.jsonl").stat().st_size)
            yield {**long, "cost": float("nan") if number == 19 else 1.0}

    with pytest.raises(RadError, match="sample 20: cost is nan"):
        run.append_samples(samples())
    assert max(seen) > len(before) + 2**20
    assert (run.path / "samples.jsonl").read_bytes() == before


def test_reference_round_trip_and_its_errors(run: RunFolder) -> None:
    costs = {"harm": np.array([1.0, 2.5]), "privacy": np.array([0.5, -1.0])}
    run.write_reference(Reference(costs, np.array([0.0, 1.0]), ["ä", "b"], ["", "child"]))
    reference = run.read_reference()
    assert {name: cost_r.tolist() for name, cost_r in reference.costs.items()} == {
        "harm": [1.0, 2.5],
        "privacy": [0.5, -1.0],
    }
    assert reference.labels == ["", "child"]
    assert read_costs(run.path / "reference_costs.npz").tolist() == [1.0, 2.5]
    assert reference.cost_r.tolist() == [1.0, 2.5]
    assert reference.reward_r.tolist() == [0.0, 1.0]
    assert reference.prompts == ["ä", "b"]
    with pytest.raises(ReferenceCostError, match="3 prompts"):
        run.write_reference(reference._replace(prompts=["a", "b", "c"]))
    path = run.path / "reference_costs.npz"
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(ReferenceCostError, match="cannot be read"):
        run.read_reference()


@pytest.mark.parametrize("moment", ["os.write", "os.fsync", "os.replace"])
def test_a_kill_while_writing_leaves_the_old_file_whole(run: RunFolder, moment: str) -> None:
    run.write_summary({"verdict": "old"})
    code = (
        "import os, signal, sys\n"
        "from openrlhf_rad.runs import RunFolder\n"
        "kill = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        f"{moment} = kill\n"
        "RunFolder(sys.argv[1]).write_summary({'verdict': 'new' * 100})\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(run.path)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert partial_name(run.path / SUMMARY).exists()
    assert run.read_summary() == {"verdict": "old"}
    run.write_summary({"verdict": "new"})
    assert run.read_summary() == {"verdict": "new"}
    assert os.listdir(run.path) == [SUMMARY]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
def test_a_full_disk_keeps_the_old_file_and_says_so(run: RunFolder) -> None:
    run.write_summary({"verdict": "old"})
    partial_name(run.path / SUMMARY).symlink_to("/dev/full")
    with pytest.raises(
        EnvironmentProblem, match=r"summary\.json: .*disk is full \([\d,.]+ MB free\).*intact"
    ):
        run.write_summary({"verdict": "new"})
    assert run.read_summary() == {"verdict": "old"}


def test_a_disk_that_fills_in_midst_of_a_line_keeps_the_lines_before(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    run.append_metrics({"step": 1})
    before = (run.path / METRICS).read_bytes()
    write, calls = os.write, []

    def fills_up(descriptor: int, data: bytes) -> int:
        calls.append(len(data))
        if len(calls) == 1:
            return write(descriptor, bytes(data)[:10])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", fills_up)
    with pytest.raises(EnvironmentProblem, match="lines written before are intact"):
        run.append_metrics({"step": 2})
    monkeypatch.undo()
    assert len(calls) == 2
    assert (run.path / METRICS).read_bytes() == before


def test_a_run_that_goes_on_forgets_what_came_after_its_checkpoint(run: RunFolder) -> None:
    for step in range(1, 6):
        run.append_metrics({"step": step, "cost_mean": float(step)})
        run.append_samples([{"step": step, **ROW}, {"step": step, **ROW}])
        run.append_alarm(step, "inert", f"step {step}: inert")
    with open(run.path / METRICS, "a") as file:
        file.write('{"step": 6, "cost')  # torn by the kill
    run.write_answers("before", [ROW])
    run.write_answers("after", [ROW])
    run.rewind(3)
    run.flush()
    assert [row["step"] for row in run.read_metrics()] == [1, 2, 3]
    assert (run.path / METRICS).read_bytes().endswith(b"}\n")
    samples = [json.loads(line) for line in (run.path / "samples.jsonl").read_text("utf-8").split("\n")[:-1]]
    assert [sample["step"] for sample in samples] == [1, 1, 2, 2, 3, 3]
    assert run.read_alarms() == ["step 1: inert", "step 2: inert", "step 3: inert"]
    assert run.read_answers("before")
    assert not (run.path / "heldout_after.jsonl").exists()
    run.append_metrics({"step": 4})
    assert [row["step"] for row in run.read_metrics()] == [1, 2, 3, 4]
    run.append_alarm(0, "inverted", "step 0: said again by the run that begins anew")
    run.rewind(0)
    assert (run.read_metrics(), run.read_alarms()) == ([], [])


def test_a_run_that_begins_anew_keeps_nothing(run: RunFolder) -> None:
    run.append_metrics({"step": 1})
    run.write_answers("before", [ROW])
    run.write_reference(Reference({"cost": np.arange(2.0)}, np.zeros(2), ["a", "b"], ["", ""]))
    run.rewind(0)
    assert run.read_metrics() == []
    assert [path.name for path in run.path.iterdir()] == [METRICS]
