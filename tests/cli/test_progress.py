"""What is shown of a run where stderr is no terminal."""

from openrlhf_rad.cli.progress import STARTING, TRAINING, State, display


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
