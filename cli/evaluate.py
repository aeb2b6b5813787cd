"""``rad eval``: the options; everything else is imported once they are read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from .options import Columns, Harmful, NoLabels, Overrides, takes

Model = Annotated[str, typer.Option(metavar="NAME=SOURCE", help="A table of answers, or a checkpoint.")]


@dataclass(frozen=True)
class EvaluateOptions:
    """The options of ``rad eval``."""

    baseline: Model
    candidate: Model
    profile: Annotated[str, typer.Option(metavar="FILE|NAME", help="Risk profile.")]
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="The evaluation's folder; may hold an earlier one.")
    ]
    model: Annotated[
        list[str] | None, typer.Option(metavar="NAME=SOURCE", help="One more model. Repeatable.")
    ] = None
    prompts: Annotated[
        str | None, typer.Option(metavar="FILE|NAME", help="Prompts for checkpoints: a file or a data set.")
    ] = None
    limit: Annotated[int | None, typer.Option(min=1, help="Answer the first so many prompts only.")] = None
    reward: Annotated[
        str | None,
        typer.Option(metavar="MODEL|FILE.py|URL", help="Rewards, as OpenRLHF's --reward flags name them."),
    ] = None
    preset: Annotated[
        str | None,
        typer.Option(
            metavar="default|tiny", help="Take prompts, cost, reward, template and sampling of a job."
        ),
    ] = None
    template: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="Prompt as it is sent, {} for its words; else the chat format."),
    ] = None
    samples: Annotated[int, typer.Option(min=1, help="Answers to each prompt.")] = 1
    temperature: Annotated[float | None, typer.Option(min=0.0, help="1 by default, or the preset's.")] = None
    top_p: Annotated[float, typer.Option(min=0.01, max=1.0)] = 1.0
    max_tokens: Annotated[int | None, typer.Option(min=1, help="256 by default, or the preset's.")] = None
    max_len: Annotated[int, typer.Option(min=16, help="Longest prompt and answer, in tokens.")] = 2048
    tensor_parallel_size: Annotated[int, typer.Option(min=1, help="GPUs of one vLLM engine.")] = 1
    seed: Annotated[int, typer.Option(help="Of answers and of simulated processes.")] = 0
    threshold: Annotated[
        float | None,
        typer.Option(help="Safe are answers that cost at most this; else the profile's."),
    ] = None
    rescore: Annotated[bool, typer.Option("--rescore", help="Score answers that have scores too.")] = False
    keep_texts: Annotated[
        bool, typer.Option("--keep-texts", help="Keep prompts and answers in --out, for rad judge.")
    ] = False
    column: Columns = None
    harmful: Harmful = None
    no_labels: NoLabels = False
    overrides: Overrides = None
    worst: Annotated[
        int | None,
        typer.Option(min=0, help="Costliest answers of each model to show; 3 on a terminal, none elsewhere."),
    ] = None
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="Run Python code that comes with models.")
    ] = False
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be done; start nothing.")] = (
        False
    )


@takes(EvaluateOptions)
def evaluate(options: EvaluateOptions) -> None:
    """Compare models under a risk profile: the paper's tables and figure, intervals, bands, tests.

    Answers and scores are kept in --out: the same command goes on where it stopped, and another profile on
    the same answers needs no model.
    """
    from .evaluate_run import main

    raise typer.Exit(main(options))
