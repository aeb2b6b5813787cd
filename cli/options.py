"""Options that several commands take, and a command whose options are the fields of one record."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import MISSING, fields
from inspect import Parameter, Signature
from typing import Annotated, Any, TypeVar, get_type_hints

import typer

Record = TypeVar("Record")

Columns = Annotated[
    list[str] | None,
    typer.Option(
        "--column",
        metavar="ROLE=NAME",
        help="As cost=harm, cost=-safety, cost=1-safe; also --cost-column harm.",
    ),
]
Harmful = Annotated[
    str | None, typer.Option("--harmful", metavar="LABEL", help="The label that means harmful.")
]
Shape = Annotated[
    str | None, typer.Option(metavar="NAME", help="Shape of the rows; by default told from the columns.")
]
Where = Annotated[
    list[str] | None, typer.Option(metavar="COLUMN=VALUE", help="Only rows with this value; may be repeated.")
]
Configuration = Annotated[
    str | None, typer.Option("--config", metavar="NAME", help="Configuration of a hub's data set.")
]
Split = Annotated[str | None, typer.Option(metavar="NAME", help="Split of a hub's data set.")]
NoLabels = Annotated[bool, typer.Option("--no-labels", help="Do not check the sign of the costs by labels.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a key of the profile; may be repeated."),
]
Force = Annotated[bool, typer.Option("--force", help="Overwrite a file that is there.")]


def _print_version(asked: bool) -> None:
    if asked:
        from openrlhf_rad import __version__

        typer.echo(f"openrlhf_rad {__version__}")
        raise typer.Exit


Version = Annotated[
    bool,
    typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit."),
]


def numbers(text: str, count: int) -> list[float]:
    """The numbers that commas part; none where they are not so many finite ones."""
    try:
        found = [float(word) for word in text.split(",")]
    except ValueError:
        return []
    return found if len(found) == count and all(map(math.isfinite, found)) else []


def takes(record: type[Record]) -> Callable[[Callable[[Record], None]], Callable[..., None]]:
    """Make a function of a dataclass a command with one option a field: its type, its default, its help.

    The record's own come first, then those of the record that it extends.
    """

    def wrap(function: Callable[[Record], None]) -> Callable[..., None]:
        @functools.wraps(function)
        def command(**given: Any) -> None:
            function(record(**given))

        hints = get_type_hints(record, include_extras=True)
        options = sorted(fields(record), key=lambda field: field.name not in record.__annotations__)  # type: ignore[arg-type]
        command.__annotations__ = {field.name: hints[field.name] for field in options}
        command.__signature__ = Signature(  # type: ignore[attr-defined] # what Typer reads
            [
                Parameter(
                    field.name,
                    Parameter.KEYWORD_ONLY,
                    default=Parameter.empty if field.default is MISSING else field.default,
                    annotation=hints[field.name],
                )
                for field in options
            ]
        )
        return command

    return wrap
