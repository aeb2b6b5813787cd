"""One run from the options to the report."""

from __future__ import annotations

import os
import shlex
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from openrlhf_rad.errors import ConfigError, EnvironmentProblem, RadError
from openrlhf_rad.files import keep_from_others
from openrlhf_rad.jobs.presets import place
from openrlhf_rad.plugin.arguments import parse
from openrlhf_rad.plugin.compatibility import check_versions
from openrlhf_rad.processes import MarkedProcess, stoppable
from openrlhf_rad.profile.addresses import sealed
from openrlhf_rad.runs.folder import ERROR, SUMMARY, RunFolder

from . import flags as flag
from . import machine, preflight, prompts, show
from . import plan as planning
from .plan import HELDOUT, Plan
from .progress import Follower, display
from .terminal import INTERRUPTED, console, say
from .train import TrainOptions

if TYPE_CHECKING:
    from openrlhf_rad.runs.summary import IndependentCost

_LOG_LINES = 30
_POLL_SECONDS = 0.5


def main(options: TrainOptions) -> int:
    """Do what the options ask for; returns the exit code, 130 after Ctrl-C."""
    keep_from_others()
    try:
        if options.report is not None:
            report_again(options.report)
            return 0
        plan = planning.make(options)
        notes = preflight.notes(plan)
        say("note", notes)
        return rehearse(plan) if options.dry_run else perform(plan, notes)
    except RadError as error:
        say("error", error)
        return error.exit_code
    except KeyboardInterrupt:
        return INTERRUPTED


def before(argv: list[str]) -> int | None:
    """Check a command of ``python -m openrlhf_rad`` before the stack is imported, or show what it would do.

    Returns:
        The exit code where the command ends here; None where it is to start.
    """
    keep_from_others()
    try:
        options, _ = parse(argv)
        if options is None:
            check_versions(any_version=True)
            return None
        plan = planning.of_command(argv, options)
        if options.dry_run:
            say("note", preflight.notes(plan))
            return rehearse(plan)
        if wrong := preflight.input_problems(plan):
            raise ConfigError("\n".join(wrong))
        check_versions(options.any_version)
    except RadError as error:
        say("error", error)
        return error.exit_code
    return None


def rehearse(plan: Plan) -> int:
    """``--dry-run``: print the plan and what would stop it; only wrong input is a failure."""
    print(show.dry_run(plan), flush=True)
    with suppress(EnvironmentProblem):  # what is not installed is told below
        print("\n".join(["\n# on this machine", *machine.expectation(plan)]), flush=True)
    wrong = preflight.input_problems(plan)
    say("error", wrong)
    say("on this machine", machine.problems(plan))
    return 2 if wrong else 0


def perform(plan: Plan, told: Sequence[str] = ()) -> int:
    """Prepare, train, report; returns the exit code."""
    preflight.check(plan)
    for line in machine.expectation(plan):
        print(line, file=sys.stderr, flush=True)
    with stoppable():
        prepare(plan)
        code = train(plan, told)
        if code == 0:
            finish(plan)
        return code


def command(plan: Plan) -> list[str]:
    """The words of the training process."""
    return plan.command


def train(plan: Plan, told: Sequence[str] = ()) -> int:
    """Run the training process to its end; returns its exit code, 130 when it was stopped.

    What watches say is shown as it comes, but for what was ``told`` before the start.
    """
    folder = RunFolder.create(plan.out, exist_ok=True)
    (plan.out / ERROR).unlink(missing_ok=True)
    folder.write_profile(plan.profile)
    total = prompts.steps(plan)
    follower = Follower(folder, total, HELDOUT in plan.flags, told)
    print(f"run {plan.out}", file=sys.stderr, flush=True)
    if plan.checkpoint:
        print(f"resuming from {plan.checkpoint}", file=sys.stderr, flush=True)
    # The process reads the profile from the folder, where secrets have names, and them from its environment.
    _, secrets = sealed(plan.profile)
    process = MarkedProcess(command(plan), folder.log, {**plan.environment, **secrets})
    try:
        with display(total) as present:
            while process.wait(_POLL_SECONDS) is None:
                present(follower.read())
            present(follower.read())
    except KeyboardInterrupt:
        print("stopping: Ray and vLLM get 20 s to end; Ctrl-C again kills them", file=sys.stderr, flush=True)
        process.stop()
        print(f"stopped; what the run wrote is in {plan.out}", file=sys.stderr)
        return INTERRUPTED
    finally:
        process.sweep()
    code = process.poll() or 0
    if code:
        _explain(plan, folder.log, code)
    return code if code >= 0 else 128 - code


