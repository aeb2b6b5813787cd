"""``rad prompts``: a published data set, or a file in any known shape, as a file of prompts."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from .options import Configuration, Shape, Split, Where
from .terminal import errors_told


def prompts(  # noqa: PLR0917 - Typer calls it by name
    source: Annotated[
        str,
        typer.Argument(
            help="A file; harmbench, advbench, beavertails, pku-saferlhf; or OWNER/NAME on the hub."
        ),
    ],
    out: Annotated[Path, typer.Option(metavar="FILE.jsonl", help="Where to write the prompts.")],
    shape: Shape = None,
    prompt_column: Annotated[
        str | None, typer.Option(metavar="NAME", help="Column of the prompts, for a file of no known shape.")
    ] = None,
    label_column: Annotated[
        str | None, typer.Option(metavar="NAME", help="Column of the labels, in place of the shape's.")
    ] = None,
    segment_column: Annotated[
        str | None, typer.Option(metavar="NAME", help="Column of the segments, in place of the shape's.")
    ] = None,
    label: Annotated[
        str | None, typer.Option(metavar="LABEL", help="Label of every prompt, as harmful or benign.")
    ] = None,
    harmful: Annotated[
        str | None, typer.Option(metavar="LABEL", help="The label that means harmful; others are benign.")
    ] = None,
    where: Where = None,
    config: Configuration = None,
    split: Split = None,
) -> None:
    """Write prompts as JSON lines with the keys prompt, label, segment, id and source, each prompt once.

    rad eval reads the file as it is; OpenRLHF by --data.input_key prompt --data.label_key label.
    """
    from openrlhf_rad.data import load_prompts
    from openrlhf_rad.data.shapes import HARMFUL
    from openrlhf_rad.errors import ConfigError

    with errors_told():
        if label is not None and (label_column is not None or harmful is not None):
            raise ConfigError("--label is of every prompt; leave it out, or --label-column and --harmful")
        chosen = load_prompts(
            source,
            shape=shape,
            prompt_column=prompt_column,
            label_column=label_column,
            segment_column=segment_column,
            label=label,
            harmful=harmful,
            where=conditions(where or []),
            config=config,
            split=split,
        )
        chat = any(prompt.messages for prompt in chosen)
        write_lines([prompt.line(chat=chat) for prompt in chosen], out)
    segments = {prompt.segment for prompt in chosen if prompt.segment}
    print(f"{out}: {len(chosen)} prompts" + (f" in {len(segments)} segments" if segments else ""))
    if label_column or harmful:
        counts = Counter(prompt.label or "none" for prompt in chosen)
        print(
            f"labels: {', '.join(f'{name} {count}' for name, count in counts.most_common())}", file=sys.stderr
        )
    if any(prompt.messages for prompt in chosen):
        print("the prompts are lists of messages: train with --data.apply_chat_template", file=sys.stderr)
    if all(prompt.label != HARMFUL for prompt in chosen):
        print(
            f"no prompt has the label {HARMFUL}, so that nothing can look whether costs know harm; where you"
            " know which do harm, say so by --label or --label-column",
            file=sys.stderr,
        )


def conditions(words: list[str]) -> dict[str, str]:
    """Read COLUMN=VALUE, as --where gives them. Raises ConfigError."""
    from openrlhf_rad.errors import ConfigError

    bad = [word for word in words if not word.partition("=")[0] or "=" not in word]
    if bad:
        raise ConfigError(f"--where is {bad[0]}; it must be COLUMN=VALUE")
    return {name: value for name, _, value in (word.partition("=") for word in words)}


def write_lines(rows: Sequence[Mapping[str, Any]], out: Path) -> None:
    """Write rows as JSON lines, whole or not at all. Raises RadError."""
    import json

    from openrlhf_rad.errors import ConfigError
    from openrlhf_rad.files import explained, write_atomically

    if out.suffix != ".jsonl":
        raise ConfigError(f"--out is {out}; OpenRLHF reads JSON lines by the suffix .jsonl; name the file so")
    with explained(out, "nothing was written"):
        out.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(out, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
