"""The stages of one study, each of which goes on where it was broken off."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from openrlhf_rad.files import write_atomically
from openrlhf_rad.progress import Show
from openrlhf_rad.study import tables
from openrlhf_rad.study.comparison import StudyEvidence
from openrlhf_rad.study.folder import StudyFolder
from openrlhf_rad.study.page import write_page
from openrlhf_rad.study.spec import Study

if TYPE_CHECKING:
    from openrlhf_rad.study.scoring import EvaluatedJob

TABLES, FRONTIER, PAGE = "tables.json", "frontier", "report.html"


def evaluate(study: Study, folder: StudyFolder, job: EvaluatedJob, show: Show) -> None:
    """Answer and rate what is missing of a job's models and gather the data."""
    from openrlhf_rad.study import scoring  # noqa: PLC0415 - reads data sets

    scoring.perform_all(study, folder, job, show)


def keep_data(folder: StudyFolder, target: Path) -> None:
    """Copy the data of tables and figures."""
    target.mkdir(parents=True, exist_ok=True)
    for path in sorted(folder.data.glob("*.parquet")):
        shutil.copyfile(path, target / path.name)


def report(study: Study, data: Path, out: Path) -> StudyEvidence:
    """Tables, picture and page of a study's data."""
    evidence = StudyEvidence.read(study, data)
    found = tables.all_tables(evidence)
    rows = [{"title": one.title, "head": one.head, "rows": one.rows} for one in found]
    out.mkdir(parents=True, exist_ok=True)
    write_atomically(out / TABLES, json.dumps(rows, ensure_ascii=False, indent=1) + "\n")
    tables.draw_frontier(evidence, out / FRONTIER)
    write_page(evidence, found, out / PAGE)
    return evidence
