"""The ``--rad.*`` flags: taken off an OpenRLHF command line, the rest goes to OpenRLHF untouched."""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from openrlhf_rad.errors import ConfigError, did_you_mean
from openrlhf_rad.profile import RiskProfile, load_profile
from openrlhf_rad.profile.addresses import variables

LOSSES = ("reinforce", "ppo")
#: Set to 1 it is ``--rad.trust_remote_code``, for processes that take no flags.
TRUST = "OPENRLHF_RAD_TRUST_REMOTE_CODE"


@dataclass(frozen=True)
class Patience:
    """How long a run waits for its costs; all in seconds but ``attempts``.

    Attributes:
        attempts: requests in all.
        pause, longest_pause: before the second attempt, doubled before each further one up to the longest;
            each is cut by a random part of up to a half, so that several runs do not ask in step.
        connect: for a connection. answer: for the answer of one request, which scores a whole rollout.
        deadline: for everything together, pauses included.
    """

    attempts: int = 6
    pause: float = 1.0
    longest_pause: float = 30.0
    connect: float = 10.0
    answer: float = 180.0
    deadline: float = 600.0


@dataclass(frozen=True)
class RadOptions:
    """What one run needs to know beside OpenRLHF's own arguments; sent to the trainer actor.

    Attributes:
        profile: the risk profile, overrides applied.
        out: the run's folder.
        heldout: a prompt file in the format of the training prompts, answered before and after training.
        heldout_samples: answers to each held-out prompt; more of them narrow the intervals of the report.
        loss: ``reinforce`` (the paper's) or ``ppo`` (OpenRLHF's clipped loss); None: by the updates.
        fixed_dual: hold λ at this value; 0 is the control run without a constraint.
        cost_nodes, cost_gpus_per_node: placement of a cost model.
        patience: with servers that give costs or rewards.
        any_version: run on versions of the stack that were not tested.
        accept_profile_change: go on from a checkpoint that was trained under another profile.
        trust_remote_code: run Python code that comes with models and tokenizers.
        variables: environment variables that the addresses of the profile name, for the trainer's process.
        dry_run: say what would run, and what would stop it.
    """

    profile: RiskProfile
    out: Path
    heldout: str | None = None
    heldout_samples: int = 1
    loss: str | None = None
    fixed_dual: float | None = None
    cost_nodes: int = 1
    cost_gpus_per_node: int = 1
    patience: Patience = field(default_factory=Patience)
    any_version: bool = False
    accept_profile_change: bool = False
    trust_remote_code: bool = False
    variables: Mapping[str, str] = field(default_factory=dict, repr=False)
    dry_run: bool = False


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> None:  # type: ignore[override]
        raise ConfigError(f"{message}; see python -m openrlhf_rad --rad.help")


def parser() -> argparse.ArgumentParser:
    """The parser of the ``--rad.*`` flags."""
    flags = _Parser("python -m openrlhf_rad", allow_abbrev=False, add_help=False)
    flags.add_argument("--rad.profile", metavar="FILE|NAME", help="risk profile; without it, plain OpenRLHF")
    flags.add_argument("--rad.set", action="append", default=[], metavar="KEY=VALUE", help="override a key")
    flags.add_argument("--rad.out", default=None, metavar="DIR", help="the run's folder")
    flags.add_argument("--rad.heldout", default=None, metavar="FILE", help="prompts for before and after")
    flags.add_argument(
        "--rad.heldout_samples", type=_count, default=1, metavar="N", help="answers to each held-out prompt"
    )
    flags.add_argument(
        "--rad.loss", choices=LOSSES, help="by default ppo, OpenRLHF's, where a rollout has several updates"
    )
    flags.add_argument(
        "--rad.fixed_dual", type=float, default=None, metavar="λ", help="hold λ; 0: no constraint"
    )
    flags.add_argument("--rad.cost_num_nodes", type=_count, default=1)
    flags.add_argument("--rad.cost_num_gpus_per_node", type=_count, default=1)
    usual = Patience()
    flags.add_argument(
        "--rad.server_timeout",
        type=_seconds,
        default=usual.answer,
        metavar="SECONDS",
        help="for one answer of a cost or reward server",
    )
    flags.add_argument(
        "--rad.server_deadline",
        type=_seconds,
        default=usual.deadline,
        metavar="SECONDS",
        help="for all attempts together; then the run stops",
    )
    flags.add_argument("--rad.any_version", action="store_true", help="run on versions that were not tested")
    flags.add_argument(
        "--rad.accept_profile_change",
        action="store_true",
        help="go on from a checkpoint of another profile",
    )
    flags.add_argument(
        "--rad.trust_remote_code", action="store_true", help="run Python code that comes with models"
    )
    flags.add_argument(
        "--rad.dry_run", action="store_true", help="say what would run and what would stop it; start nothing"
    )
    flags.add_argument("--rad.help", action="help", help="show these flags and exit")
    return flags


def parse(argv: list[str], profile: RiskProfile | None = None) -> tuple[RadOptions | None, list[str]]:
    """Split ``argv`` into RAD's options (None without ``--rad.profile``) and OpenRLHF's arguments.

    Args:
        profile: in place of that of ``--rad.profile``, where it was read already.

    Raises:
        ConfigError: a ``--rad.*`` flag that is unknown, has no profile, or has a wrong value.
        ProfileError: a profile, or an override of it, that is not valid.
    """
    found, rest = parser().parse_known_args(argv)
    values = vars(found)
    unknown = [word for word in rest if word.startswith("--rad.")]
    if unknown:
        hint = did_you_mean(unknown[0].partition("=")[0], [f"--{name}" for name in values])
        raise ConfigError(
            f"{unknown[0]} is no flag of RAD; {hint or 'see python -m openrlhf_rad --rad.help'}"
        )
    if profile is None and values["rad.profile"] is None:
        given = [word for word in argv if word.startswith("--rad.")]
        if given:
            raise ConfigError(f"{given[0]} needs --rad.profile FILE|NAME")
        return None, rest
    if profile is None:
        profile = load_profile(values["rad.profile"]).with_overrides(overrides(values["rad.set"]))
    return (
        RadOptions(
            profile=profile,
            out=Path(values["rad.out"] or f"runs/{profile.name}").absolute(),
            heldout=values["rad.heldout"],
            heldout_samples=values["rad.heldout_samples"],
            loss=values["rad.loss"],
            fixed_dual=values["rad.fixed_dual"],
            cost_nodes=values["rad.cost_num_nodes"],
            cost_gpus_per_node=values["rad.cost_num_gpus_per_node"],
            patience=Patience(answer=values["rad.server_timeout"], deadline=values["rad.server_deadline"]),
            any_version=values["rad.any_version"],
            accept_profile_change=values["rad.accept_profile_change"],
            trust_remote_code=values["rad.trust_remote_code"],
            variables={name: os.environ[name] for name in variables(profile) if name in os.environ},
            dry_run=values["rad.dry_run"],
        ),
        rest,
    )


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"it is {text}; it must be a whole number of at least 1")
    return int(text)


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"it is {text}; it must be a number of seconds above 0")
    return value


def overrides(pairs: list[str]) -> dict[str, str]:
    """``["dual.step=0.2"]`` → ``{"dual.step": "0.2"}``."""
    broken = [pair for pair in pairs if "=" not in pair]
    if broken:
        raise ConfigError(f"--set {broken[0]} has no '='; write --set dual.step=0.2")
    return dict(tuple(pair.split("=", 1)) for pair in pairs)  # type: ignore[misc]
