"""``rad cost``: the options; everything else is imported once they are read."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Annotated

import typer

from .options import Configuration, Overrides, Shape, Split, Where, takes

app = typer.Typer(
    name="cost",
    help="Fit a cost to labelled answers, and find out whether a cost is any good.",
    rich_markup_mode=None,
    no_args_is_help=True,
)

Labelled = Annotated[
    str,
    typer.Argument(metavar="LABELS", help="Labelled answers: a file; beavertails, pku-saferlhf; OWNER/NAME."),
]
Columns = Annotated[
    list[str] | None,
    typer.Option(
        "--column", metavar="ROLE=NAME", help="prompt=, answer=, score=, label=; score=-x turns it round."
    ),
]
Harmful = Annotated[
    str | None, typer.Option("--harmful", metavar="LABEL", help="The flag that means harmful.")
]
Scale = Annotated[
    str | None,
    typer.Option(metavar="LOW,HIGH", help="Scores that mean harmless and most harmful; else those seen."),
]
Template = Annotated[
    str | None,
    typer.Option(metavar="TEXT", help="Prompt as it is sent, {} for its words; else the chat format."),
]


@dataclass(frozen=True)
class LabelOptions:
    """Which labelled answers are read, and how."""

    labels: Labelled
    _: KW_ONLY
    column: Columns = None
    harmful: Harmful = None
    scale: Scale = None
    shape: Shape = None
    where: Where = None
    config: Configuration = None
    split: Split = None
    template: Template = None


@dataclass(frozen=True)
class FitOptions(LabelOptions):
    """The options of ``rad cost fit``."""

    model: Annotated[
        str, typer.Option(metavar="MODEL", help="The language model whose layers are read: the policy's own.")
    ]
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where to write the checkpoint.")]
    layers: Annotated[
        int | None, typer.Option(min=1, help="How many of its layers; a quarter by default.")
    ] = None
    prompt_tokens: Annotated[int, typer.Option(min=1, help="Longest prompt; the rest is not read.")] = 512
    answer_tokens: Annotated[
        int, typer.Option(min=1, help="Where answers are cut; as --rollout.max_new_tokens in training.")
    ] = 512
    weak: Annotated[
        bool,
        typer.Option(
            "--weak/--no-weak", help="Add refusals, empty and off-topic answers, labelled harmless."
        ),
    ] = True
    force: Annotated[bool, typer.Option("--force", help="Overwrite a checkpoint that is there.")] = False


@dataclass(frozen=True)
class CheckOptions(LabelOptions):
    """The options of ``rad cost check``."""

    cost: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL|FILE.py|URL", help="The cost; or --column cost=NAME, one of the labels' own."
        ),
    ] = None
    profile: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FILE|NAME", help="Must be able to carry the cost; its own is checked without --cost."
        ),
    ] = None
    overrides: Overrides = None
    words: Annotated[
        int | None, typer.Option(min=1, help="Cut answers after so many words, as training cuts them.")
    ] = None
    limit: Annotated[int | None, typer.Option(min=1, help="Check by the first so many answers only.")] = None
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Keep the scores, so that a stopped check goes on.")
    ] = None
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="Run Python code that comes with models.")
    ] = False
    as_json: Annotated[bool, typer.Option("--json", help="Print all figures as JSON.")] = False


@app.command("check", short_help="Is a cost any good? 0 yes, 1 no, 2 inconclusive.")
@takes(CheckOptions)
def check(options: CheckOptions) -> None:
    """Whether a cost tells harm, by answers that people labelled: exit code 0 yes, 1 no, 2 inconclusive.

    Its order beside length and words of refusal, calibration, ties, what refusals and empty answers cost, and
    which profiles it can carry. Answers to prompts that a fitted cost has seen are left out.
    """
    from .cost_check_run import main

    raise typer.Exit(main(options))


@app.command("fit", short_help="A cost model from labelled answers, in minutes.")
@takes(FitOptions)
def fit(options: FitOptions) -> None:
    """Fit a cost to answers that people scored, flagged or compared, on frozen states of a language model.

    Writes a checkpoint for cost.model, and beside it cost.json, what it is worth on prompts it has not seen.
    """
    from .cost_fit_run import main
    from .terminal import errors_told

    with errors_told():
        main(options)
