"""What is shown of a run where stderr is no terminal."""

import os

from openrlhf_rad.cli.progress import BEFORE, STARTING, TRAINING, Follower, State, display

from openrlhf_rad.runs.folder import REFERENCE, RunFolder


def rows(first, last):
    return [{"step": step, "cost_mean": float(step)} for step in range(first, last + 1)]


def shown(capsys):
    return [line.partition("] ")[2] for line in capsys.readouterr().err.splitlines()]


def test_a_run_that_goes_on_shows_its_new_steps_alone(capsys):
    """Five steps on record, two of them since the last checkpoint, which are done again."""
    with display(9) as show:
        show(State(STARTING, rows(1, 5)))
        show(State(TRAINING, rows(1, 3)))
        show(State(TRAINING, rows(1, 4)))
        show(State(TRAINING, rows(1, 6)))
    words = [line.partition("  ")[0] for line in shown(capsys)]
    assert words == [STARTING, TRAINING, "step 4/9", "step 5/9", "step 6/9"]


def test_a_run_that_begins_shows_every_step(capsys):
    with display(None) as show:
        show(State(STARTING))
        show(State(TRAINING, rows(1, 2)))
    assert shown(capsys) == [STARTING, TRAINING, "step 1  cost 1", "step 2  cost 2"]


def test_what_a_watch_says_is_shown_once_and_not_again_where_it_was_said_before(tmp_path, capsys):
    folder = RunFolder.create(tmp_path)
    folder.append_alarm(1, "inert", "step 1: of the part before a stop")
    watch = Follower(folder, 9, heldout=False, told=["said before the start"])
    folder.append_alarm(0, "inverted", "step 0: said before the start")
    with display(9) as show:
        show(watch.read())
        folder.append_alarm(0, "inverted", "step 0: no prompt carries the label")
        show(watch.read())
        show(watch.read())
    assert [line for line in capsys.readouterr().err.splitlines() if line.startswith("note")] == [
        "note: step 0: no prompt carries the label"
    ]


def test_the_start_is_told_step_by_step_from_what_the_log_says(tmp_path):
    """Lines of an earlier start do not count, nor does half a line."""
    folder = RunFolder.create(tmp_path / "run")
    folder.log.write_text("Started a local Ray instance.\ninit engine (profile) took 2 s\n")
    watch = Follower(folder, 9, True)
    seen = [watch.read().phase]
    for text in (
        "Started a local Ray inst",
        "ance.\nmore\n",
        "(EngineCore) init engine (profile, …) took 2 s\n",
    ):
        with folder.log.open("a") as file:
            file.write(text)
        seen.append(watch.read().phase)
    assert seen == [
        STARTING,
        STARTING,
        "starting: Ray is up, models and engines load",
        "starting: engines are up, the reference answers",
    ]
    (folder.path / REFERENCE).touch()
    assert watch.read().phase == BEFORE
    folder.log.write_text("begun anew")  # a log that is shorter is read from its beginning
    os.utime(folder.path / REFERENCE, (0, 0))
    assert watch.read().starts
