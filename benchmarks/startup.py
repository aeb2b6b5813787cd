"""How long commands that start nothing take: ``python benchmarks/startup.py``; wall clock, 7 times each."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path

COMMAND = str(Path(sys.executable).with_name("rad-train"))
CASES = {"python -c pass": [sys.executable, "-c", "pass"]} | {
    f"rad-train {' '.join(words)}": [COMMAND, *words]
    for words in (["--help"], ["--preset", "tiny", "--dry-run"], ["--profile", "medical", "--dry-run"])
}


def main() -> None:
    """Print the median and the range of each command."""
    for name, words in CASES.items():
        seconds = []
        for _ in range(7):
            began = time.perf_counter()
            subprocess.run(words, capture_output=True, check=False)
            seconds.append(time.perf_counter() - began)
        print(f"{name:40s} {statistics.median(seconds):.2f} s [{min(seconds):.2f}, {max(seconds):.2f}]")


if __name__ == "__main__":
    main()
