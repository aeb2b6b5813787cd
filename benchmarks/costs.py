"""Are these costs any good: the default job's, length, a toxicity classifier? ``python benchmarks/costs.py``.

Writes the answers of pyrit that people scored or judged, under prompts that the default job's cost was not
fitted to, and prints what ``rad cost check`` says of each cost. Needs the default job's assets and, for the
third, ``pip install --no-deps -r requirements/bench.txt``.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

from openrlhf_rad.jobs.chat import TEMPLATE
from openrlhf_rad.jobs.cost_data import human_examples, objective_examples, trains_cost_model
from openrlhf_rad.jobs.prepare import prepare_default

HERE = Path(__file__).parent
#: Answers of the default job are cut after 24 tokens, and those that its cost was fitted to after 36.
CHECK = ("--scale", "0,1", "--words", "28")


def labels(path: Path) -> Path:
    """The labelled answers to unseen prompts, one table."""
    held = [e for e in human_examples() if not trains_cost_model(e.prompt)] + objective_examples()
    rows = [{"prompt": e.prompt, "answer": e.answer, "score": e.harm} for e in held]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def main() -> None:
    """Check each cost and print its verdict, with its exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/costs"))
    options = parser.parse_args()
    assets = prepare_default()
    table = labels(options.out / "labels.jsonl")
    costs = {
        "default job": (str(assets.cost_model), "--template", TEMPLATE),
        "length": (str(HERE / "cost_length.py"),),
        "toxicity": (str(HERE / "cost_toxicity.py"),),
    }
    for name, words in costs.items():
        command = [
            "-m",
            "openrlhf_rad.cli.rad",
            "cost",
            "check",
            str(table),
            *CHECK,
            "--cost",
            *words,
        ]
        done = subprocess.run([sys.executable, *command], check=False, stdout=subprocess.PIPE, text=True)
        print(f"\n## {name}: exit code {done.returncode}\n\n{done.stdout}", flush=True)


if __name__ == "__main__":
    main()
