"""The progress bar of all commands: on standard error, with the time left, where that is a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress

#: What is told of work by shards: (what, shards done, shards in all) → None.
Show = Callable[[str, int, int], None]


@contextmanager
def bars(*, transient: bool = False) -> Iterator[Progress]:
    """Rich's bars, with the columns that all commands share; ``transient`` ones go when they are done."""
    # Part of a second, which --help need not wait for.
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import (  # noqa: PLC0415
        BarColumn,
        Progress,
        SpinnerColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True)
    text = TextColumn("{task.description}", markup=False)
    columns = (SpinnerColumn(), text, BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=transient, disable=not console.is_terminal) as shown:
        yield shown
