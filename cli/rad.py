"""``rad``: the commands around a run, one module each; see the table in :mod:`openrlhf_rad.cli`.

A command's module imports Typer and nothing heavy; the rest waits until its options are read, so that
``--help`` is quick for all of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from . import doctor, evaluate, gate, judge, prompt_files, report, study
from . import pairs as preference
from .calibrate import calibrate
from .cost import app as cost
from .options import Version
from .profile import app as profile
from .terminal import USAGE

# Click's, which some versions of Typer hold a copy of.
_UsageError: type[Exception] = typer.BadParameter.__mro__[1]


class Commands(TyperGroup):
    """The commands in the order of work: those about profiles first, where Typer would have them last.

    A mistyped option ends with a code of its own, for 2 is a verdict of some of them.
    """

    def list_commands(self, ctx: Any) -> list[str]:
        """Their names."""
        first = ("profile", "cost")
        names = super().list_commands(ctx)
        return [*first, *(name for name in names if name not in first)]

    def make_context(self, *args: Any, **more: Any) -> Any:
        with _usage():
            return super().make_context(*args, **more)

    def invoke(self, ctx: Any) -> Any:
        with _usage():
            return super().invoke(ctx)


@contextmanager
def _usage() -> Iterator[None]:
    try:
        yield
    except _UsageError as error:
        error.exit_code = USAGE  # type: ignore[attr-defined] # Click's exits with it
        raise


app = typer.Typer(
    name="rad",
    cls=Commands,
    help="Risk profiles, evaluation and release gates for OpenRLHF.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)


#: Earlier names of options, which are still read.
_EARLIER = {"--red": "--baseline", "--blue": "--candidate"}


class OfAnswers(TyperCommand):
    """A command that reads answers: ``--cost-column NAME`` is ``--column cost=NAME``, and so on."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the options."""
        given, plain = iter(args), []
        for word in given:
            match = re.fullmatch(r"--([a-z]+)-column(?:=(.*))?", word, re.DOTALL)
            if match is None:
                name, *value = word.split("=", 1)
                plain.append("=".join([_EARLIER.get(name, name), *value]))
                continue
            name = next(given, "") if match[2] is None else match[2]
            plain += ["--column", f"{match[1]}={name}"]
        return super().parse_args(ctx, plain)


@app.callback()
def rad(_version: Version = False) -> None:
    """Risk profiles, evaluation and release gates for OpenRLHF."""


app.add_typer(profile, short_help="Author, check, see and compare risk profiles.")
app.add_typer(cost, short_help="Fit a cost to labelled answers, check whether one is any good.")
for _name, _function, _class, _short in (
    ("calibrate", calibrate, OfAnswers, "Level, margin and λ from scored answers of the reference."),
    ("prompts", prompt_files.prompts, TyperCommand, "Data sets of prompts as JSON lines, each prompt once."),
    ("pairs", preference.pairs, TyperCommand, "Preference data as pairs for OpenRLHF's train_rm."),
    ("eval", evaluate.evaluate, OfAnswers, "Compare models under a risk profile."),
    ("gate", gate.gate, OfAnswers, "May this model be released? 0 yes, 1 no, 2 inconclusive."),
    ("judge", judge.judge, OfAnswers, "Which of two models harms less, as a third one judges."),
    ("study", study.study, TyperCommand, "Profiles and baselines over seeds, trained and compared."),
    ("report", report.report, TyperCommand, "One HTML page of training runs or evaluations."),
    ("doctor", doctor.doctor, TyperCommand, "Versions, OpenRLHF's contract, this machine."),
):
    app.command(_name, cls=_class, short_help=_short)(_function)


if __name__ == "__main__":
    app()
