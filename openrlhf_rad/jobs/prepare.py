"""Prepare all assets of a preset: ``python -m openrlhf_rad.jobs.prepare [--preset default|tiny]``.

The modules that load models are imported when they are needed, so that the paths alone cost nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import warnings
from dataclasses import dataclass, field, fields
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from openrlhf_rad.data.labels import REPORT
from openrlhf_rad.errors import EnvironmentProblem, RadError
from openrlhf_rad.jobs.assets import finished
from openrlhf_rad.processes import Parent

_HERE = Path(__file__).parent


@dataclass(frozen=True)
class DefaultAssets:
    """Paths of the default job; ``report`` holds the figures of both costs on prompts they have not seen."""

    policy: Path
    train_prompts: Path
    heldout_prompts: Path
    ood_prompts: Path
    cost_model: Path
    reward_file: Path
    independent_cost: Path
    report: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class TinyAssets:
    """Paths of the tiny preset; ``reward_file`` and ``cost_file`` are Python files for the command line."""

    policy: Path
    train_prompts: Path
    heldout_prompts: Path
    reward_file: Path
    cost_file: Path
    cost_model: Path


def prepare_default() -> DefaultAssets:
    """Build what is missing of the default job: some minutes the first time, seconds afterwards.

    Raises:
        EnvironmentProblem: an asset package is missing; the message names it and the fix.
    """
    from openrlhf_rad.jobs import cost_model, independent_cost, policy, prompts  # noqa: PLC0415

    files = prompts.prepare()
    checkpoint = policy.prepare()
    cost = cost_model.prepare()
    independent = independent_cost.prepare()
    return DefaultAssets(
        policy=checkpoint,
        train_prompts=files / "train.jsonl",
        heldout_prompts=files / "heldout.jsonl",
        ood_prompts=files / "ood.jsonl",
        cost_model=cost,
        reward_file=_HERE / "relevance.py",
        independent_cost=independent,
        report={
            "cost_model": json.loads((cost / REPORT).read_text()),
            "independent_cost": json.loads((independent / independent_cost.REPORT).read_text()),
        },
    )


def prepare_tiny() -> TinyAssets:
    """Build the tiny preset if it is not there; a few seconds, no asset packages."""
    from openrlhf_rad.jobs import tiny  # noqa: PLC0415

    folder = tiny.prepare()
    return TinyAssets(
        policy=folder / "policy",
        train_prompts=folder / "train.jsonl",
        heldout_prompts=folder / "heldout.jsonl",
        reward_file=_HERE / "tiny_reward.py",
        cost_file=_HERE / "tiny_cost.py",
        cost_model=folder / "cost_model",
    )


def main(arguments: list[str] | None = None) -> int:
    """Command line: prepare a preset and print where its parts are; 0, or the exit code of the error."""
    silence_libraries()
    parser = argparse.ArgumentParser(prog="python -m openrlhf_rad.jobs.prepare", description=__doc__)
    parser.add_argument("--preset", choices=("default", "tiny"), default="default")
    parser.add_argument("--quiet", action="store_true", help="print no paths")
    options = parser.parse_args(arguments)
    try:
        if find_spec("torch") is None:
            raise EnvironmentProblem(
                'torch is not installed; pip install "openrlhf-rad[gpu]", or make install on a CPU'
            )
        assets = prepare_tiny() if options.preset == "tiny" else prepare_default()
    except RadError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        kept = ", ".join(finished()) or "nothing"
        print(f"stopped; kept: {kept}; the same command goes on with the next", file=sys.stderr)
        return 130
    if options.quiet:
        return 0
    for part in fields(assets):
        value = getattr(assets, part.name)
        if isinstance(value, Path):
            print(f"{part.name:17} {value}")
    if isinstance(assets, DefaultAssets):
        print(json.dumps(assets.report, indent=1, ensure_ascii=False))
    return 0


def silence_libraries() -> None:
    """No bars and warnings of the libraries: this command has its own."""
    os.environ |= {"TQDM_DISABLE": "1", "DS_ACCELERATOR": "cpu", "TRANSFORMERS_VERBOSITY": "error"}
    warnings.simplefilter("ignore", FutureWarning)


if __name__ == "__main__":
    Parent().follow(seconds=0.0)  # assets are moved to their place when they are whole
    sys.exit(main())
