"""The page of runs: one HTML file to look at, made from the folders that training leaves."""

from openrlhf_rad.report.page import write_report

__all__ = ["write_report"]
