"""``rad doctor --train``: the real stack trains four steps of the tiny preset, and what must hold of them.

The five points are those of docs/modes.md. Where there is a GPU all models share it, and what a GPU alone can
do is tried too.
"""

from __future__ import annotations

import json
import math
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from openrlhf_rad.errors import RadError
from openrlhf_rad.processes import MarkedProcess, stoppable
from openrlhf_rad.processor import has_gpu
from openrlhf_rad.runs.folder import RunFolder

from .diagnosis import Finding

STEPS, SAMPLES, REFERENCE, HELD_OUT = 4, 64, 64, 400
#: Seconds for all of it; what is not done by then has failed.
LIMIT = 600.0
#: So few steps must move the policy enough for its KL to stand out.
_FLAGS = (
    *("--data.max_samples", "128", "--train.num_episodes", "1"),
    *("--actor.adam.lr", "1e-2", "--actor.lr_warmup_ratio", "0"),
)
_SHARED = ("--train.colocate_all", "--vllm.gpu_memory_utilization", "0.3", "--ds.enable_sleep")


@dataclass(frozen=True)
class Trial:
    """A short training: its name and its flags beside those of the preset."""

    name: str
    flags: tuple[str, ...]


def trials(*, gpu: bool) -> list[Trial]:
    """What is tried on this machine."""
    if not gpu:
        return [Trial("training", ())]
    return [
        Trial("training", _SHARED),
        Trial("vLLM's sleep, weights by CUDA IPC", (*_SHARED, "--vllm.enable_sleep")),
        Trial("dynamic batches, packing", (*_SHARED, "--train.dynamic_batch_enable", "--ds.packing_samples")),
    ]


def accept() -> list[Finding]:
    """Train, and judge what was left behind; a folder of its own is removed at the end.

    A trial that fails leaves its log in a file that the finding names.
    """
    ends = time.monotonic() + LIMIT
    findings = []
    with tempfile.TemporaryDirectory(prefix="rad-accept-") as held, stoppable():
        for number, trial in enumerate(trials(gpu=has_gpu())):
            findings += _tried(trial, Path(held) / str(number), ends)
    return findings


def _tried(trial: Trial, out: Path, ends: float) -> list[Finding]:
    print(f"{trial.name}: {STEPS} steps of the tiny preset", file=sys.stderr, flush=True)
    began = time.monotonic()
    words = ["--preset", "tiny", "--profile", "medical", "--seed", "1", "--out", str(out)]
    command = [sys.executable, "-m", "openrlhf_rad.cli.train", *words]
    flags = ["--set", f"reference.samples={REFERENCE}", "--", *_FLAGS, *trial.flags]
    shown = out.with_suffix(".txt")
    process = MarkedProcess([*command, *flags], shown)
    try:
        code = process.wait(max(1.0, ends - began))
    finally:
        process.stop()
    if code != 0:
        ended = f"not done in {LIMIT:.0f} s" if code is None else f"exit code {code}"
        kept = Path(tempfile.mkstemp(prefix="rad-accept-", suffix=".log")[1])
        logs = [path for path in (shown, out / "train.log") if path.is_file()]
        kept.write_bytes(b"\n".join(path.read_bytes() for path in logs))
        return [Finding(trial.name, "stop", ended, f"the log is {kept}; rad doctor says what is missing")]
    took = f"{STEPS} steps, {time.monotonic() - began:.0f} s"
    return [Finding(trial.name, "ok", took), *judged(RunFolder(out))]


def judged(folder: RunFolder) -> list[Finding]:
    """The five points, each with what was found."""
    findings = []
    for what, point in POINTS.items():
        try:
            wrong = point(folder)
        except (RadError, OSError, KeyError, ValueError) as error:
            wrong = f"cannot be told: {error}"
        findings.append(Finding(f"  {what}", "stop" if wrong else "ok", wrong or "as it must be"))
    return findings


def _whole(folder: RunFolder) -> str | None:
    steps = [row["step"] for row in folder.read_metrics()]
    if steps != list(range(1, STEPS + 1)):
        return f"metrics.jsonl holds the steps {steps}"
    counts = [len(folder.read_answers(moment)) for moment in ("before", "after")]
    return None if counts == [HELD_OUT] * 2 else f"held-out answers before and after: {counts}"


def _rated(folder: RunFolder) -> str | None:
    lines = (folder.path / "samples.jsonl").read_text(encoding="utf-8").splitlines()
    samples = [json.loads(line) for line in lines]
    for step in range(1, STEPS + 1):
        mine = [sample for sample in samples if sample["step"] == step]
        rated = [s for s in mine if math.isfinite(s["cost"]) and math.isfinite(s["reward"])]
        if len(rated) != SAMPLES:
            return f"{len(rated)} of {SAMPLES} answers of step {step} have a finite cost and reward"
    size = folder.read_reference().cost_r.size
    return None if size == REFERENCE else f"{size} of {REFERENCE} reference answers have a cost"


def _priced(folder: RunFolder) -> str | None:
    dual, spread = folder.read_profile().dual, folder.read_reference().cost_r.std()
    expected = dual.initial
    for row in folder.read_metrics():
        moved = min(max(expected + dual.step * row["violation"] / spread, 0.0), dual.max)
        if abs(row["lambda"] - expected) > 1e-9 or abs(row["lambda_next"] - moved) > 1e-9:
            went = f"{row['lambda']:.6g} → {row['lambda_next']:.6g}"
            return f"λ of step {row['step']} went {went}; by its rule {expected:.6g} → {moved:.6g}"
        expected = moved
    return None


def _fresh(folder: RunFolder) -> str | None:
    oldest = max(row["staleness"] for row in folder.read_metrics())
    return f"answers are {oldest:g} updates old" if oldest else None


def _arrived(folder: RunFolder) -> str | None:
    kl = [row["kl"] for row in folder.read_metrics()]
    grown = kl[-1] > 0.005 and abs(kl[0]) < kl[-1]
    return None if grown else f"the KL from the reference went {kl[0]:.4f} → {kl[-1]:.4f}; it must grow"


#: Of docs/modes.md, in its order; each gives what is wrong.
POINTS: dict[str, Callable[[RunFolder], str | None]] = {
    "all steps, held-out answers": _whole,
    "every answer rated": _rated,
    "λ moves by its rule": _priced,
    "answers of the newest weights": _fresh,
    "weights reach the engine": _arrived,
}
