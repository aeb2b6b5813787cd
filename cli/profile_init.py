"""``rad profile init``: the questions on a terminal, or their answers from a pipe."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import typer

from openrlhf_rad.authoring import interview as form
from openrlhf_rad.errors import ConfigError

from .terminal import put, refuse_overwriting


def interview(out: Path | None, *, defaults: bool, force: bool) -> None:
    """Ask, and write the file; questions and notes go to standard error.

    Raises:
        ConfigError: the input ended, an answer from a pipe that will not do, or a file that is there.
    """
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
