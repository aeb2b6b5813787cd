"""``python -m openrlhf_rad``: OpenRLHF's training command, one word changed."""

import os
import sys
import warnings

from openrlhf_rad.plugin.arguments import parser


def main(argv: list[str]) -> int:
    """Help, or a check of the whole command; then, and only then, the stack is imported and it starts."""
    if "--rad.help" in argv:
        parser().print_help()
        return 0
    from openrlhf_rad.cli.run import before  # type: ignore[import-not-found, unused-ignore] # noqa: PLC0415

    code: int | None = before(argv)
    if code is None:
        # Of torch while it is imported, in this process and in those of Ray: a run's first line is not that.
        told = "The pynvml package is deprecated"
        warnings.filterwarnings("ignore", told, FutureWarning)
        os.environ.setdefault("PYTHONWARNINGS", f"ignore:{told}:FutureWarning")
        from openrlhf_rad.plugin.launch import main as launch  # noqa: PLC0415 - imports torch

        code = launch(argv)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
