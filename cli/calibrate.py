"""``rad calibrate``: level, λ step and λ_max from scored answers of the reference model."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from .options import Columns, Force, Harmful, NoLabels
from .terminal import console, errors_told, put, refuse_overwriting


class Unit(StrEnum):
    """The unit of the level and the margin that are written."""

    cost = "cost"
    spread = "spread"


def calibrate(  # noqa: PLR0917 - Typer calls it by name
    scores: Annotated[Path, typer.Argument(metavar="SCORES", help="A .jsonl, .csv, .tsv or .parquet file.")],
    profile: Annotated[str, typer.Option("--profile", metavar="NAME|FILE", help="The profile to calibrate.")],
    column: Columns = None,
    harmful: Harmful = None,
    no_labels: NoLabels = False,
    model: Annotated[
        str | None, typer.Option("--model", metavar="NAME", help="Which one, in a table of several models.")
    ] = None,
    rollout: Annotated[int, typer.Option(min=2, max=1_000_000, help="Answers of a training rollout.")] = 1024,
    unit: Annotated[Unit, typer.Option(help="Write the level in the cost's unit or in spreads.")] = Unit.cost,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE", help="Write the profile.")
    ] = None,
    plot: Annotated[Path | None, typer.Option("--plot", metavar="FILE", help="Draw the costs.")] = None,
    constraint: Annotated[
        str | None, typer.Option("--constraint", metavar="NAME", help="Which one, where there are several.")
    ] = None,
    force: Force = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with 1 on any doubt, and write nothing.")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Of simulated draws.")] = 0,
) -> None:
    """Propose level, λ step and λ_max from scored answers of the reference model.

    Warns when the constraint would be inert or infeasible, when the sign of the cost looks inverted, and
    when too few answers lie in the tail. Exits with 1 when labels prove the sign inverted.
    """
    from openrlhf_rad.authoring.check import choose, read_profile
    from openrlhf_rad.calibration import findings as doubts
    from openrlhf_rad.calibration.figures import read_sample
    from openrlhf_rad.calibration.proposal import propose
    from openrlhf_rad.calibration.report import page, source_name, write
    from openrlhf_rad.errors import ConfigError
    from openrlhf_rad.evaluation import columns

    with errors_told():
        if out is not None:
            refuse_overwriting(out, force=force)
        read = read_profile(profile)
        if read.units == "cost":
            raise ConfigError(
                f"{profile}: units is cost; λ is calibrated in spreads, which fit every cost; write units:"
                " spread, and transport.epsilon and dual per spread"
            )
        part = choose(read, constraint)
        roles = columns.Columns.parse(column or [], harmful=harmful, labelled=not no_labels)
        sample = read_sample(scores, roles, model)
        proposal = propose(sample, part, rollout, seed)
        found = doubts.examine(sample, proposal, seed)
        shown = console()
        for piece in page(sample, proposal, found, unit.value, min(shown.width, 80)):
            shown.print(piece)
        if plot is not None:
            from openrlhf_rad.calibration.report import draw

            draw(sample, proposal, plot)
        doubted = [finding for finding in found if finding.kind != "note"]
        if any(finding.proven for finding in doubted) or (strict and doubted):
            if out is not None:
                typer.echo(f"{out} is not written: see the lines marked !", err=True)
            raise typer.Exit(1)
        if out is not None:
            text = write(read, proposal, sample, source_name(str(scores)), unit.value)
            put(text, out)
