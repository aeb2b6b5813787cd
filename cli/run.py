"""One run from the options to the report."""

from __future__ import annotations

import sys
from pathlib import Path

from openrlhf_rad.errors import RadError

from . import plan as planning
from . import show
from .plan import Options, Plan

INTERRUPTED = 130


def main(options: Options, *, dry_run: bool = False, report: Path | None = None) -> int:
    """Do what the options ask for; returns the exit code, 130 after Ctrl-C."""
    try:
        plan = planning.make(options)
        if dry_run:
            print(show.dry_run(plan))
            return 0
        return 0
    except RadError as error:
        for line in str(error).splitlines():
            print(f"error: {line}", file=sys.stderr)
        return error.exit_code
