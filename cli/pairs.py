"""``rad pairs``: a published preference set as pairs that OpenRLHF's train_rm reads."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from .options import Configuration, Shape, Split, Where
from .terminal import errors_told


def pairs(  # noqa: PLR0917 - Typer calls it by name
    source: Annotated[
        str, typer.Argument(help="A file; beavertails, pku-saferlhf; or OWNER/NAME on the hub.")
    ],
    out: Annotated[Path, typer.Option(metavar="FILE.jsonl", help="Where to write the pairs.")],
    by: Annotated[
        Literal["helpfulness", "harm"],
        typer.Option(help="harm: chosen is the more harmful answer, so that the model scores harm: a cost."),
    ],
    chat: Annotated[
        bool, typer.Option("--chat", help="Lists of messages, for --data.apply_chat_template.")
    ] = False,
    column: Annotated[
        list[str] | None,
        typer.Option(
            "--column", metavar="ROLE=NAME", help="Of labelled answers: prompt=, answer=, score=, label=."
        ),
    ] = None,
    harmful: Annotated[str | None, typer.Option(metavar="LABEL", help="The flag that means harmful.")] = None,
    shape: Shape = None,
    where: Where = None,
    config: Configuration = None,
    split: Split = None,
) -> None:
    """Write pairs as JSON lines with the keys prompt, chosen and rejected, as OpenRLHF's train_rm reads them.

    A reward is trained on --by helpfulness, a cost on --by harm: train_rm makes chosen score higher, and a
    cost must be higher for more harm.
    """
    from openrlhf_rad.data.pairs import load_training_pairs
    from openrlhf_rad.errors import ConfigError

    from .prompt_files import conditions, write_lines

    with errors_told():
        if by == "helpfulness" and (column or harmful):
            raise ConfigError("--column and --harmful are of labels of harm; leave them out, or --by harm")
        found = load_training_pairs(
            source,
            by=by,
            columns=column or [],
            harmful=harmful,
            shape=shape,
            where=conditions(where or []),
            config=config,
            split=split,
        )
        write_lines([pair.line(chat=chat) for pair in found], out)
    chosen = "the more harmful answer" if by == "harm" else "the more helpful answer"
    print(f"{out}: {len(found)} pairs of {len({pair.prompt for pair in found})} prompts; chosen is {chosen}")
    flags = "--data.prompt_key prompt --data.chosen_key chosen --data.rejected_key rejected"
    how = "--data.apply_chat_template" if chat else "--data.input_template …"
    print(f"train with openrlhf.cli.train_rm {flags} {how}", file=sys.stderr)
