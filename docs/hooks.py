"""Hooks of mkdocs: addresses of pyproject.toml, links out of docs/, pages made from the code."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
URLS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["urls"]
#: A link from a page to a file of the repository that is no page.
OUTSIDE = re.compile(r"\]\(\.\./(?P<path>[^)#\s]+)(?P<anchor>#[^)\s]*)?\)")


def on_config(config: Any) -> Any:
    """The addresses, which pyproject.toml alone knows."""
    config["repo_url"], config["site_url"] = URLS["Repository"], URLS["Documentation"]
    return config


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Links out of docs/ lead to the repository. Raises FileNotFoundError for a file that is not there."""

    def absolute(found: re.Match[str]) -> str:
        if not (ROOT / found["path"]).exists():
            raise FileNotFoundError(f"a page links to {found['path']}, which is not there")
        kind = "tree" if (ROOT / found["path"]).is_dir() else "blob"
        return f"]({URLS['Repository']}/{kind}/main/{found['path']}{found['anchor'] or ''})"

    return OUTSIDE.sub(absolute, markdown)
