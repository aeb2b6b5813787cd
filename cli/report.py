"""``rad report``: one HTML page of runs or evaluations."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .terminal import errors_told


def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Folders of runs, or of evaluations.")],
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The page; report.html in the one folder, or here for several."),
    ] = None,
    title: Annotated[str | None, typer.Option(help="The page's title.")] = None,
    no_samples: Annotated[bool, typer.Option("--no-samples", help="Leave the answers out.")] = False,
    show: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
) -> None:
    """Write one self-contained HTML page of training runs side by side, or of evaluations."""
    from openrlhf_rad.report import write_report

    with errors_told():
        path = write_report(runs, out, title=title, show_samples=not no_samples)
    print(f"report {path}")
    if show:
        import webbrowser

        webbrowser.open(path.resolve().as_uri())
