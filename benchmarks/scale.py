"""What RAD adds to a rollout at scale: ``python benchmarks/scale.py`` (about ten minutes on one core).

Prints three Markdown tables. Measured on this machine: RAD's work in the controller by batch size, each in a
process of its own, CPU seconds and peak memory. Computed from named inputs, each a flag: forward passes,
bytes and memory by number of GPUs. Computed from both: the controller's share of a rollout.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

from scale_computed import Setting, duration, percent, rollout_flops, seconds, size, table

from openrlhf_rad.processor import model_name

SIZES = [10**3, 10**4, 10**5, 10**6]
GPUS = [8, 64, 1024]
#: Lengths of an answer between which the time of the parts that see tokens is interpolated.
SHORT, LONG = 32, 512
#: The batch size at which that is measured.
FITTED = 2_000
#: Parts in the controller with a cost model: one after another, each rollout.
SERIAL = (
    "texts taken in from the engines",
    "texts to rate",
    "texts handed to the cost model's actors",
    "costs checked and attached",
    "costs gathered from experiences",
    "answers as columns",
    "watches' metrics of the answers",
    "256 answers in samples.jsonl",
    "numbers of all in Parquet",
)
#: The same where the controller decodes, tokenises and logs every answer, as 0.1.0 did.
SERIAL_BEFORE = (
    "decoded in the controller",
    "in a cost model's tokens, in the controller",
    *SERIAL[3:7],
    "all answers in samples.jsonl",
)
#: Parts that look at so many answers, whatever the rollout.
OF_SO_MANY = {"256 answers in samples.jsonl": 256}
WHOLE = "all of it with the dual step"
PLAIN, BONUS = "OpenRLHF's own advantages", "the same with the bonus"


def measured(count: int, options: argparse.Namespace, answer_tokens: int) -> dict[str, Any]:
    """One batch size, in a process of its own."""
    command = [sys.executable, str(Path(__file__).with_name("scale_measured.py")), str(count)]
    command += ["--reference", str(options.reference), "--prompt-tokens", str(options.short_prompt)]
    command += ["--answer-tokens", str(answer_tokens)]
    command += ["--tokenizer", options.tokenizer] if options.tokenizer else []
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stdout[-3000:] + done.stderr[-3000:])
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def measured_table(found: dict[int, dict[str, Any]], reference: int) -> str:
    """CPU time and peak memory of every part by batch size, and how the last grew from the one before."""
    counts = list(found)
    heads = [f"B = {count:,}" for count in counts]
    titles = {
        "usual": f"against {reference} reference costs",
        "full": "against as many reference costs as answers",
        "rollout": f"on OpenRLHF's experiences, {SHORT} tokens an answer",
    }
    lines = ["| measured here | " + " | ".join(heads) + " | growth |", "|---" * (len(counts) + 2) + "|"]
    for kind, title in titles.items():
        lines.append(f"| *{title}* |" + " |" * (len(counts) + 1))
        for name in found[counts[0]][kind]:
            parts = [found[count][kind][name] for count in counts]
            cells = [f"{duration(part['seconds'])}, {size(part['mib'] * 2**20)}" for part in parts]
            lines.append(f"| {name} | {' | '.join(cells)} | {growth(counts, parts)} |")
    return "\n".join(lines)


def growth(counts: list[int], parts: list[dict[str, float]]) -> str:
    """How many times longer the last size took than the one before, beside how many times larger it is."""
    if len(counts) < 2:
        return ""
    times = parts[-1]["seconds"] / parts[-2]["seconds"]
    return f"×{times:.1f} for ×{counts[-1] / counts[-2]:g}"


def controller_seconds(
    given: Setting,
    largest: dict[str, Any],
    count: int,
    short: dict[str, Any],
    long: dict[str, Any],
    *,
    serial: tuple[str, ...] = SERIAL,
) -> float:
    """RAD's serial time of one rollout: per sample as at the size measured, longer by its tokens.

    B · Σ (t/B_measured + (answer − 32) · slope) over the parts; slopes from answers of 32 and 512 tokens.
    """
    each = (largest["usual"][WHOLE]["seconds"] + max(0.0, difference(largest))) / count
    longer = 0.0
    for name in serial:
        rise = long["rollout"][name]["seconds"] - short["rollout"][name]["seconds"]
        slope = max(0.0, rise) / min(FITTED, OF_SO_MANY.get(name, FITTED)) / (LONG - SHORT)
        each += largest["rollout"][name]["seconds"] / count
        grown = min(given.samples, OF_SO_MANY.get(name, given.samples))
        longer += slope * (given.answer_tokens - SHORT) * grown
    return each * given.samples + longer


def difference(found: dict[str, Any]) -> float:
    """The bonus's part of the advantages."""
    parts = found["rollout"]
    return float(parts[BONUS]["seconds"] - parts[PLAIN]["seconds"])


