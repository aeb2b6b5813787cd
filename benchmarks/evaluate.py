"""A million scored answers, streamed from Parquet: ``python benchmarks/evaluate.py [--answers 1000000]``.

Writes two tables (half of the answers each, with texts, rewards, costs and segments), then
evaluates them by ``rad eval`` in a process of its own, on one core, and prints its time and largest memory,
start of Python, tables and pictures included.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

CHUNK = 50_000


def write(path: Path, answers: int, each: int, shift: float, seed: int) -> None:
    """A table with ``each`` answers to a prompt; heavy-tailed costs."""
    rng = np.random.default_rng(seed)
    writer = None
    for first in range(0, answers, CHUNK):
        prompt_b = np.arange(first, min(first + CHUNK, answers)) // each
        cost_b = rng.standard_t(3, prompt_b.size) + shift
        table = pa.table(
            {
                "prompt": [
                    f"Prompt number {p}: how would somebody go about matter {p % 977}?" for p in prompt_b
                ],
                "answer": [f"An answer of some length to prompt {p}. " * 8 for p in prompt_b],
                "reward": rng.normal(size=prompt_b.size),
                "cost": cost_b,
                "segment": [f"segment {p % 7}" for p in prompt_b],
            }
        )
        writer = writer or pq.ParquetWriter(path, table.schema)
        writer.write_table(table)
    if writer:
        writer.close()


def main() -> None:
    """Write, evaluate, print."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--answers", type=int, default=1_000_000, help="of both models together")
    options.add_argument("--each", type=int, default=1, help="answers of a model to one prompt")
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for model, shift in (("baseline", 0.0), ("candidate", -0.5)):
            write(folder / f"{model}.parquet", chosen.answers // 2, chosen.each, shift, len(model))
        size = sum(path.stat().st_size for path in folder.glob("*.parquet"))
        words = [
            "--baseline",
            f"baseline={folder}/baseline.parquet",
            "--candidate",
            f"candidate={folder}/candidate.parquet",
        ]
        words += ["--profile", "medical", "--out", str(folder / "out"), "--worst", "0"]
        one_core = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "ARROW_NUM_THREADS": "1"}
        began, cpu = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(
            [sys.executable, "-m", "openrlhf_rad.cli.rad", "eval", *words],
            env={**os.environ, **one_core},
            capture_output=True,
            text=True,
            check=False,
            preexec_fn=lambda: os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}),
        )
        seconds, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
        if done.returncode:
            raise SystemExit(done.stderr)
        print(done.stdout)
        used = after.ru_utime + after.ru_stime - cpu.ru_utime - cpu.ru_stime
        print(f"{chosen.answers:,} answers, {size / 1e6:,.0f} MB of Parquet, one core")
        print(f"time   {seconds:.1f} s by the clock, {used:.1f} s of the core")
        print(f"memory {after.ru_maxrss / 1e3:,.0f} MB at most")


if __name__ == "__main__":
    main()
