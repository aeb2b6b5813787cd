"""Whether a long run grows: ``python benchmarks/soak.py``, 300 tiny steps, memory and handles by process.

Unique memory (USS) and open file handles of driver, trainer, policy, rollout worker and vLLM's
engine are read after every step. What counts is the median over the last tenth of the steps against that
over the tenth that begins at a third of them, when caches and pools are filled.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from statistics import median

import psutil
from faults import TARGETS, Run, shows

PARTS = ("training process", "trainer", "policy", "rollout worker", "vLLM engine")
#: Growth in percent that is not one: the requirement.
LIMIT = 2.0

Reading = tuple[float, int]


def watch(run: Run) -> dict[str, list[Reading]]:
    """(MiB, handles) of each part after every step, to the end of the run."""
    readings: dict[str, list[Reading]] = defaultdict(list)
    parts: dict[str, psutil.Process] = {}
    seen = 0
    while run.wait(0.05) is None:
        steps = run.steps()
        if steps <= seen:
            continue
        seen = steps
        if len(parts) < len(PARTS):
            parts = {
                name: process
                for process in run.processes()
                for name in PARTS
                if shows(process, TARGETS[name])
            }
        for name, process in parts.items():
            try:
                readings[name].append((process.memory_full_info().uss / 2**20, process.num_fds()))
            except psutil.Error:
                continue
    return readings


def growth(values: list[float]) -> tuple[float, float, float]:
    """Median of a tenth of the values from a third on, median of the last tenth, growth in percent."""
    tenth = max(1, len(values) // 10)
    first, last = median(values[len(values) // 3 :][:tenth]), median(values[-tenth:])
    return first, last, 100 * (last / first - 1)


def main() -> int:
    """Print the table; 1 where a part grows by more than the limit."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=304, help="a multiple of 8")
    options = parser.parse_args()
    words = ["--preset", "tiny", "--profile", "medical", "--", "--train.num_episodes"]
    words += [str(options.steps // 8), "--ckpt.save_steps", "8"]
    with tempfile.TemporaryDirectory() as folder:
        run = Run(Path(folder) / "soak", words)
        run.start()
        readings = watch(run)
        if run.wait(60) != 0:
            print(run.out.with_suffix(".log").read_text(), file=sys.stderr)
            return 2
    print(f"{options.steps} steps, a checkpoint every 8\n")
    print("| process | MiB, then | at the end | growth | handles, then | at the end | growth |")
    print("|---|---|---|---|---|---|---|")
    grown = False
    for name in PARTS:
        memory, handles = (growth([float(one[place]) for one in readings[name]]) for place in (0, 1))
        grown |= max(memory[2], handles[2]) > LIMIT
        print(
            f"| {name} | {memory[0]:.1f} | {memory[1]:.1f} | {memory[2]:+.1f} % |"
            f" {handles[0]:.0f} | {handles[1]:.0f} | {handles[2]:+.1f} % |"
        )
    print(f"\n{'grows by more than' if grown else 'nothing grows by more than'} {LIMIT:g} %")
    return int(grown)


if __name__ == "__main__":
    sys.exit(main())