def main() -> None:
    """Print the tables that were asked for."""
    given, options = read()
    more = {}
    if not options.computed_only:
        found = {count: measured(count, options, SHORT) for count in options.sizes}
        short, long = (measured(FITTED, options, length) for length in (SHORT, LONG))
        how = f"a tokenizer of {short['words']:,} words; least CPU time of one to five runs, and peak memory"
        print(f"{machine()}; {how}\n")
        print(measured_table(found, options.reference))
        sizes = short["sizes"]
        print(
            f"\nMeasured too: {sizes['chunk']:.0f} bytes a sample of {options.short_prompt + SHORT} tokens as"
            f" Ray pickles them, {size(sizes['state'])} of RAD's state in a checkpoint,"
            f" {short['line']:.0f} bytes a line of samples.jsonl at {SHORT} tokens,"
            f" {long['line']:.0f} at {LONG}; {short['columns']:.0f} bytes an answer in Parquet.\n"
        )

        def own(one: Setting, serial: tuple[str, ...]) -> float:
            near = min(options.sizes, key=lambda size: abs(math.log(size / one.samples)))
            return controller_seconds(one, found[near], near, short, long, serial=serial)

        more = {
            name.format(what): shown
            for what, serial in (("as it is", SERIAL), ("doing all by itself", SERIAL_BEFORE))
            for name, shown in (
                ("controller {}: its own time, from the measured", partial(time_of, own, serial)),
                ("controller {}: share of the rollout at its shortest", partial(share_of, own, serial)),
            )
        }
    print(inputs(given) + "\n")
    print(table(given, options.gpus, more))


Own = Callable[[Setting, tuple[str, ...]], float]


def time_of(own: Own, serial: tuple[str, ...], one: Setting) -> str:
    """The controller's time of a rollout."""
    return duration(own(one, serial))


def share_of(own: Own, serial: tuple[str, ...], one: Setting) -> str:
    """The same as a share of the rollout."""
    return percent(own(one, serial) / seconds(rollout_flops(one), one))


def inputs(given: Setting) -> str:
    """The assumptions, as flags with their values."""
    values = (f"`--{name} {value:g}`" for name, value in options_of(given).items())
    return "Computed with " + " ".join(values)


def options_of(given: Setting) -> dict[str, float]:
    """Flag → value of all inputs but the number of GPUs."""
    names = [one.name for one in fields(given) if one.name != "gpus"]
    return {name.replace("_", "-"): getattr(given, name) for name in names}


def machine() -> str:
    """What it was measured on, in the kernel's words."""
    return f"One core of {os.cpu_count()}, {model_name()}"


def read(words: list[str] | None = None) -> tuple[Setting, argparse.Namespace]:
    """The flags: inputs of the computed table, and what to measure."""
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--gpus", type=int, nargs="+", default=GPUS)
    for name, value in options_of(Setting()).items():
        flags.add_argument(f"--{name}", type=type(value), default=value)
    flags.add_argument("--computed-only", action="store_true", help="measure nothing")
    flags.add_argument("--sizes", type=int, nargs="+", default=SIZES, metavar="B")
    flags.add_argument("--reference", type=int, default=256, help="reference costs")
    flags.add_argument("--short-prompt", type=int, default=16, help="tokens of a prompt where measured")
    flags.add_argument("--tokenizer", help="folder; the tiny preset's where absent")
    options = flags.parse_args(words)
    names = {one.name for one in fields(Setting)} - {"gpus"}
    return Setting(**{name: getattr(options, name) for name in names}), options


if __name__ == "__main__":
    main()
