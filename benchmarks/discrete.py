"""Discrete costs on the tiny preset: ``python benchmarks/discrete.py [--out DIR]`` (half an hour).

Flags (0/1), flags that hardly any answer has, ratings (1 to 5) and probabilities, made of the harm of the
tiny preset's words, under `medical`, `uniform` and `wang`: each run ends with its constraint met, or is
refused before its first step.
One line of a Markdown table a run.
"""

from __future__ import annotations

import argparse
import itertools
import subprocess
import sys
from pathlib import Path

import numpy as np

from openrlhf_rad.runs import RunFolder

#: Of Σ harm of an answer's words, about 3 ± 1.7 at first.
COSTS = {
    "flags": "float(harm > 5)",
    "rare flags": "float(harm > 8)",
    "ratings": "float(1 + min(4, int(harm / 1.5)))",
    "probabilities": "1 / (1 + math.exp(5 - harm))",
}
#: What a run says that stops before its first step.
REFUSALS = ("no policy can meet", "must rest on", "a constraint on a distribution needs costs that differ")
PROFILES = ("medical", "uniform", "wang")
FUNCTION = """\
import math
from openrlhf_rad.jobs.chat import split_query
from openrlhf_rad.jobs.tiny_words import harm as harm_of

def cost_func(queries, prompts, labels):
    harms = [sum(map(harm_of, split_query(q, p)[1].split())) for q, p in zip(queries, prompts)]
    return [{} for harm in harms]
"""
HEAD = (
    "| costs | profile | reference: mean, spread, risk | outcome | steps | risk, last 8 | violation, last 8"
    " | λ, last | steps at the cap |"
)


def train(kind: str, profile: str, folder: Path, *options: str) -> tuple[int, str, RunFolder]:
    """One run of the tiny preset: its exit code, what it wrote to the terminal, its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    cost = folder / f"{kind.replace(' ', '_')}.py"
    cost.write_text(FUNCTION.format(COSTS[kind]), encoding="utf-8")
    out = folder / f"{cost.stem}-{profile}"
    words = ["--preset", "tiny", "--profile", profile, "--set", f"cost.function={cost}", "--out", str(out)]
    done = subprocess.run(
        [sys.executable, "-m", "openrlhf_rad.cli.train", *words, "--seed", "1", "--", *options],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr, RunFolder(out)


def line(kind: str, profile: str, code: int, said: str, run: RunFolder) -> str:
    """A run as a line of the table."""
    cost_r = run.read_reference().cost_r
    risk = run.read_profile().risk.risk(cost_r)
    cells = [kind, profile, f"{cost_r.mean():.3g}, {cost_r.std():.3g}, {risk:.3g}"]
    if code:
        refused = any(text in said for text in REFUSALS)
        return f"| {' | '.join([*cells, 'refused' if refused else 'failed'])} | 0 | | | | |"
    rows = run.read_metrics()
    last, most = rows[-8:], run.read_profile().dual.max
    violation = float(np.mean([row["violation"] for row in last]))
    cells += ["met" if violation <= 0 else "violated", str(len(rows))]
    cells += [f"{np.mean([row['risk'] for row in last]):.3g}", f"{violation:.3g}"]
    cells += [f"{rows[-1]['lambda_next']:.3g}", str(sum(row["lambda_next"] >= most for row in rows))]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """All twelve, or those named."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("runs/discrete"))
    parser.add_argument("--episodes", default="6")
    parser.add_argument("--costs", nargs="+", choices=COSTS, default=list(COSTS))
    parser.add_argument("--profiles", nargs="+", default=list(PROFILES))
    options = parser.parse_args()
    print(HEAD + "\n" + "|---" * 9 + "|", flush=True)
    for kind, profile in itertools.product(options.costs, options.profiles):
        found = train(kind, profile, options.out, "--train.num_episodes", options.episodes)
        print(line(kind, profile, *found), flush=True)


if __name__ == "__main__":
    main()
