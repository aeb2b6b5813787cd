"""What comes after training: summary, plots and the printed report."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from openrlhf_rad.jobs.presets import place
from openrlhf_rad.runs.folder import HELD_OUT, SUMMARY, RunFolder

from .plan import Plan

if TYPE_CHECKING:
    from openrlhf_rad.runs.summary import IndependentCost


def finish(plan: Plan) -> None:
    """Summarise a finished run, draw it and print its report; independent costs for the default preset only.

    Raises:
        RadError: a file of the run is broken.
    """
    # A window that opens by itself would hold the run up.
    os.environ.setdefault("MPLBACKEND", "Agg")
    from openrlhf_rad.runs.plots import plot_run
    from openrlhf_rad.runs.summary import summarise
    from openrlhf_rad.runs.table import print_report

    folder = RunFolder(plan.out)
    plot_run(folder)
    if not has_answers(folder):
        print(f"run {plan.out} is done; for a table of before and after, add -- --rad.heldout FILE.jsonl")
        return
    summarise(folder, _independent_cost(plan))
    print_report(folder)


def again(path: Path) -> None:
    """Print the report of a run that is there. Raises ConfigError where it has no held-out answers."""
    from openrlhf_rad.runs.summary import summarise
    from openrlhf_rad.runs.table import print_report

    folder = RunFolder(path)
    if not (path / SUMMARY).exists():
        summarise(folder)
    print_report(folder)


def has_answers(folder: RunFolder) -> bool:
    """Whether the run answered held-out prompts before and after."""
    return all((folder.path / name).exists() for name in HELD_OUT.values())


def _independent_cost(plan: Plan) -> IndependentCost | None:
    if plan.preset is None or plan.preset.independent_cost is None or not plan.assets:
        return None
    from openrlhf_rad.jobs.prepare import silence_libraries

    silence_libraries()
    from openrlhf_rad.jobs import independent_cost  # imports torch

    return independent_cost.IndependentCost.load(Path(place(plan.preset.independent_cost, plan.out))).score
