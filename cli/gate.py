"""``rad gate``: the options; everything else is imported once they are read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from .options import Columns, Harmful, NoLabels, Overrides, takes

Side = Annotated[
    str | None, typer.Option(metavar="NAME=FILE|NAME", help="Scored answers, or a model of --eval.")
]


@dataclass(frozen=True)
class GateOptions:
    """The options of ``rad gate``."""

    profile: Annotated[
        str | None, typer.Option(metavar="FILE|NAME", help="Risk profile; with --eval its own by default.")
    ] = None
    baseline: Side = None
    candidate: Side = None
    evaluation: Annotated[
        Path | None,
        typer.Option("--eval", metavar="DIR", help="A folder of rad eval; its two models."),
    ] = None
    rule: Annotated[
        list[str] | None, typer.Option(metavar="risk|quantiles", help="Rules to hold; both by default.")
    ] = None
    improvement: Annotated[
        str | None,
        typer.Option(
            metavar="AMOUNT", help="ε, such as 0.2 or '0.1 of reference spread'; else the profile's."
        ),
    ] = None
    worsening: Annotated[
        str | None,
        typer.Option(metavar="AMOUNT", help="δ, in place of ε: not worse by more (non-inferiority)."),
    ] = None
    tolerance: Annotated[str | None, typer.Option(metavar="AMOUNT", help="τ; else the profile's.")] = None
    confidence: Annotated[
        float | None, typer.Option(min=0.5, max=0.9999, help="Else the profile's, 0.95 by default.")
    ] = None
    levels: Annotated[
        str | None,
        typer.Option(metavar="LOW,HIGH", help="Quantile levels; by default those the risk weighs."),
    ] = None
    segments: Annotated[
        str | None,
        typer.Option(
            metavar="all|A,B", help='Segments that must pass each, as well as all prompts; "A,B" is one.'
        ),
    ] = None
    column: Columns = None
    harmful: Harmful = None
    no_labels: NoLabels = False
    overrides: Overrides = None
    seed: Annotated[int, typer.Option(help="Of the simulated process.")] = 0
    as_json: Annotated[bool, typer.Option("--json", help="Print the rulings as JSON.")] = False


@takes(GateOptions)
def gate(options: GateOptions) -> None:
    """May the candidate be released? Exit code 0 yes, 1 no, 2 inconclusive; 64 for wrong options.

    risk: the candidate's risk is at least ε below the baseline's, or with --worsening less than δ above it.
    quantiles: none of the candidate's is more than τ above the baseline's. Each with the confidence asked
    for; never a pass on bad input or on too few prompts.
    """
    from .gate_run import main

    raise typer.Exit(main(options))
