"""``rad profile``: look at profiles, check, compare and explain them, and write a first one.

A command's options stand here, its work in :mod:`openrlhf_rad.authoring`, imported when it runs.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .options import Force
from .terminal import console, errors_told, put, refuse_overwriting

if TYPE_CHECKING:
    from rich.console import Console

    from openrlhf_rad.authoring import interview as form
    from openrlhf_rad.profile import RiskProfile

app = typer.Typer(
    name="profile",
    help="Author, check, see and compare risk profiles.",
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Source = Annotated[
    str, typer.Argument(metavar="NAME|FILE", help="A shipped name, a YAML file, or - for stdin.")
]
Out = Annotated[Path | None, typer.Option("--out", "-o", metavar="FILE", help="A file instead of stdout.")]


class CheckFormat(StrEnum):
    """How ``check`` reports."""

    text = "text"
    json = "json"
    github = "github"


class WeightFormat(StrEnum):
    """How ``weights`` writes."""

    csv = "csv"
    json = "json"
    npy = "npy"


@app.command("list")
def list_() -> None:
    """The shipped profiles: name, measure, and what each is for."""
    from rich.table import Table

    from openrlhf_rad.authoring.words import parts
    from openrlhf_rad.profile import load_profile, shipped_profiles

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("name", style="bold", no_wrap=True)
    table.add_column("measure")
    table.add_column("why", ratio=1)
    for name in shipped_profiles():
        profile = load_profile(name)
        measures = "\n".join(str(part.risk) for part in parts(profile))
        table.add_row(name, measures, profile.description)
    console().print(table)


@app.command()
def check(
    files: Annotated[list[str], typer.Argument(metavar="FILE…", help="YAML files, or - for stdin.")],
    form: Annotated[
        CheckFormat, typer.Option("--format", help="For people, programs, or GitHub.")
    ] = CheckFormat.text,
    strict: Annotated[bool, typer.Option("--strict", help="Fail on warnings too.")] = False,
) -> None:
    """Find every mistake in some files; exit code 1 if there is one.

    Each line is file:line:column, the value, the rule and the fix.
    """
    from openrlhf_rad.authoring import check as checking

    reports = [checking.check(file) for file in files]
    write = {"text": checking.as_text, "json": checking.as_json, "github": checking.as_github}[form.value]
    text = write(reports)
    if text:
        put(text + "\n", None)
    raise typer.Exit(int(checking.failed(reports, strict=strict)))


@app.command(short_help="A profile on a page: picture, measure, formula, constraint.")
def show(source: Source) -> None:
    """A profile on a page: picture of its weights, measure, formula, level and margin in words."""
    from openrlhf_rad.authoring.check import read_profile
    from openrlhf_rad.authoring.show import page

    with errors_told():
        profile = read_profile(source)
    out = console()
    for piece in page(profile, min(out.width, 80)):
        out.print(piece)


@app.command(short_help="A profile in plain English, for a reviewer.")
def explain(source: Source) -> None:
    """A profile in plain English: what is bounded, where, how strictly, and what is not promised."""
    from rich.table import Table
    from rich.text import Text

    from openrlhf_rad.authoring.check import read_profile
    from openrlhf_rad.authoring.words import explain as sections

    with errors_told():
        profile = read_profile(source)
    out = console()
    out.width = min(out.width, 80)
    out.print(Text(profile.name, style="bold"))
    for heading, paragraphs in sections(profile):
        out.print()
        out.print(Text(heading, style="bold"))
        for paragraph in paragraphs:
            bullet, text = ("- ", paragraph[2:]) if paragraph.startswith("- ") else ("", paragraph)
            row = Table.grid()
            row.add_row(Text("  " + bullet), Text(text))
            out.print(row)


@app.command(short_help="The weights of N quantiles, as numbers.")
def weights(
    source: Source,
    n: Annotated[int, typer.Argument(metavar="N", min=1, max=10_000_000, help="Equally probable quantiles.")],
    form: Annotated[WeightFormat, typer.Option("--format", help="How to write them.")] = WeightFormat.csv,
    out: Out = None,
) -> None:
    """The weights of N quantiles, mean 1, from the best answers to the worst."""
    from openrlhf_rad.authoring.check import read_profile
    from openrlhf_rad.authoring.show import tabulate

    with errors_told():
        put(tabulate(read_profile(source), n, form.value), out)


@app.command(short_help="The JSON Schema of profiles, for editors.")
def schema(out: Out = None) -> None:
    """The JSON Schema of profiles, with which an editor completes and checks them."""
    from openrlhf_rad.profile.schema import schema_text

    with errors_told():
        put(schema_text(), out)


@app.command(short_help="Draw φ and the weights of some profiles.")
def plot(
    sources: Annotated[list[str], typer.Argument(metavar="NAME|FILE…", help="One or several profiles.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE.png|svg|pdf", help="The picture.")],
) -> None:
    """Draw φ, the weights and the cumulative weight of some profiles on one picture.

    Takes a second or two longer than the other commands, to load matplotlib.
    """
    from openrlhf_rad.authoring import drawing
    from openrlhf_rad.authoring.check import read_profile

    with errors_told():
        profiles = [read_profile(source) for source in sources]
        drawing.draw(drawing.curves([(profile.name, profile) for profile in profiles]), out)
    typer.echo(f"wrote {out}", err=True)


@app.command(short_help="What changes from A to B, in words and as a picture.")
def diff(
    a: Annotated[str, typer.Argument(metavar="A", help="The profile compared with.")],
    b: Annotated[str, typer.Argument(metavar="B", help="The profile that is new.")],
    plot: Annotated[Path | None, typer.Option("--plot", metavar="FILE", help="Draw both.")] = None,
    exit_code: Annotated[bool, typer.Option("--exit-code", help="Exit with 1 if a setting differs.")] = False,
) -> None:
    """What changes from A to B: the weights in words and as a picture, and every setting."""
    from openrlhf_rad.authoring import difference
    from openrlhf_rad.authoring.check import read_profile

    with errors_told():
        left, right = read_profile(a), read_profile(b)
        if plot is not None:
            from openrlhf_rad.authoring import drawing

            drawing.draw(drawing.curves([(f"A {left.name}", left), (f"B {right.name}", right)]), plot)
    _print_difference(left, right, console())
    raise typer.Exit(int(exit_code and bool(difference.settings(left, right))))


@app.command()
def init(
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE", help="PRODUCT.yaml by default.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Take every default.")] = False,
    force: Force = False,
) -> None:
    """Ask a few questions and write a commented profile."""
    with errors_told():
        _interview(out, defaults=yes, force=force)


def _print_difference(a: RiskProfile, b: RiskProfile, out: Console) -> None:
    """The pictures, the sentences, the settings."""
    from rich.table import Table
    from rich.text import Text

    from openrlhf_rad.authoring import difference

    width = min(out.width, 80)
    out.print(Text.assemble(("A ", "bold"), a.name, (f"  {a.hash[:12]}", "dim")))
    out.print(Text.assemble(("B ", "bold"), b.name, (f"  {b.hash[:12]}", "dim")))
    for pair in difference.pairs(a, b):
        out.print()
        if pair.name:
            out.print(Text(pair.name, style="bold underline"))
        for line in difference.picture_lines(pair, width):
            out.print(Text(line, style="cyan"))
        out.print()
        for sentence in difference.sentences(pair):
            out.print(Text(sentence), width=width)
    out.print()
    settings = difference.settings(a, b)
    if not settings:
        out.print(Text("No setting differs."))
        return
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for name in ("setting", "A", "B"):
        table.add_column(name, overflow="fold")
    for setting in settings:
        table.add_row(setting.key, _shown(setting.a), _shown(setting.b))
    out.print(table, width=width)


def _shown(value: Any) -> str:
    return "—" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _interview(out: Path | None, *, defaults: bool, force: bool) -> None:
    """Ask, and write the file; questions and notes go to standard error.

    Raises:
        ConfigError: the input ended, an answer from a pipe that will not do, or a file that is there.
    """
    from openrlhf_rad.authoring import interview as form

    if out is not None:
        refuse_overwriting(out, force=force)
    answers: dict[str, str] = {}
    for question in form.QUESTIONS:
        asked = form.asked(question, answers)
        answers[question.key] = asked.default if defaults else _ask(asked, answers)
    path = out or Path(form.file_name(answers))
    refuse_overwriting(path, force=force)
    put(form.write(answers), path)
    typer.echo(f"look at it with: rad profile show {path}", err=True)


def _ask(question: form.Question, answers: Mapping[str, str]) -> str:
    """One answer; a person is asked again when it will not do, a pipe is refused."""
    from openrlhf_rad.authoring import interview as form
    from openrlhf_rad.errors import ConfigError

    typer.echo(question.text, err=True)
    for word, meaning in (question.choices or {}).items():
        typer.echo(f"  {word}: {meaning}", err=True)
    while True:
        typer.echo(f"[{question.default}]: ", err=True, nl=False)
        line = sys.stdin.readline()
        if not line:
            raise ConfigError(
                f"the input ended before the question {question.text!r}; every question needs an answer;"
                " give one line each, or take the defaults with --yes"
            )
        answer = line.strip() or question.default
        wrong = form.problem(question, answer, answers)
        if wrong is None:
            return answer
        if not sys.stdin.isatty():
            raise ConfigError(f"{question.key}: {wrong}")
        typer.echo(wrong, err=True)
