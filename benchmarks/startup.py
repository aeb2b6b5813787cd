"""How long commands that start nothing take: ``python benchmarks/startup.py``; 7 times, wall and CPU time.

Above them stands what they cannot do without: Typer itself takes pydantic in to read options, and tables are
rich's. Byte-code is kept, as wherever a package is installed.
"""

from __future__ import annotations

import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

LIBRARIES = (
    "pass",
    "import numpy, yaml, typer",
    "import numpy, yaml, typer, pydantic.dataclasses, rich.table",
)
COMMANDS = (
    "rad-train --help",
    "rad-train --preset tiny --dry-run",
    "rad-train --profile medical --dry-run",
    "rad --help",
    "rad profile list",
    "rad profile check medical",
    "rad profile show medical",
    "rad profile explain medical",
    "rad profile diff medical wang",
    "rad profile weights medical 1000",
    "rad profile schema",
    "rad profile init --yes --force --out {folder}/p.yaml",
    "rad profile plot medical wang --out {folder}/spectra.png",
    "rad calibrate {folder}/scores.csv --profile medical",
)


def main() -> None:
    """Print the median and the range of each command; ``rad calibrate`` reads 1,000 scores."""
    with tempfile.TemporaryDirectory() as folder:
        draw = random.Random(0)
        scores = "".join(f"{draw.gauss(0, 1)}\n" for _ in range(1000))
        Path(folder, "scores.csv").write_text(f"cost\n{scores}", encoding="utf-8")
        for code in LIBRARIES:
            report(f'python -c "{code}"', [sys.executable, "-c", code])
        for command in COMMANDS:
            program, *words = command.format(folder=folder).split()
            report(command.format(folder="."), [str(Path(sys.executable).with_name(program)), *words])


def report(name: str, words: list[str]) -> None:
    """Run a command seven times and print a line; once before, so that its byte-code is there."""
    environment = {name: held for name, held in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    subprocess.run(words, capture_output=True, check=False, env=environment)
    seconds, spent = [], []
    for _ in range(7):
        before, began = os.times(), time.perf_counter()
        subprocess.run(words, capture_output=True, check=False, env=environment)
        seconds.append(time.perf_counter() - began)
        after = os.times()
        spent.append(sum(after[2:4]) - sum(before[2:4]))
    span = f"{statistics.median(seconds):.2f} s [{min(seconds):.2f}, {max(seconds):.2f}]"
    print(f"{name:74s} {span}  CPU {statistics.median(spent):.2f} s")


if __name__ == "__main__":
    main()
