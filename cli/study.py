"""``rad study``: the options; everything else is imported once they are read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def study(
    file: Annotated[Path, typer.Argument(metavar="FILE.yaml", help="The study.")],
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The study's folder, in place of that of the file.")
    ] = None,
    processes: Annotated[int, typer.Option(min=1, help="Trainings at once, of the exact world.")] = 1,
    keep: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Copy the data of tables and figures there.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the runs and commands; start nothing.")
    ] = False,
) -> None:
    """Train profiles and baselines over seeds, evaluate them on the same prompts, and compare.

    The same command goes on where a study was broken off.
    """
    from .study_run import main

    raise typer.Exit(main(file, out, processes, keep, dry_run=dry_run))
