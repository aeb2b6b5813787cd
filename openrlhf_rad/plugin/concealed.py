"""Secrets among OpenRLHF's arguments: used as they are, shown as ``***``, for OpenRLHF prints all."""

from __future__ import annotations

from argparse import Namespace
from types import SimpleNamespace
from typing import Any

from openrlhf_rad.secrets import HIDDEN, is_secret, redact


class Concealed(str):
    """A text whose ``repr``, by which a namespace of arguments is printed, holds none of its secrets."""

    def __repr__(self) -> str:
        shown = redact(str(self))
        return repr(HIDDEN if shown == str(self) else shown)


def conceal(args: Namespace | SimpleNamespace, above: str = "") -> None:
    """Put :class:`Concealed` in place of every text that is a secret by its name, or holds one; in place.

    Args:
        above: the dotted name of these arguments, with its dot; it tells columns of a data set from keys.
    """
    for name, value in vars(args).items():
        if isinstance(value, Namespace | SimpleNamespace):
            conceal(value, f"{above}{name}.")
        else:
            setattr(args, name, _concealed(f"{above}{name}", value))


def _concealed(name: str, value: Any) -> Any:
    if isinstance(value, list | tuple):
        return type(value)(_concealed(name, item) for item in value)
    secret = isinstance(value, str) and (is_secret(name) or redact(value) != value)
    return Concealed(value) if secret else value
