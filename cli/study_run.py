"""What ``rad study`` does once its options are read."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path

from openrlhf_rad.errors import ConfigError, RadError
from openrlhf_rad.files import keep_from_others
from openrlhf_rad.processes import stoppable
from openrlhf_rad.report.tables import Values
from openrlhf_rad.study.folder import StudyFolder
from openrlhf_rad.study.run import FRONTIER, TABLES, run
from openrlhf_rad.study.spec import Study, load_study
from openrlhf_rad.study.tables import verdict_table

from .evaluate_run import progress
from .terminal import INTERRUPTED, console, say


def main(file: Path, out: Path | None, processes: int, keep: Path | None, *, dry_run: bool) -> int:
    """Do what the options ask for; returns the exit code, 130 after Ctrl-C."""
    keep_from_others()
    os.environ.setdefault("MPLBACKEND", "Agg")  # a window that opens by itself would hold the command up
    try:
        study = load_study(file)
        study = study if out is None else replace(study, out=out)
        if problem := StudyFolder(study).problem(study):
            raise ConfigError(problem)
        if dry_run:
            print(rehearsal(study))
            return 0
        with stoppable(), progress() as show:
            evidence = run(study, show, processes=processes, keep=keep)
        show_table(verdict_table(evidence))
        print(f"\n{study.out}: report.html, {TABLES}, {FRONTIER}.png, data/")
    except RadError as error:
        say("error", error)
        return error.exit_code
    except KeyboardInterrupt:
        print("stopped; the same command goes on", file=sys.stderr)
        return INTERRUPTED
    return 0


def show_table(values: Values) -> None:
    """A table on the terminal."""
    from rich.table import Table

    table = Table(*values.head, title=values.title, title_justify="left", box=None, pad_edge=False)
    for row in values.rows:
        table.add_row(*(cell.replace("**", "") for cell in row))
    console().print(table)


def rehearsal(study: Study) -> str:
    """What would be done, a line a model."""
    runs = sum(model.trained for model in study.models) * len(study.seeds)
    lines = [f"study {study.name}: {len(study.models)} models, {len(study.seeds)} seeds, {runs} runs"]
    for model in study.models:
        asks = model.profile.constraint
        how = "not trained" if not model.trained else f"{asks.form}, level {asks.level}, margin {asks.margin}"
        lines.append(f"{model.role} {model.name}: {model.profile.risk}, {how}")
    return "\n".join([*lines, f"write {study.out}"])
