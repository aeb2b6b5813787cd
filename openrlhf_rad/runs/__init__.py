"""What a run leaves behind: its folder, its records, and the summary made from them."""

from openrlhf_rad.runs.folder import RunFolder
from openrlhf_rad.runs.summary import summarise

__all__ = ["RunFolder", "summarise"]
