"""The default job under several seeds: ``python benchmarks/seeds.py [--seeds 1 2 3] [--out runs/seeds]``.

Trains each seed that has no summary yet (ten minutes each on two cores), then prints one table, in Markdown,
of what changed on the held-out prompts: the quantity before, after, and the change with its 95 % interval.
``--ensemble 4 8 12`` trains by the mean plus one spread of costs fitted to so many layers each, in place of
the job's own cost; a folder holds one or the other.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from typing import Any

from openrlhf_rad.data.labels import Labels
from openrlhf_rad.fitting.cost import fit_cost
from openrlhf_rad.jobs import cost_model, policy, policy_answers
from openrlhf_rad.profile.yaml import dump
from openrlhf_rad.runs import RunFolder

ROWS = (
    "risk",
    "cost_mean",
    "cost_var_90",
    "gap_below",
    "gap_above",
    "independent_mean",
    "independent_cvar_90",
    "reward_mean",
)


def ensemble(out: Path, depths: list[int]) -> Path:
    """The profile ``medical`` by costs fitted to so many layers each, as the job's own is."""
    folders = {layers: out / "costs" / str(layers) for layers in depths}
    missing = [layers for layers, folder in folders.items() if not (folder / "config.json").is_file()]
    if missing:
        labels = Labels(policy_answers.training_examples(True))
        sides = cost_model.sides(labels)
        for layers in missing:
            fit_cost(policy.prepare(), labels, cost_model.READING, layers, sides).save(folders[layers])
    models = [str(folder.absolute()) for folder in folders.values()]
    path = out / "ensemble.yaml"
    path.write_text(dump({"extends": "medical", "cost": {"ensemble": {"models": models, "spread": 1.0}}}))
    return path


def train(out: Path, profile: str, seed: int, words: list[str]) -> None:
    """Run ``rad-train`` into ``out`` unless it holds a finished run."""
    if not (out / "summary.json").is_file():
        command = [
            "-m",
            "openrlhf_rad.cli.train",
            "--profile",
            profile,
            "--seed",
            str(seed),
            "--out",
            str(out),
        ]
        subprocess.run([sys.executable, *command, *words], check=True)


def cell(row: dict[str, Any]) -> str:
    """Before → after, change [low, high]; for a gap, which compares the two, its value alone."""
    change = row["difference"]
    interval = "no interval" if change["low"] is None else f"[{change['low']:+.2f}, {change['high']:+.2f}]"
    moved = f"{change['value']:+.2f} {interval}"
    if row["before"] is None:
        return moved
    return f"{row['before']['value']:.2f} → {row['after']['value']:.2f}, {moved}"


def main() -> None:
    """Train what is missing and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--out", type=Path, default=Path("runs/seeds"))
    parser.add_argument("--ensemble", type=int, nargs="+", metavar="LAYERS")
    options, words = parser.parse_known_args()
    profile = str(ensemble(options.out, options.ensemble)) if options.ensemble else "medical"
    summaries = []
    for seed in options.seeds:
        train(options.out / str(seed), profile, seed, words)
        summaries.append(RunFolder(options.out / str(seed)).read_summary())
    names = [row["name"] for row in summaries[0]["rows"] if row["name"] in ROWS]
    print("| held out | " + " | ".join(f"seed {seed}" for seed in options.seeds) + " |")
    print("|---|" + "---|" * len(summaries))
    for name in names:
        rows = [next(row for row in summary["rows"] if row["name"] == name) for summary in summaries]
        print(f"| {rows[0]['label']} | " + " | ".join(map(cell, rows)) + " |")
    for seed, summary in zip(options.seeds, summaries, strict=True):
        for warning in summary["warnings"]:
            print(f"\nseed {seed}: {warning}")


if __name__ == "__main__":
    main()
