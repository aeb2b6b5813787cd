"""What ``rad study`` does once its options are read."""

from __future__ import annotations

import os
import shlex
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from openrlhf_rad.errors import ConfigError, EnvironmentProblem, RadError
from openrlhf_rad.evaluation.sources import Rating, Sampling, parse_rating
from openrlhf_rad.files import keep_from_others
from openrlhf_rad.processes import stoppable
from openrlhf_rad.profile import named_costs
from openrlhf_rad.report.tables import TextTable
from openrlhf_rad.study import enumerated, training
from openrlhf_rad.study.folder import StudyFolder
from openrlhf_rad.study.run import FRONTIER, TABLES, evaluate, keep_data, report
from openrlhf_rad.study.scoring import EvaluatedJob, refuse_overlap
from openrlhf_rad.study.spec import Model, Study, load_study
from openrlhf_rad.study.tables import verdict_table
from openrlhf_rad.tables import rows

from . import flags as flag
from . import prompts
from .evaluate_run import progress, rating_problems
from .plan import MODEL, Plan
from .terminal import INTERRUPTED, console, say

#: Some runs are with a launcher; as sysexits.h numbers what may be tried again.
WAITING = 75


def main(file: Path, out: Path | None, processes: int, keep: Path | None, *, dry_run: bool) -> int:
    """Do what the options ask for; returns the exit code, 130 after Ctrl-C."""
    keep_from_others()
    os.environ.setdefault("MPLBACKEND", "Agg")  # a window that opens by itself would hold the command up
    try:
        study = load_study(file)
        study = study if out is None else replace(study, out=out)
        folder = StudyFolder(study)
        if problem := folder.problem(study):
            raise ConfigError(problem)
        if dry_run:
            print(rehearsal(study, folder), flush=True)
            return 0
        folder.open(study)
        if study.world is not None:
            with stoppable(), progress() as show:
                enumerated.perform(study, folder, processes, show)
        elif code := _jobs(study, folder):
            return code
        if keep is not None:
            keep_data(folder, keep)
        show_table(verdict_table(report(study, folder.data, folder.path)))
        print(f"\n{study.out}: report.html, {TABLES}, {FRONTIER}.png, data/")
    except RadError as error:
        say("error", error)
        return error.exit_code
    except KeyboardInterrupt:
        print("stopped; the same command goes on", file=sys.stderr)
        return INTERRUPTED
    return 0


def show_table(values: TextTable) -> None:
    """A table on the terminal."""
    from rich.table import Table

    table = Table(*values.head, title=values.title, title_justify="left", box=None, pad_edge=False)
    for row in values.rows:
        table.add_row(*(cell.replace("**", "") for cell in row))
    console().print(table)


def rehearsal(study: Study, folder: StudyFolder) -> str:
    """What would be done, a line a model and a command a run.

    Raises:
        ConfigError: what would stop a run.
    """
    runs = sum(model.trained for model in study.models) * len(study.seeds)
    lines = [f"study {study.name}: {len(study.models)} models, {len(study.seeds)} seeds, {runs} runs"]
    for model in study.models:
        asks = model.profile.constraint
        how = "not trained" if not model.trained else f"{asks.form}, level {asks.level}, margin {asks.margin}"
        lines.append(f"{model.role} {model.name}: {model.profile.risk}, {how}")
    if study.job is not None:
        from .preflight import input_problems

        for model, seed in runs_of(study):
            lines.append(shlex.join([*study.launcher, *training.command(folder, study.job, model, seed)]))
        with TemporaryDirectory() as name:
            plans = [plan for *_, plan in _plans(study, folder, StudyFolder(replace(study, out=Path(name))))]
            if wrong := dict.fromkeys(text for plan in plans for text in input_problems(plan)):
                raise ConfigError("\n".join(wrong))
            if waiting := [plan for plan in plans if not study.launcher and not training.done(plan.out)]:
                with suppress(EnvironmentProblem):  # without the stack no format is chosen
                    lines.append(f"{progress_so_far(len(plans), waiting, [])} here, alone")
            if all(Path(path).exists() for path in plans[0].assets):
                _check_evaluation(study, _job(plans[0]))
    return "\n".join([*lines, f"write {study.out}"])


def runs_of(study: Study) -> list[tuple[Model, int]]:
    """Every training."""
    return [(model, seed) for model in study.models if model.trained for seed in study.seeds]


