"""What the commands of ``rad`` share: a console of readable width, and errors without a traceback."""

from __future__ import annotations

import os
import re
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO, cast

import typer

from openrlhf_rad.errors import ConfigError, RadError

if TYPE_CHECKING:
    from rich.console import Console

    from openrlhf_rad.evaluation.gate import Outcome

#: Blanks before the end of a line, and the codes of a style among them.
_BLANKS = re.compile(r" +((?:\x1b\[[\d;]*m)*)(?=\n)")
# Longer lines are harder to read.
_WIDEST = 100
INTERRUPTED = 130
#: Wrong options, as sysexits.h numbers them: 2 is a verdict of rad gate and rad judge.
USAGE = 64
#: A fault of the program, where 1 is a verdict.
BROKEN = 70


class Trimmed:
    """A stream whose lines end without blanks: tables and wrapped lines are filled with them."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write whole lines, as rich does."""
        return self._stream.write(_BLANKS.sub(r"\1", text))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def console() -> Console:
    """Standard output, at most 100 columns; no colour where it is piped or NO_COLOR is set."""
    from rich.console import Console

    # A terminal that cannot show ▇ or α shows a question mark, and the command goes on.
    with suppress(AttributeError, ValueError):
        sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]
    made = Console(
        file=cast(TextIO, Trimmed(sys.stdout)), highlight=False, emoji=False, markup=False, soft_wrap=False
    )
    made.width = min(made.width, _WIDEST)
    return made


def say(kind: str, lines: Iterable[str] | Exception) -> None:
    """Lines on standard error, each with its kind before it; those of an error's text as ``error``."""
    for line in str(lines).splitlines() if isinstance(lines, Exception) else lines:
        print(f"{kind}: {line}", file=sys.stderr, flush=True)


@contextmanager
def errors_told() -> Iterator[None]:
    """End with the exit code of an error that a user can mend, its text on standard error."""
    try:
        yield
    except RadError as error:
        say("error", error)
        raise typer.Exit(error.exit_code) from None
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None


def verdict_code(decide: Callable[[], Outcome]) -> int:
    """The exit code of a command whose codes are verdicts: what stops it is neither a yes nor a no."""
    from openrlhf_rad.errors import ProfileError
    from openrlhf_rad.evaluation.gate import Outcome

    try:
        return decide().value
    except (ConfigError, ProfileError) as error:
        say("error", error)
        return USAGE
    except RadError as error:
        print(f"{Outcome.INCONCLUSIVE.name}: {error}", file=sys.stderr)
        return Outcome.INCONCLUSIVE.value
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception:  # Python would end with 1, which means no
        traceback.print_exc()
        return BROKEN


def put(text: str | bytes, out: Path | None) -> None:
    """Write to a file, whole or not at all, or to standard output where out is None. Raises RadError."""
    data = text.encode() if isinstance(text, str) else text
    if out is None:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
        return
    from openrlhf_rad.files import write_named

    write_named(out, data)
    typer.echo(f"wrote {os.fspath(out)}", err=True)


def refuse_overwriting(path: Path, *, force: bool) -> None:
    """Raises ConfigError for a file that is there, unless the user said --force."""
    if path.exists() and not force:
        raise ConfigError(
            f"{path}: it is there already; it would be overwritten; name another or add --force"
        )
