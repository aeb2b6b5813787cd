"""Pages of docs/: their commands parse, their columns exist, the site builds without a warning."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import typer.main
from openrlhf_rad.cli.rad import app as rad
from openrlhf_rad.cli.train import app as train

from openrlhf_rad.plugin.arguments import overrides, parse
from openrlhf_rad.plugin.command_line import installed
from openrlhf_rad.profile import load_profile, shipped_profiles
from openrlhf_rad.runs.records import COLUMNS, SECTIONS

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
LEADING_IN = ["index", "quickstart", "release", "cost", "concepts", "metrics", "watches", "troubleshooting"]
PAGES = [*LEADING_IN, "evaluation", "judging", "report", "data", "study", "pipeline"]


def commands(page):
    """Each command line of the page's shell blocks, as words."""
    text = (DOCS / f"{page}.md").read_text(encoding="utf-8")
    for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line.replace("[…]", ""), comments=True)
            if words:
                yield [Path(words[0]).name, *words[1:]]


def parsed(words):
    """The command that the words end at, with what it was given. Raises click's errors for a wrong option."""
    name, *rest = words
    command = typer.main.get_command({"rad": rad, "rad-train": train}[name])
    while getattr(command, "commands", None):
        command, rest = command.commands[rest[0]], rest[1:]
    return command.make_context(name, rest).params


@pytest.mark.parametrize("page", PAGES)
def test_the_commands_of_a_page_parse(page):
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for words in commands(page):
        if words[0] in {"rad", "rad-train"}:
            given = parsed(words)
            named = given.get("profile") or (given.get("source") if words[1] == "profile" else None)
            for profile in [named] if isinstance(named, str) else named or []:
                assert profile in shipped_profiles() or profile.endswith(".yaml")
            if words[0] == "rad-train":
                load_profile(given["profile"] or "medical").with_overrides(
                    overrides(given["overrides"] or [])
                )
        elif words[0] == "make":
            assert set(words[1:]) <= targets
        elif words[:3] == ["python", "-m", "openrlhf_rad"]:
            options, rest = parse(words[3:])
            assert options.dry_run
            installed().read(rest)


def test_the_pages_have_commands():
    assert sum(len(list(commands(page))) for page in PAGES) > 25


def test_a_column_that_a_page_speaks_of_exists():
    text = (DOCS / "metrics.md").read_text(encoding="utf-8")
    (four,) = re.findall(r"## The four to watch\n(.*?)\n\n[^|\n]", text, re.DOTALL)
    assert set(re.findall(r"^\| `(\w+)`", four, re.MULTILINE)) == {
        "risk",
        "violation",
        "lambda",
        "reward_mean",
    }
    named = set(re.findall(r"`([a-z]+_[a-z_]+)`", text)) - {"at_cap", "no_control"}
    assert named <= COLUMNS.keys() | SECTIONS.keys()


def test_the_site_builds_without_a_warning(tmp_path):
    words = ["-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(
        [sys.executable, *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "NO_MKDOCS_2_WARNING": "1"},
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    pages = {path: path.read_text(encoding="utf-8") for path in (tmp_path / "site").rglob("index.html")}
    text = "".join(pages.values())
    assert "<!-- columns -->" not in text
    assert all(f"<code>{name}</code>" in text for name in COLUMNS)
    assert "rad gate" in text
    assert "dominance_gap(" in text
    assert {"inert", "dead", "transport", "entropy"} <= set(
        re.findall(r"<td><code>(\w+)</code></td>", pages[tmp_path / "site" / "watches" / "index.html"])
    )
