"""The transport solver beside its peers: ``python benchmarks/transport.py [--quick] [--plot FILE.png]``.

Same inputs, same tolerance (marginal error 1e-9 in the L2 norm), ε a tenth of the spread, one thread, a
process of its own for each case. Needs ``pip install --no-deps -r requirements/bench.txt``; takes about
fifteen minutes on a quiet core, a minute with ``--quick``. Prints Markdown tables and, beneath, each target
with what was reached; the exit code is 1 if one was missed.

``--profile [--run DIR]`` instead prints the time of one ``RadStep`` call on 64 costs and the share of a
training step that RAD takes, from the columns seconds_step and seconds_rad of DIR/metrics.jsonl.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from transport_peers import MATRICES, SOLVERS, dense_gradient, inputs

SIZES = (64, 256, 1024, 2048, 4096, 10_000, 100_000, 1_000_000)
QUICK = (64, 1024, 4096, 100_000, 1_000_000)
DENSE = 4096  # the largest n that peers are run at; beyond it they are shown with the memory they would need
EXACT = 2048  # the largest n of the dense reference
TARGETS = {64: 20.0, 1024: 100.0, 4096: 500.0}
Rows = dict[tuple[str, int], dict[str, float]]


def run_case(name: str, n: int, folder: Path) -> dict[str, float]:
    """One solver on one problem in a process with one thread; empty if it failed or took half an hour."""
    out, dense = folder / "out.json", folder / f"{n}.npz"
    out.unlink(missing_ok=True)
    threads = {f"{part}_NUM_THREADS": "1" for part in ("OMP", "OPENBLAS", "MKL", "NUMBA")}
    eigen = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
    flags = {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": eigen}
    words = [
        sys.executable,
        str(Path(__file__).with_name("transport_peers.py")),
        name,
        str(n),
        str(out),
        str(dense),
    ]
    try:
        done = subprocess.run(
            words, env=os.environ | threads | flags, capture_output=True, text=True, check=False, timeout=1800
        )
    except subprocess.TimeoutExpired:
        return {}
    if not out.is_file():
        print(f"{name} at n = {n} failed:\n{done.stderr[-800:]}", file=sys.stderr)
        return {}
    row: dict[str, float] = json.loads(out.read_text())
    return row


def collect(sizes: tuple[int, ...], names: list[str]) -> Rows:
    """Every case that fits."""
    rows: Rows = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for n in sizes:
            if n <= EXACT:
                np.savez(folder / f"{n}.npz", gradient=dense_gradient(*inputs(n)))
            for solver in names:
                if solver == "linear" or n <= DENSE:
                    rows[solver, n] = run_case(solver, n, folder)
                    print(f"{solver} {n}: {rows[solver, n]}", file=sys.stderr)
    return rows


def readable(seconds: float) -> str:
    """Three digits with the unit that fits."""
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 1e-6:.3g} µs"


def cell(rows: Rows, name: str, n: int) -> str:
    """Time × ratio to the linear solver, memory, gradient error; or the memory that it would need."""
    if (name, n) not in rows:
        return f"not run, needs {MATRICES[name] * 8 * n * n / 1e9:,.0f} GB"
    row = rows[name, n]
    if not row:
        return "failed"
    ratio = "" if name == "linear" else f" ({row['seconds'] / rows['linear', n]['seconds']:,.0f}×)"
    parts = [readable(row["seconds"]) + ratio, f"{row['memory'] / 1e6:.0f} MB"]
    if "gradient" in row:
        parts.append(f"{row['gradient']:.0e}")
    if row["error"] > 2e-9:
        parts.append(f"stops at {row['error']:.0e}")
    return ", ".join(parts)


def print_table(rows: Rows, sizes: tuple[int, ...], names: list[str]) -> None:
    """Markdown: a line a size, a column a solver."""
    print(
        "Time (times the linear solver's), peak memory above the inputs, largest error of the gradient"
        " in 1/n:\n"
    )
    print("| n | " + " | ".join(names) + " |")
    print("|---|" + "---|" * len(names))
    for n in sizes:
        print(f"| {n:,} | " + " | ".join(cell(rows, name, n) for name in names) + " |")


def verdicts(rows: Rows) -> list[tuple[str, str, bool]]:
    """(target, reached, met) for each target that these rows can tell."""
    found = []
    for n, factor in TARGETS.items():
        peers = {
            name: row["seconds"]
            for (name, size), row in rows.items()
            if size == n and name != "linear" and row and row["error"] <= 2e-9
        }
        if peers:
            best = min(peers, key=lambda name: peers[name])
            ratio = peers[best] / rows["linear", n]["seconds"]
            found.append(
                (
                    f"n = {n:,}: {factor:g} times faster than the fastest peer",
                    f"{ratio:,.0f} ({best})",
                    ratio >= factor,
                )
            )
    large = rows.get(("linear", 1_000_000))
    if large:
        sorts = large["seconds"] / large["sorting"]
        found.append(("n = 1,000,000: under 25 times sorting both inputs", f"{sorts:.1f}", sorts < 25))
        found.append(
            (
                "n = 1,000,000: under 200 MB above the inputs",
                f"{large['memory'] / 1e6:.0f} MB",
                large["memory"] < 2e8,
            )
        )
        growth = large["seconds"] / rows["linear", 100_000]["seconds"]
        found.append(("from 100,000 to 1,000,000: at most 12 times the time", f"{growth:.1f}", growth <= 12))
    errors = [row["gradient"] for (name, _), row in rows.items() if name == "linear" and "gradient" in row]
    found.append(("gradient: at most 1e-8 of 1/n", f"{max(errors):.1e}", max(errors) <= 1e-8))
    return found


def plot(rows: Rows, path: Path) -> None:
    """Time against n, both on log scales."""
    import matplotlib as mpl  # noqa: PLC0415

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    figure, axes = plt.subplots(figsize=(6.4, 4.2), layout="constrained")
    for name in SOLVERS:
        points = sorted((n, row["seconds"]) for (solver, n), row in rows.items() if solver == name and row)
        if points:
            n_k, seconds_k = zip(*points, strict=True)
            axes.plot(
                n_k, seconds_k, "o-", label=name, linewidth=2.5 if name == "linear" else 1.2, markersize=4
            )
    sorting = sorted((n, row["sorting"]) for (_, n), row in rows.items() if row and "sorting" in row)
    axes.plot(*zip(*sorting, strict=True), ":", color="grey", label="sorting both inputs")
    axes.set(xscale="log", yscale="log", xlabel="points in each sample", ylabel="seconds")
    axes.set_title("Entropic transport to marginal error 1e-9, ε = 0.1 spreads, one thread", fontsize=10)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, loc="lower right")
    figure.savefig(path, dpi=150)


def profile(run: Path | None) -> None:
    """The share of a training step, from a run's metrics; and a step of RAD on its own."""
    from openrlhf_rad import load_profile  # noqa: PLC0415
    from openrlhf_rad.method.step import RadStep  # noqa: PLC0415

    rng = np.random.default_rng(0)
    step = RadStep(load_profile("medical"), rng.lognormal(size=256))
    batches, seconds = rng.lognormal(size=(200, 64)), []
    for batch in batches:
        began = time.perf_counter()
        step(batch)
        seconds.append(time.perf_counter() - began)
    print(
        f"RadStep on 64 costs: first {readable(seconds[0])}, then median"
        f" {readable(statistics.median(seconds[1:]))}"
    )
    if run is None:
        return
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()][3:]
    share = statistics.median(line["seconds_rad"] / line["seconds_step"] for line in lines)
    whole = statistics.median(line["seconds_step"] for line in lines)
    print(
        f"{len(lines)} training steps of {readable(whole)}: RAD takes {share:.2%} (median, the first 3 left"
        f" out); target under 1 %: {'met' if share < 0.01 else 'missed'}"
    )


def main() -> None:
    """Measure, print, plot."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="fewer sizes, and only the fastest peers")
    parser.add_argument("--plot", type=Path, help="write the log-log plot here")
    parser.add_argument("--profile", action="store_true", help="RAD's share of a training step instead")
    parser.add_argument("--run", type=Path, help="with --profile: the folder of a run")
    options = parser.parse_args()
    if options.profile:
        profile(options.run)
        return
    sizes = QUICK if options.quick else SIZES
    names = ["linear", "ot.sinkhorn"] if options.quick else list(SOLVERS)
    rows = collect(sizes, names)
    print_table(rows, sizes, names)
    judged = verdicts(rows)
    print("\n| target | reached | |\n|---|---|---|")
    for target, reached, met in judged:
        print(f"| {target} | {reached} | {'met' if met else 'MISSED'} |")
    if options.plot:
        plot(rows, options.plot)
    sys.exit(not all(met for *_, met in judged))


if __name__ == "__main__":
    main()
