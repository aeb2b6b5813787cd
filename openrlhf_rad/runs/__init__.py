"""What a run leaves behind: its folder, and the statistics, tables and pictures made from it."""

from openrlhf_rad.runs.folder import RunFolder

__all__ = ["RunFolder"]
