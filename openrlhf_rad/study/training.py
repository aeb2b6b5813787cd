"""The trainings of a study on the real stack: what each is told, whether it is done, launchers.

A run is the product's own: its folder is that of ``rad-train --out``, and the same command goes on with it.
Held-out prompts are not answered there, so that the end of every training counts and none is chosen by them.
"""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from openrlhf_rad.errors import ConfigError, EnvironmentProblem
from openrlhf_rad.files import write_atomically
from openrlhf_rad.profile.addresses import sealed
from openrlhf_rad.profile.yaml import dump
from openrlhf_rad.runs.folder import MODEL, PLOTS, RunFolder
from openrlhf_rad.study.folder import StudyFolder
from openrlhf_rad.study.spec import Model, TrainingJob
from openrlhf_rad.words import number

PROFILES, FLAGS, HANDED = "profiles", "flags", "handed over.txt"
#: A λ that moves nothing, and a slack that is far from the bound, both in σ₀.
_NOTHING, _FAR = 1e-3, 0.1


def write_profile(folder: StudyFolder, model: Model) -> Path:
    """The profile of a model as a file, names in place of secrets."""
    path = profile_file(folder, model)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, sealed(model.profile)[0].to_yaml())
    return path


def write_flags(folder: StudyFolder, model: Model, flags: Mapping[str, Any]) -> Path:
    """The flags of a model's runs as a file for ``--config``."""
    own: dict[str, Any] = {"rad.heldout": None}
    own |= {} if model.fixed_dual is None else {"rad.fixed_dual": model.fixed_dual}
    own |= {} if model.soft_risk is None else {"rad.soft_risk": model.soft_risk.share}
    path = flags_file(folder, model)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, dump({**flags, **own}))
    return path


def done(run: Path) -> bool:
    """Whether a training has come to its end: its pictures are drawn then, and never before.

    Raises:
        ConfigError: it has, and its model is missing.
    """
    if not (run / PLOTS).is_dir():
        return False
    if not (run / MODEL / "config.json").is_file():
        raise ConfigError(
            f"{run / MODEL}: the run has come to its end and its model is missing; every model of a study is"
            f" evaluated; put it back, or remove {run} to train it again"
        )
    return True


def tidy(run: Path) -> None:
    """Remove the checkpoints of a run that is done: nothing reads them again, and they hold Adam's states."""
    shutil.rmtree(run / "checkpoints", ignore_errors=True)


def launch(launcher: Sequence[str], command: Sequence[str], run: Path) -> None:
    """Hand a command to a launcher: in the place of ``{}`` as one word, else its words after the launcher's.

    A run is handed over once. Raises EnvironmentProblem where the launcher fails.
    """
    note = run.with_name(f"{run.name}.{HANDED}")
    if note.is_file():
        return
    words = [shlex.join(command) if word == "{}" else word for word in launcher]
    words += [] if "{}" in launcher else list(command)
    try:
        found = subprocess.run(words, capture_output=True, text=True, check=False)
    except OSError as error:
        raise EnvironmentProblem(
            f"launcher: {launcher[0]} cannot be run ({error.strerror}); mend launcher: in the study"
        ) from None
    if found.returncode:
        raise EnvironmentProblem(
            f"launcher: {shlex.join(launcher)} ended with exit code {found.returncode} for {run}:"
            f" {found.stderr.strip()[-300:]}; mend launcher: in the study, the same command goes on"
        )
    note.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(note, shlex.join(words) + "\n" + found.stdout)


def profile_file(folder: StudyFolder, model: Model) -> Path:
    """Where :func:`write_profile` writes."""
    return folder.path / PROFILES / f"{model.name}.yaml"


def flags_file(folder: StudyFolder, model: Model) -> Path:
    """Where :func:`write_flags` writes."""
    return folder.path / FLAGS / f"{model.name}.yaml"


def command(folder: StudyFolder, job: TrainingJob, model: Model, seed: int) -> list[str]:
    """The command of one training."""
    words = ["--profile", str(profile_file(folder, model)), "--config", str(flags_file(folder, model))]
    words += ["--preset", job.preset] if job.preset else []
    run = str(folder.run(model, seed))
    return [sys.executable, "-m", "openrlhf_rad.cli.train", *words, "--seed", str(seed), "--out", run]


def unbound(run: Path) -> str:
    """Why a run is no example of its constraint: nothing was bound in the end; empty where it was."""
    found = told(run)
    if found["lambda"] > _NOTHING or found["slack"] > -_FAR:
        return ""
    return (
        f"over the last quarter of its steps λ stands at 0 and the violation at {number(found['slack'])}"
        " spreads: nothing was bound there, and a comparison would be one of what came before; start λ lower,"
        " move it by dual.method: pid, lower the learning rate, or ask for more"
    )


def told(run: Path) -> dict[str, float]:
    """What a run says of itself: its slack, in σ₀, and λ over the last quarter of its steps."""
    folder = RunFolder(run)
    metrics = folder.read_metrics()
    last = metrics[-max(1, len(metrics) // 4) :]
    spread = float(np.std(folder.read_reference().cost_r))
    return {
        "slack": float(np.mean([row["violation"] for row in last])) / spread,
        "lambda": float(np.mean([row["lambda"] for row in last])),
    }
