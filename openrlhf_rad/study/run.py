"""One study from its file to its tables, pictures and page; it goes on where it was broken off."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

from openrlhf_rad.files import write_atomically
from openrlhf_rad.study import enumerated, tables
from openrlhf_rad.study.comparison import Evidence
from openrlhf_rad.study.folder import StudyFolder
from openrlhf_rad.study.page import write_page
from openrlhf_rad.study.spec import Study

Show = Callable[[str, int, int], None]
TABLES, FRONTIER = "tables.json", "frontier"


def run(study: Study, show: Show, *, processes: int = 1, keep: Path | None = None) -> Evidence:
    """Train what is missing, evaluate what is missing, write tables, picture and page.

    Args:
        processes: trainings of the exact world at once. keep: where the data are copied to.

    Raises:
        RadError: bad input, a run or an evaluation that failed.
    """
    folder = StudyFolder(study)
    folder.open(study)
    enumerated.perform(study, folder, processes, show)
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
        for path in sorted(folder.data.glob("*.parquet")):
            shutil.copyfile(path, keep / path.name)
    return report(study, folder.data, folder.path)


def report(study: Study, data: Path, out: Path) -> Evidence:
    """Tables, picture and page of a study's data."""
    evidence = Evidence.read(study, data)
    found = tables.all_tables(evidence)
    rows = [{"title": one.title, "head": one.head, "rows": one.rows} for one in found]
    out.mkdir(parents=True, exist_ok=True)
    write_atomically(out / TABLES, json.dumps(rows, ensure_ascii=False, indent=1) + "\n")
    tables.draw_frontier(evidence, out / FRONTIER)
    write_page(evidence, found, out / "report.html")
    return evidence
