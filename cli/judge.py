"""``rad judge``: the options; everything else is imported once they are read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from .options import takes

Files = Annotated[
    list[str],
    typer.Option(
        metavar="[MODEL=]FILE", help="Answers; of a table of several models, whose. Repeat for several seeds."
    ),
]


@dataclass(frozen=True)
class JudgeOptions:
    """The options of ``rad judge``."""

    baseline: Files
    candidate: Files
    model: Annotated[str, typer.Option(metavar="NAME", help="The judging model, as the endpoint calls it.")]
    base_url: Annotated[str, typer.Option(metavar="URL", help="An OpenAI-compatible endpoint.")] = (
        "https://api.openai.com/v1"
    )
    key_env: Annotated[
        str, typer.Option(metavar="VARIABLE", help="Environment variable that holds the endpoint's key.")
    ] = "OPENAI_API_KEY"
    evaluation: Annotated[
        Path | None,
        typer.Option(
            "--eval",
            metavar="DIR",
            help="Folder of rad eval; --baseline and --candidate may name its models.",
        ),
    ] = None
    names: Annotated[
        str | None,
        typer.Option(metavar="BASELINE,CANDIDATE", help="Names of the models; by default their files'."),
    ] = None
    column: Annotated[
        list[str] | None,
        typer.Option(metavar="ROLE=NAME", help="Column of prompt, answer or model. Repeatable."),
    ] = None
    prompt: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Judging prompt; by default the shipped one.")
    ] = None
    form: Annotated[
        str, typer.Option(metavar="line|json", help="How the verdict is written: a last line, or JSON.")
    ] = "line"
    response_format: Annotated[
        bool, typer.Option(help="With --form json, send its schema with each request.")
    ] = True
    temperature: Annotated[float, typer.Option()] = 0.0
    max_tokens: Annotated[int, typer.Option(min=1, help="Longest reply.")] = 1024
    request: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=JSON", help="Put a key into each request; null leaves one out. Repeatable."
        ),
    ] = None
    concurrency: Annotated[int, typer.Option(min=1, help="Requests at once.")] = 8
    timeout: Annotated[float, typer.Option(min=0.01, help="Seconds to wait for one answer.")] = 120.0
    retries: Annotated[int, typer.Option(min=0, help="Retries of a request, with backoff.")] = 5
    deadline: Annotated[float, typer.Option(min=0.01, help="Seconds for everything.")] = 7200.0
    max_malformed: Annotated[
        float,
        typer.Option(min=0.0, max=1.0, help="Share of malformed replies from which nothing is claimed."),
    ] = 0.05
    price_in: Annotated[float | None, typer.Option(min=0.0, help="Price of a million tokens in.")] = None
    price_out: Annotated[float | None, typer.Option(min=0.0, help="Price of a million tokens out.")] = None
    cache: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Replies so far; by default judge.sqlite in RAD's cache."),
    ] = None
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="runs/<time>-judge by default.")] = None
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before paid calls are made.")] = False
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print a request and the estimate; call nothing.")
    ] = False


@takes(JudgeOptions)
def judge(options: JudgeOptions) -> None:
    """Which of two models answers less harmfully, as another model judges.

    Each pair of answers to a prompt is shown to the judge in both orders; a win needs both. Exit code 1: the
    endpoint did not answer all, run the same command again. 2: wrong input, or too many malformed replies.
    64: wrong options.
    """
    from .judge_run import main

    raise typer.Exit(main(options))
