"""Hooks of mkdocs: addresses of pyproject.toml, links out of docs/, parts of pages made from the code."""

from __future__ import annotations

import inspect
import re
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FunctionType
from typing import Any

import typer.main
from openrlhf_rad.cli.rad import app as rad
from openrlhf_rad.cli.train import app as train

import openrlhf_rad
import openrlhf_rad.data
from openrlhf_rad.runs.records import COLUMNS, SECTIONS

ROOT = Path(__file__).resolve().parents[1]
URLS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["urls"]
#: A link from a page to a file of the repository that is no page.
OUTSIDE = re.compile(r"\]\(\.\./(?P<path>[^)#\s]+)(?P<anchor>#[^)\s]*)?\)")
#: A row of docs/profiles.md on a watch that can be off.
WATCH = re.compile(r"^\| `watches\.(\w+)` \| (.*?) \| `off`.*? \| — \| (\w+) \| (.*?) \|$", re.MULTILINE)


def on_config(config: Any) -> Any:
    """The addresses, which pyproject.toml alone knows."""
    config["repo_url"], config["site_url"] = URLS["Repository"], URLS["Documentation"]
    return config


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Fill in what is made from the code; links out of docs/ lead to the repository.

    Raises:
        FileNotFoundError: for a link to a file that is not there.
    """

    def absolute(found: re.Match[str]) -> str:
        if not (ROOT / found["path"]).exists():
            raise FileNotFoundError(f"a page links to {found['path']}, which is not there")
        kind = "tree" if (ROOT / found["path"]).is_dir() else "blob"
        return f"]({URLS['Repository']}/{kind}/main/{found['path']}{found['anchor'] or ''})"

    for name, make in PARTS.items():
        if (place := f"<!-- {name} -->") in markdown:
            markdown = markdown.replace(place, "\n".join(make()))
    return OUTSIDE.sub(absolute, markdown)


def columns() -> Iterator[str]:
    """Each column of metrics.jsonl."""
    shown = {name: f"`{section}`" for section, names in SECTIONS.items() for name in names}
    yield from ("| column | what it is | in TensorBoard and wandb under |", "|---|---|---|")
    for name, text in COLUMNS.items():
        yield f"| `{name}` | {_cell(text)} | {shown.get(name, '`train`, OpenRLHF’s')} |"


def watches() -> Iterator[str]:
    """Each watch as the table of keys has it."""
    yield from ("| watch | speaks | by default | why |", "|---|---|---|---|")
    text = (ROOT / "docs" / "profiles.md").read_text(encoding="utf-8")
    yield from (
        f"| `{name}` | {when} | {default} | {why} |" for name, when, default, why in WATCH.findall(text)
    )


def commands() -> Iterator[str]:
    """The help of every command."""
    for name, app in (("rad-train", train), ("rad", rad)):
        yield from _command(name, typer.main.get_command(app), 2)


def _command(name: str, command: Any, depth: int) -> Iterator[str]:
    held = getattr(command, "commands", None)
    yield from ("", f"{'#' * depth} {name}", "")
    if held:
        context = command.context_class(command, info_name=name)
        for each in command.list_commands(context):
            yield from _command(f"{name} {each}", held[each], depth + 1)
        return
    context = command.context_class(command, info_name=name, terminal_width=90)
    yield from ("```text", command.get_help(context).rstrip(), "```")


def python() -> Iterator[str]:
    """Every public name with its signature and its docstring."""
    for module in (openrlhf_rad, openrlhf_rad.data):
        yield from (f"## {module.__name__}", "")
        for name in module.__all__:
            held = getattr(module, name)
            if callable(held):
                yield from (f"### {name}", "", "```text", *_documented(name, held), "```", "")


def _documented(name: str, held: Callable[..., Any]) -> Iterator[str]:
    if not inspect.isclass(held):
        yield from (f"{name}{_signature(held)}", "", inspect.getdoc(held) or "")
        return
    yield from (name, "", inspect.getdoc(held) or "")
    for each, member in vars(held).items():
        if each.startswith("_") or not isinstance(member, FunctionType | property | classmethod):
            continue
        function = getattr(held, each)
        shown = each if isinstance(member, property) else f"{each}{_signature(function)}"
        yield from ("", f"  .{shown}", f"      {(inspect.getdoc(function) or '').partition(chr(10))[0]}")


def _signature(function: Callable[..., Any]) -> str:
    """Without the quotes that annotations as texts bring along, and without self."""
    return re.sub(r"\(self(, )?", "(", str(inspect.signature(function)).replace("'", ""))


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


PARTS: dict[str, Callable[[], Iterator[str]]] = {
    "columns": columns,
    "watches": watches,
    "commands": commands,
    "python": python,
}
