"""What TensorBoard and wandb show of a run: RAD's columns in sections of their own, and a ready layout."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from openrlhf_rad.runs.records import SECTIONS

_SECTION = {column: section for section, columns in SECTIONS.items() for column in columns}

#: Chart → its columns, for TensorBoard's *Custom scalars*.
LAYOUT = {
    "risk of policy and reference": ("risk", "reference_risk"),
    "violation, its standard error": ("violation", "violation_error"),
    "λ": ("lambda",),
    "cost: mean and quantiles": ("cost_mean", "cost_q50", "cost_q90", "cost_q99"),
    "gaps below and above the reference": ("gap_forward", "gap_reverse"),
    "known harm costs more (AUC)": ("harm_auc",),
    "empty and distinct answers": ("empty_share", "distinct_share"),
}


def keys(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """RAD's columns as loggers show them: section/column, of several constraints section/name/column.

    Both tools make a section of what comes before the first stroke.
    """
    found = {}
    for name, value in metrics.items():
        section = _SECTION.get(name.rpartition("/")[2])
        if section and value is not None:
            found[f"{section}/{name}"] = value
    return found


def others(logs: Mapping[str, Any]) -> dict[str, Any]:
    """OpenRLHF's own part of what it logs, without RAD's columns and without the costs, which those hold."""
    return {
        name: value
        for name, value in logs.items()
        if not name.startswith("rad/") and name != "cost" and not name.startswith("cost_")
    }


class LoggerPanel:
    """RAD's part of OpenRLHF's loggers; either may be None."""

    def __init__(self, wandb: Any, tensorboard: Any) -> None:
        self._wandb, self._tensorboard = wandb, tensorboard
        if wandb:
            for section in SECTIONS:
                wandb.handle.define_metric(f"{section}/*", step_metric="train/global_step", step_sync=True)
        if tensorboard:
            charts = {
                title: ["Multiline", [rf"^{_SECTION[column]}/(.*/)?{column}$" for column in columns]]
                for title, columns in LAYOUT.items()
            }
            tensorboard.writer.add_custom_scalars({"RAD": charts})

    def log(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Show the columns of a step."""
        shown = keys(metrics)
        if self._wandb:
            self._wandb.handle.log({**shown, "train/global_step": step})
        if self._tensorboard:
            for name, value in shown.items():
                self._tensorboard.writer.add_scalar(name, value, step)
