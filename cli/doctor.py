"""``rad doctor``: what is installed, whether OpenRLHF is as the plugin knows it, what the machine has."""

from __future__ import annotations

from typing import Annotated

import typer

from .terminal import errors_told


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    train: Annotated[
        bool, typer.Option("--train", help="Also train four steps of the tiny preset; 10 minutes at most.")
    ] = False,
) -> None:
    """Check versions, OpenRLHF's contract and this machine; exit with 1 when something would stop a run."""
    from .diagnosis import MARKS, as_document, diagnose

    findings = diagnose()
    if train and all(finding.status != "stop" for finding in findings):
        from .acceptance import accept

        with errors_told():
            findings += accept()
    document = as_document(findings)
    if as_json:
        import json

        typer.echo(json.dumps(document, ensure_ascii=False, indent=2))
    else:
        width = max(len(finding.what) for finding in findings)
        for finding in findings:
            typer.echo(f"{MARKS[finding.status]} {finding.what:{width}}  {finding.found}")
            if finding.fix:
                typer.echo(f"  {'':{width}}  → {finding.fix}")
        typer.echo(f"\n{document['summary']}")
    raise typer.Exit(0 if document["ready"] else 1)
