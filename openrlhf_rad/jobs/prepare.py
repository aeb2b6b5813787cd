"""Prepare all assets of a preset: ``python -m openrlhf_rad.jobs.prepare [--preset default|tiny]``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class TinyAssets:
    """Paths of the tiny preset; ``reward_file`` and ``cost_file`` are Python files for the command line."""

    policy: Path
    train_prompts: Path
    heldout_prompts: Path
    reward_file: Path
    cost_file: Path
    cost_model: Path


def prepare_tiny() -> TinyAssets:
    """Build the tiny preset if it is not there; a few seconds, no asset packages."""
    from openrlhf_rad.jobs import tiny  # noqa: PLC0415

    folder = tiny.prepare()
    here = Path(__file__).parent
    return TinyAssets(
        policy=folder / "policy",
        train_prompts=folder / "train.jsonl",
        heldout_prompts=folder / "heldout.jsonl",
        reward_file=here / "tiny_reward.py",
        cost_file=here / "tiny_cost.py",
        cost_model=folder / "cost_model",
    )


if __name__ == "__main__":
    print(prepare_tiny())
