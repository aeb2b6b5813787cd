"""What a run leaves behind: its folder, and the statistics, tables and pictures made from it."""

from openrlhf_rad.runs.folder import RunFolder
from openrlhf_rad.runs.plots import plot_run
from openrlhf_rad.runs.summary import summarise
from openrlhf_rad.runs.table import print_report

__all__ = ["RunFolder", "plot_run", "print_report", "summarise"]
