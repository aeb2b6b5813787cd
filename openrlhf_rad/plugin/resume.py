"""What a run keeps in OpenRLHF's checkpoint beside OpenRLHF's own states, and how it resumes from there.

Random numbers are a function of the run's seed and the step. No state of a generator is saved or restored:
every process seeds its generators anew where a step begins, and every sampled answer has a seed of its own,
which does not depend on what else the engine works on.
"""

from __future__ import annotations

import hashlib
import os
import random
from pathlib import Path
from typing import Any

import numpy as np

from openrlhf_rad import processor
from openrlhf_rad.errors import ConfigError
from openrlhf_rad.plugin.arguments import RadOptions
from openrlhf_rad.profile import RiskProfile, named_costs
from openrlhf_rad.profile.addresses import sealed
from openrlhf_rad.profile.costs import digest_of
from openrlhf_rad.runs.checkpoints import Checkpoint, settle
from openrlhf_rad.runs.folder import Reference


def seed_of(*parts: str | int) -> int:
    """A seed for what ``parts`` name, such as ``(42, "order", 7)``; the same in every process and version."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:4], "big")  # numpy takes no more than 32 bits


def reseed(seed: int) -> None:
    """Seed every generator of this process that the stack draws from."""
    import torch  # noqa: PLC0415 - the command line asks for seeds too, and need not wait for torch

    random.seed(seed)
    np.random.seed(seed)  # the stack's libraries draw from the global generator
    torch.manual_seed(seed)


def identity(profile: RiskProfile) -> str:
    """What must stay the same where a run goes on: the profile's hash, a digest of where its costs are from.

    The hash of a profile leaves its costs out, and their addresses may hold secrets.
    """
    return f"{profile.hash}.{seed_of(*_sources(profile)):08x}"


def prepare(args: Any, options: RadOptions) -> Checkpoint | None:
    """Before anything starts: the checkpoint that the run resumes from, None where it begins.

    Raises:
        ConfigError: as :func:`check_profile`, unless the change is accepted.
    """
    checkpoint = settle(Path(args.ckpt.path)) if args.ckpt.load_enable else None
    if checkpoint is not None and not options.accept_profile_change:
        check_profile(checkpoint, options.profile)
    return checkpoint


def other_format(checkpoint: Checkpoint) -> str:
    """What to say where a checkpoint was trained in another number format than this run computes in."""
    now = os.environ.get(processor.VARIABLE, "")
    if now == checkpoint.number_format:
        return ""
    then, now = checkpoint.number_format or "a GPU's bfloat16", now or "a GPU's bfloat16"
    return f", which was trained in {then}; this run computes in {now}: it is not the same run bit for bit"


def check_profile(checkpoint: Checkpoint, profile: RiskProfile) -> None:
    """Refuse to resume from a checkpoint that was trained under another profile, or with other costs.

    Raises:
        ConfigError: naming what has changed.
    """
    if checkpoint.profile == identity(profile):
        return
    hash_then, hash_now = checkpoint.profile.partition(".")[0], profile.hash
    changed = (
        f"the costs of profile {profile.name} come from another source than those of the checkpoint"
        if hash_then == hash_now
        else f"profile {profile.name} has the hash {hash_now[:12]}, the checkpoint's {hash_then[:12]}"
    )
    raise ConfigError(
        f"{checkpoint}: {changed}, so that its λ does not belong to this constraint; resume with what that"
        " run had, or accept the change with --rad.accept_profile_change (rad-train --accept-profile-change):"
        " each λ stays with the constraint of its name, all else begins anew"
    )


def capture(trainer: Any) -> dict[str, Any]:
    """RAD's part of a checkpoint, of a trainer between two steps."""
    return {
        "profile": identity(trainer.options.profile),
        "sources": _sources(trainer.options.profile),
        "reference": trainer.reference._asdict(),
        "constraints": trainer.constraints.state_dict(),
        "watches": trainer.watches.state_dict(),
        "varieties": {name: one.state_dict() for name, one in _varieties(trainer).items()},
        "kl_coefficient": trainer.kl_ctl.value,
        "samples": trainer.samples_generator.state_dict(),
    }


def reference_of(profile: RiskProfile, state: dict[str, Any]) -> Reference | None:
    """The reference answers of a checkpoint; None where they have costs of another source."""
    return Reference(**state["reference"]) if state["sources"] == _sources(profile) else None


def restore(trainer: Any, state: dict[str, Any]) -> None:
    """Put the states of :func:`capture` back, into a trainer that has made its constraints."""
    trainer.kl_ctl.value = state["kl_coefficient"]
    trainer.samples_generator.load_state_dict(state["samples"])
    if state["profile"] != identity(trainer.options.profile):
        trainer.constraints.adopt(state["constraints"])
        return
    trainer.constraints.load_state_dict(state["constraints"])
    trainer.watches.load_state_dict(state["watches"])
    for name, variety in _varieties(trainer).items():
        variety.load_state_dict(state["varieties"][name])


def _varieties(trainer: Any) -> dict[str, Any]:
    """What is known of each rating's values, by name; the reward's is nameless, as no cost is."""
    maker = trainer.experience_maker
    return {"": maker.rewards, **{name: one.variety for name, one in maker.cost_sources.items()}}


def _sources(profile: RiskProfile) -> list[str]:
    """Where costs come from, a line a source, and how reference answers are made."""
    profile, _ = sealed(profile)  # for a checkpoint keeps the lines
    named = [
        f"{name}: {one.kind} {one.location}{f' {digest_of(one.settings)}' if one.settings else ''}"
        for name, one in named_costs(profile).items()
        if one
    ]
    return [*named, f"reference: {profile.reference}"]