def _explain(plan: Plan, log: Path, code: int) -> None:
    """Say why the training process failed, in its own words or by the end of its log, and how to go on."""
    try:
        say("error", (plan.out / ERROR).read_text(encoding="utf-8").splitlines())
    except FileNotFoundError:
        ended = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-_LOG_LINES:]
        print("\n".join(lines), file=sys.stderr)
        memory = "; most often the machine has run out of memory" if code == -signal.SIGKILL else ""
        say("error", [f"the training process {ended}{memory}; the last lines of its log stand above"])
        if plan.checkpoint:
            say(
                "error",
                [f"the last whole checkpoint is of {plan.checkpoint}; the same command resumes there"],
            )
    print(f"log: {log}", file=sys.stderr)


def prepare(plan: Plan) -> None:
    """Build the preset's assets in a process of their own, for it needs torch.

    Raises:
        EnvironmentProblem: they could not be built.
    """
    if plan.preset is None or not plan.assets:
        return
    quiet = ["-W", "ignore::FutureWarning"]  # torch's own, while it is imported
    words = [
        sys.executable,
        *quiet,
        "-m",
        "openrlhf_rad.jobs.prepare",
        "--preset",
        plan.preset.name,
        "--quiet",
    ]
    process = MarkedProcess(words, log=None)
    try:
        while process.wait(_POLL_SECONDS) is None:
            pass
    finally:
        process.stop(seconds=5.0)
    missing = [path for path in plan.assets if not Path(path).exists()]
    if process.poll() or missing:
        what = f"; {missing[0]} is not there" if missing else ""
        raise EnvironmentProblem(
            f"the files of preset {plan.preset.name} could not be prepared{what}; the reason stands above;"
            " mend it and run the command again"
        )


def finish(plan: Plan) -> None:
    """Summarise a finished run, draw it and print its report; independent costs for the default preset only.

    Raises:
        RadError: a file of the run is broken.
    """
    os.environ.setdefault("MPLBACKEND", "Agg")  # a window that opens by itself would hold the run up
    from openrlhf_rad.report.pictures import plot_run
    from openrlhf_rad.runs.summary import summarise

    folder = RunFolder(plan.out)
    plot_run(folder)
    if folder.answered:
        summarise(folder, _independent_cost(plan))
        _print_report(folder)
    else:
        print(f"run {plan.out} is done; for a table of before and after, add -- --rad.heldout FILE.jsonl")
    print(f"\nmodel  {flag.value(plan.flags, 'ckpt.output_dir')}")
    print(f"run    {plan.out}: metrics.jsonl, samples.jsonl, summary.json, plots/, train.log")
    print(f"next   rad report {shlex.quote(str(plan.out))} --open")


def _print_report(folder: RunFolder) -> None:
    """The report; with the costliest answers, which may be harmful, where somebody looks at a terminal."""
    from openrlhf_rad.report.terminal import print_report

    looked_at = sys.stdout.isatty()
    print_report(folder, console(), samples=3 if looked_at else 0)
    if not looked_at:
        print(f"\nThe answers stand in {folder.path}/heldout_before.jsonl and heldout_after.jsonl.")


def report_again(path: Path) -> None:
    """Print the report of a run that is there. Raises ConfigError where it has no held-out answers."""
    from openrlhf_rad.runs.summary import summarise

    folder = RunFolder(path)
    if not (path / SUMMARY).exists():
        summarise(folder)
    _print_report(folder)


def _independent_cost(plan: Plan) -> IndependentCost | None:
    if plan.preset is None or plan.preset.independent_cost is None or not plan.assets:
        return None
    from openrlhf_rad.jobs.prepare import silence_libraries

    silence_libraries()
    from openrlhf_rad.jobs import independent_cost  # imports torch

    return independent_cost.IndependentCost.load(Path(place(plan.preset.independent_cost, plan.out))).score
