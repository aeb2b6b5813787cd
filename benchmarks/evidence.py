"""Every table and figure of docs/evidence.md from the data in the repository: ``make evidence`` (seconds).

The page keeps what is written by hand; between ``<!-- NAME -->`` and ``<!-- /NAME -->`` stands what is made
here from studies/NAME.yaml and studies/data/NAME. With ``--check`` nothing is written, and a page that
differs fails.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from openrlhf_rad.report.tables import TextTable
from openrlhf_rad.study import tables
from openrlhf_rad.study.comparison import StudyEvidence
from openrlhf_rad.study.exact import HELD_OUT
from openrlhf_rad.study.spec import SAFE, START, load_study

ROOT = Path(__file__).resolve().parents[1]
PAGE, IMAGES = ROOT / "docs" / "evidence.md", ROOT / "docs" / "images"
#: The control is shown by what it decides.
BRIEF = {"together"}


def section(name: str, images: Path | None) -> str:
    """The tables of one study, and its picture where there is a folder for it."""
    evidence = StudyEvidence.read(
        load_study(ROOT / "studies" / f"{name}.yaml"), ROOT / "studies" / "data" / name
    )
    found: list[TextTable] = [
        tables.verdict_table(evidence),
        *tables.finding_tables(evidence),
        tables.model_table(evidence),
        tables.matrix(evidence, HELD_OUT),
    ]
    if name not in BRIEF:
        for part in evidence.sets:
            pairs = [pair for pair in evidence.pairs(part) if pair.baseline in (START, SAFE)]
            found += [tables.table_3(evidence, pairs, part), tables.table_4(evidence, pairs, part)]
            found += tables.independent_tables(evidence, part)
            if part == HELD_OUT:
                found += [tables.table_2(evidence, pairs, part), tables.figure_1(pairs, part)]
    if images is not None:
        tables.draw_frontier(evidence, images / f"frontier-{name}")
    picture = f"![Reward against CVaR 0.9 of every model, world {name}](images/frontier-{name}.png)"
    parts = [f"**{values.title}**\n\n{tables.markdown(values)}" for values in found]
    return "\n\n".join([picture, *parts])


def filled(text: str, images: Path | None) -> str:
    """The page with all its sections made anew."""

    def made(match: re.Match[str]) -> str:
        name = match["name"]
        return f"<!-- {name} -->\n\n{section(name, images)}\n\n<!-- /{name} -->"

    return re.sub(r"<!-- (?P<name>\w+) -->\n.*?<!-- /(?P=name) -->", made, text, flags=re.DOTALL)


def main() -> int:
    """Write the page and its pictures, or check it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    text = PAGE.read_text(encoding="utf-8")
    made = filled(text, None if check else IMAGES)
    if check:
        if made != text:
            print(f"{PAGE}: it is not what its data say; run make evidence", file=sys.stderr)
        return int(made != text)
    PAGE.write_text(made, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
