"""What is printed on standard output: no blanks at the ends of lines, styles or none."""

import io

import pytest
from openrlhf_rad.cli.terminal import Trimmed
from rich.console import Console
from rich.table import Table
from rich.text import Text


@pytest.mark.parametrize("colour", [False, True])
def test_no_line_ends_with_blanks(colour):
    stream = io.StringIO()
    console = Console(
        file=Trimmed(stream), width=20, force_terminal=colour, color_system="standard" if colour else None
    )
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("a column")
    table.add_column("another")
    table.add_row(Text("one", style="bold"), "2")
    console.print(table)
    console.print(Text("words that are longer than a line of twenty columns", style="red"))
    text = stream.getvalue()
    assert "\x1b[" in text if colour else "\x1b[" not in text
    plain = Text.from_ansi(text).plain
    assert [line for line in plain.splitlines() if line != line.rstrip()] == []
    assert "one       2" in plain
    assert "words that are" in plain


def test_blanks_before_words_stay():
    stream = io.StringIO()
    Trimmed(stream).write("  a  b  \n\n   c \x1b[0m\n")
    assert stream.getvalue() == "  a  b\n\n   c\x1b[0m\n"