def _jobs(study: Study, folder: StudyFolder) -> int:
    """Train and evaluate on the real stack; the exit code of a run that failed, 75 while some wait."""
    from . import preflight, run

    assert study.job is not None
    plans = _plans(study, folder, folder)
    with stoppable():
        run.prepare(plans[0][2])
    job = _job(plans[0][2])
    _check_evaluation(study, job)
    for model, seed, plan in plans:
        if training.done(plan.out):  # a launcher's runs end between two calls
            _settle(model, seed, plan)
    waiting = [(model, seed, plan) for model, seed, plan in plans if not training.done(plan.out)]
    if wrong := dict.fromkeys(text for *_, plan in waiting for text in preflight.input_problems(plan)):
        raise ConfigError("\n".join(wrong))
    pace: list[float] = []
    for place, (model, seed, plan) in enumerate(waiting):
        if study.launcher:
            command = training.command(folder, study.job, model, seed)
            training.launch(study.launcher, command, plan.out)
            continue
        begun = time.monotonic()
        done = progress_so_far(len(plans), [one for *_, one in waiting[place:]], pace)
        print(f"\n{done}; {model.name}, seed {seed}", file=sys.stderr, flush=True)
        code = run.perform(plan)
        if code == INTERRUPTED:
            raise KeyboardInterrupt
        if code:
            say("error", [f"{model.name}, seed {seed}: the run ended with exit code {code}, see above"])
            return code
        _settle(model, seed, plan)
        pace.append(time.monotonic() - begun)
    if left := [plan.out for *_, plan in plans if not training.done(plan.out)]:
        print(
            f"{len(left)} of {len(plans)} runs are with the launcher, the first is {left[0]}; run the same"
            f" command again when they are done; to hand one over again, remove its file"
            f" '{left[0].name}.{training.HANDED}'"
        )
        return WAITING
    with stoppable(), progress() as show:
        evaluate(study, folder, job, show)
    return 0


def _check_evaluation(study: Study, job: EvaluatedJob) -> None:
    """Raise ConfigError for what would stop the evaluation once all is trained."""
    refuse_overlap(study, job)
    if study.evaluation.independent is not None:
        rating = parse_rating("cost", study.evaluation.independent)
        if problems := rating_problems([rating], {"cost": "evaluation.independent"}):
            raise ConfigError("\n".join(problems))


def _settle(model: Model, seed: int, plan: Plan) -> None:
    """Say of a run that is done whether it bound anything in the end, and keep no checkpoints of it."""
    if model.fixed_dual is None and (why := training.unbound(plan.out)):
        say("note", [f"{model.name}, seed {seed}: {why}"])
    training.tidy(plan.out)


def progress_so_far(total: int, waiting: Sequence[Plan], pace: Sequence[float]) -> str:
    """How many runs are done, and how long the others take: as those of this call, or as is expected."""
    from . import machine

    each = float(np.mean(pace)) if pace else sum(machine.expected(waiting[0]).values())
    known = f", about {machine.duration(each * len(waiting))} of training left" if each else ""
    return f"{total - len(waiting)} of {total} runs are done{known}"


def _plans(study: Study, folder: StudyFolder, files: StudyFolder) -> list[tuple[Model, int, Plan]]:
    """Every run, resolved as ``rad-train`` does, with profiles and flags written to the folder of files."""
    from . import plan as planning
    from .train import TrainOptions

    assert study.job is not None
    flags = _flags(study)
    for model in study.models:
        training.write_flags(files, model, flags)
        training.write_profile(files, model)
    return [
        (
            model,
            seed,
            planning.make(
                TrainOptions(
                    profile=str(training.profile_file(files, model)),
                    config=training.flags_file(files, model),
                    preset=study.job.preset,
                    seed=seed,
                    out=folder.run(model, seed),
                )
            ),
        )
        for model, seed in runs_of(study)
    ]


def _flags(study: Study) -> dict[str, Any]:
    """The flags of a study's job: those of its file, then its own."""
    assert study.job is not None
    held = flag.load(Path(study.job.config)).flags if study.job.config else {}
    plain = {name: None if words is None else words or True for name, words in held.items()}
    return {**plain, **study.job.flags}


def _job(plan: Plan) -> EvaluatedJob:
    """What the evaluation takes from a run's flags. Raises ConfigError where it lacks something."""

    def value(name: str, default: str) -> str:
        return flag.value(plan.flags, name, default)

    (cost,) = named_costs(plan.profile).values()
    if cost is None:
        raise ConfigError(
            f"the profile {plan.profile.name} names no cost; every model of a study is measured by one; write"
            " set: {cost.function: FILE.py} in the study"
        )
    reward = value("reward.remote_url", "") or value("reward.model_name_or_path", "")
    key = value("data.input_key", "input")
    trained = {
        name: [str(row.values[key]) for row in rows(path, [key])]
        for name, path in prompts.files(plan, "data.prompt_dataset")
    }
    sampling = Sampling(
        temperature=float(value("rollout.temperature", "1.0")),
        top_p=float(value("rollout.top_p", "1.0")),
        max_tokens=int(value("rollout.max_new_tokens", "1024")),
        max_len=int(value("data.max_len", "2048")),
    )
    template = value("data.input_template", "") or None
    rating = Rating("cost", cost.kind, cost.location, cost.settings)
    return EvaluatedJob(value(MODEL, ""), template, sampling, rating, parse_rating("reward", reward), trained)
