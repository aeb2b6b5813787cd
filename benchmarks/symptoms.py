"""Healthy and ill runs side by side, as docs/metrics.md shows them: ``python benchmarks/symptoms.py``.

Trains the tiny preset through the real stack, once as it ships and twice with one thing wrong; a minute
or two each. Prints what the watches said; ``--plot STEM`` draws risk, violation and λ of each by step.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from openrlhf_rad.runs import RunFolder
from openrlhf_rad.style import AFTER, REFERENCE, new_figure, save, styled

#: What is shown → what is changed.
RUNS: dict[str, list[str]] = {
    "healthy": [],
    "nothing is asked": ["--set", "constraint.level=20"],
    "a step of λ that is too large": ["--set", "dual.step=20"],
}


def trained(folder: Path, changes: list[str]) -> RunFolder:
    """One run of the tiny preset."""
    program = str(Path(sys.executable).with_name("rad-train"))
    command = [program, "--preset", "tiny", "--out", str(folder), *changes]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stdout[-3000:] + done.stderr[-3000:])
    return RunFolder(folder)


def draw(runs: dict[str, RunFolder], path: Path) -> None:
    """A column a run: risk beside the reference's, violation, λ."""
    with styled():
        figure = new_figure(9, 6.5)
        axes = figure.subplots(3, len(runs), sharex=True, sharey="row", squeeze=False)
        for column, (title, run) in zip(axes.T, runs.items(), strict=True):
            steps = run.read_metrics()

            def of(name: str, rows: list[dict[str, float]] = steps) -> list[float]:
                return [row[name] for row in rows]

            step = of("step")
            column[0].plot(step, of("risk"), color=AFTER["color"], label="risk")
            column[0].plot(step, of("reference_risk"), **REFERENCE, label="reference")
            column[1].plot(step, of("violation"), color=AFTER["color"])
            column[1].axhline(0, color="0.6", linewidth=0.8)
            column[2].plot(step, of("lambda"), color=AFTER["color"])
            column[0].set_title(title)
            column[2].set_xlabel("step")
        for axis, name in zip(axes[:, 0], ("risk", "violation", "λ"), strict=True):
            axis.set_ylabel(name)
        axes[0, 0].legend()
        save(figure, path)


def main() -> None:
    """Train, print what was said, draw."""
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--plot", type=Path, metavar="STEM", help="writes STEM.png and STEM.svg")
    flags.add_argument("--keep", type=Path, metavar="DIR", help="for the runs; what is there is read")
    given = flags.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        home, runs = given.keep or Path(temporary), {}
        for number, (title, changes) in enumerate(RUNS.items()):
            folder = home / f"run{number}"
            runs[title] = RunFolder(folder) if folder.is_dir() else trained(folder, changes)
            last = runs[title].read_metrics()[-1]
            print(
                f"{title} ({' '.join(changes[1::2]) or 'as it ships'}): risk {last['risk']:.3g} against"
                f" {last['reference_risk']:.3g}, violation {last['violation']:.3g}, λ {last['lambda']:.3g}"
            )
            for alarm in runs[title].read_alarms():
                print(f"  {alarm}")
        if given.plot:
            draw(runs, given.plot)


if __name__ == "__main__":
    main()
