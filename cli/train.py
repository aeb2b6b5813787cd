"""``rad-train``: the options. Everything else is imported once they are read, so that ``--help`` is quick."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from .options import Overrides, Version, takes

app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False)


@dataclass(frozen=True)
class TrainOptions:
    """The options of ``rad-train`` as they were given."""

    words: Annotated[list[str] | None, typer.Argument(metavar="-- FLAGS", hidden=True)] = None
    profile: Annotated[
        str | None, typer.Option(metavar="FILE|NAME", help="Risk profile: a YAML file or a shipped name.")
    ] = None
    config: Annotated[
        Path | None, typer.Option(metavar="FILE.yaml", help="OpenRLHF flags as YAML, nested or dotted.")
    ] = None
    preset: Annotated[
        str | None, typer.Option(metavar="default|tiny", help="A whole job; default where no model is named.")
    ] = None
    seed: Annotated[int | None, typer.Option(help="Seed of the run, OpenRLHF's --train.seed.")] = None
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The run's folder; runs/<time>-<profile>/ by default.")
    ] = None
    overrides: Overrides = None
    accept_profile_change: Annotated[
        bool,
        typer.Option(
            "--accept-profile-change", help="Resume from a checkpoint that was trained under another profile."
        ),
    ] = False
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would run and start nothing.")] = (
        False
    )
    report: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Print the report of a finished run and exit.")
    ] = None
    version: Version = False


@app.command(context_settings={"help_option_names": ["-h", "--help"]})
@takes(TrainOptions)
def train(options: TrainOptions) -> None:
    """Train a language model with OpenRLHF under a risk profile.

    The same command with the same --out resumes from the last whole checkpoint of a run that was stopped.

    Everything after -- goes to OpenRLHF, for instance:
    rad-train --profile medical -- --actor.model_name_or_path MODEL --data.prompt_dataset FILE.jsonl
    """
    from .run import main

    raise typer.Exit(main(options))


if __name__ == "__main__":
    app()
