"""Secrets out of texts that others may read: messages, logs, commands, pages.

Three degrees: :func:`redact_text` for messages of a program, where only addresses carry secrets and every
word is needed; :func:`redact` for texts that people wrote; :func:`redact_command` for commands, flag by flag.
"""

from __future__ import annotations

import re
import shlex
from argparse import Namespace
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit, urlunsplit

#: What stands in the place of a secret. An address that holds it is still an address.
HIDDEN = "***"

# A comma before another address is between two.
_URL = re.compile(r"\bhttps?://(?:(?!,https?://)[^\s'\"<>])+", re.IGNORECASE)
_SECRET_WORDS = {"key", "apikey", "token", "secret", "password", "passwd", "pwd", "auth", "bearer"}
_SECRET_WORDS |= {"credential", "credentials", "authorization"}
# Names of columns of a data set, not keys to anything.
_COLUMN = re.compile(r"(?:^|\.)data\.\w+_key$")
_USER = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*://)[^\s/@'\"]+@")
_QUERY = re.compile(r"(?P<name>[?&;#](?P<word>[\w.-]+)=)[^&;#\s'\"]+")
_HEADER = re.compile(r"(?P<name>\b(?:Bearer|Basic)\s+)[A-Za-z0-9._~+/=-]{6,}", re.IGNORECASE)
# A name with what follows it up to its value, and the value; apart, for a value may hold a name itself.
_NAME = re.compile(r"(?P<word>[A-Za-z][\w.-]*)['\"]?\s*[=:]\s*['\"]?")
_VALUE = re.compile(r"[^\s'\",;&]+")
# Keys that show themselves by how they begin: Hugging Face, OpenAI and kin, GitHub, AWS, GitLab, Slack, JWT.
_KNOWN = re.compile(
    r"\b(?:hf_[A-Za-z0-9]{8,}|sk-[A-Za-z0-9_-]{8,}|gh[pousr]_[A-Za-z0-9]{8,}|github_pat_\w{8,}"
    r"|(?:AKIA|ASIA)[A-Z0-9]{12,}|glpat-[\w-]{8,}|xox[abprs]-[\w-]{8,}|eyJ[\w-]{8,}\.[\w-]+\.[\w-]*)"
)


def redact_url(url: str) -> str:
    """``url`` without user, password, query values and fragment; their places stay visible.

    A text that is no URL comes back hidden where it has an ``@`` or ``?``, else as it is.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if not host:
        return HIDDEN if set(url) & set("@?") else url
    shown = f"[{host}]" if ":" in host else host
    place = f"{f'{HIDDEN}@' if '@' in parts.netloc else ''}{shown}{'' if port is None else f':{port}'}"
    return urlunsplit((parts.scheme, place, parts.path, HIDDEN if parts.query else "", ""))


def redact_text(text: str) -> str:
    """``text`` with every http(s) URL in it redacted."""
    return _URL.sub(lambda match: redact_url(match[0]), text)


def redact_command(command: str) -> str:
    """The command for a shell with every secret replaced; in doubt a value is hidden.

    A command that is no shell syntax is taken word by word.
    """
    try:
        words = shlex.split(command)
    except ValueError:
        words = command.split()
    shown: list[str] = []
    hide = False
    for word in words:
        flag = word.startswith("-")
        if hide and not flag:
            shown.append(HIDDEN)
            continue
        name, equals, _ = word.partition("=")
        secret = is_secret(name) and (flag or bool(equals))
        hide = secret and not equals
        shown.append(f"{name}={HIDDEN}" if secret and equals else redact(word))
    return " ".join(word if HIDDEN in word else shlex.quote(word) for word in shown)


def redact(text: str) -> str:
    """A text with secrets replaced: addresses, `token=…`, `Bearer …`, keys of known shape."""
    text = _USER.sub(rf"\g<scheme>{HIDDEN}@", redact_text(text))
    text = _QUERY.sub(
        lambda match: match["name"] + HIDDEN if is_secret(match["word"]) else match.group(), text
    )
    text = _HEADER.sub(rf"\g<name>{HIDDEN}", text)
    return _KNOWN.sub(HIDDEN, _without_assigned(text))


def is_secret(name: str) -> bool:
    """Whether a flag, variable or key of this name may hold a secret: its last part says key, token, …"""
    plain = name.lstrip("-")
    if _COLUMN.search(plain):
        return False
    # The words of wandb.key, WANDB_API_KEY, apiKey and api-key.
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", plain).lower()
    return bool(_SECRET_WORDS & set(re.split(r"[._-]+", words)))


def _without_assigned(text: str) -> str:
    """The text with `name=value` and `name: value` hidden where the name may be that of a secret."""
    parts, start = [], 0
    for name in _NAME.finditer(text):
        value = _VALUE.match(text, name.end())
        if value and name.start() >= start and is_secret(name["word"]):
            parts += [text[start : name.end()], HIDDEN]
            start = value.end()
    return "".join([*parts, text[start:]])


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
