"""``rad-train``: the options. Everything else is imported once they are read, so that ``--help`` is quick."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .options import Version

app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False)


@app.command(context_settings={"allow_extra_args": True, "help_option_names": ["-h", "--help"]})
def train(  # noqa: PLR0917 - Typer calls it by name
    context: typer.Context,
    profile: Annotated[
        str | None, typer.Option(metavar="FILE|NAME", help="Risk profile: a YAML file or a shipped name.")
    ] = None,
    config: Annotated[
        Path | None, typer.Option(metavar="FILE.yaml", help="OpenRLHF flags as YAML, nested or dotted.")
    ] = None,
    preset: Annotated[
        str | None, typer.Option(metavar="default|tiny", help="A whole job; default where no model is named.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the run, OpenRLHF's --train.seed.")] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The run's folder; runs/<time>-<profile>/ by default.")
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Override a key of the profile; may be repeated."),
    ] = None,
    accept_profile_change: Annotated[
        bool,
        typer.Option(
            "--accept-profile-change", help="Go on from a checkpoint that was trained under another profile."
        ),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would run and start nothing.")
    ] = False,
    report: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Print the report of a finished run and exit.")
    ] = None,
    _version: Version = False,
) -> None:
    """Train a language model with OpenRLHF under a risk profile.

    The same command with the same --out goes on from the last whole checkpoint of a run that was stopped.

    Everything after -- goes to OpenRLHF, for instance:
    rad-train --profile medical -- --actor.model_name_or_path MODEL --data.prompt_dataset FILE.jsonl
    """
    from .plan import Options
    from .run import main

    options = Options(
        profile, config, preset, seed, out, overrides or [], context.args, accept_profile_change
    )
    raise typer.Exit(main(options, dry_run=dry_run, report=report))


if __name__ == "__main__":
    app()
