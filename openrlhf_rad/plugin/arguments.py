"""The ``--rad.*`` flags: taken off an OpenRLHF command line, the rest goes to OpenRLHF untouched."""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from openrlhf_rad.errors import ConfigError, did_you_mean
from openrlhf_rad.profile import RiskProfile, load_profile
from openrlhf_rad.profile.addresses import variables

LOSSES = ("reinforce", "ppo")
#: Answers a step whose texts are kept, and answers in one request to a cost server, unless a flag says more.
LOGGED, SERVER_BATCH = 256, 1024
#: Set to 1 it is ``--rad.trust_remote_code``, for processes that take no flags.
TRUST = "OPENRLHF_RAD_TRUST_REMOTE_CODE"


@dataclass(frozen=True)
class Patience:
    """How long a run waits for its costs; all in seconds but ``attempts``.

    Attributes:
        attempts: requests in all.
        pause, longest_pause: before the second attempt, doubled before each further one up to the longest;
            each is cut by a random part of up to a half, so that several runs do not ask in step.
        connect: for a connection. answer: for the answer of one request.
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
        log_answers: answers a step whose texts are kept, the most costly among them; None keeps all.
        loss: ``reinforce`` (the paper's) or ``ppo`` (OpenRLHF's clipped loss); None: by the updates.
        fixed_dual: hold λ at this value; 0 is the control run without a constraint.
        soft_risk: α of RA-RLHF's soft risk, a baseline of studies; None: all answers are learned from.
        cost_nodes, cost_gpus_per_node: placement of a cost model.
        patience: with servers that give costs or rewards.
        server_batch: answers in one request to a cost server.
        any_version: run on versions of the stack that were not tested.
        accept_profile_change: resume from a checkpoint that was trained under another profile.
        trust_remote_code: run Python code that comes with models and tokenizers.
        variables: environment variables that the addresses of the profile name, for the trainer's process.
        dry_run: say what would run, and what would stop it.
    """

    profile: RiskProfile
    out: Path
    heldout: str | None = None
    heldout_samples: int = 1
    log_answers: int | None = LOGGED
    loss: str | None = None
    fixed_dual: float | None = None
    soft_risk: float | None = None
    cost_nodes: int = 1
    cost_gpus_per_node: int = 1
    patience: Patience = field(default_factory=Patience)
    server_batch: int = SERVER_BATCH
    any_version: bool = False
    accept_profile_change: bool = False
    trust_remote_code: bool = False
    variables: Mapping[str, str] = field(default_factory=dict, repr=False)
    dry_run: bool = False


class _FlagParser(argparse.ArgumentParser):
    def error(self, message: str) -> None:  # type: ignore[override]
        raise ConfigError(f"{message}; see python -m openrlhf_rad --rad.help")


def parser() -> argparse.ArgumentParser:
    """The parser of the ``--rad.*`` flags; what it keeps has the names of :class:`RadOptions`."""
    flags, usual = _FlagParser("python -m openrlhf_rad", allow_abbrev=False, add_help=False), Patience()

    def add(name: str, help: str | None = None, **more: Any) -> None:
        flags.add_argument(f"--rad.{name}", help=help, **{"dest": name} | more)

    add("profile", "risk profile; without it, plain OpenRLHF", metavar="FILE|NAME")
    add("set", "override a key", action="append", default=[], metavar="KEY=VALUE")
    add("out", "the run's folder", metavar="DIR")
    add("heldout", "prompts for before and after", metavar="FILE")
    add("heldout_samples", "answers to each held-out prompt", type=_count, default=1, metavar="N")
    add(
        "log_answers",
        "answers a step whose texts samples.jsonl keeps; numbers are kept of all",
        type=_answers,
        default=LOGGED,
        metavar="N|all",
    )
    add("loss", "by default ppo, OpenRLHF's, where a rollout has several updates", choices=LOSSES)
    add("fixed_dual", "hold λ; 0: no constraint", type=float, metavar="λ")
    add(
        "soft_risk",
        "RA-RLHF's soft risk: after a warm-up only this share, of lowest return, is learned from",
        type=_share,
        metavar="α",
    )
    add("cost_num_nodes", type=_count, default=1, dest="cost_nodes", metavar="RAD.COST_NUM_NODES")
    add(
        "cost_num_gpus_per_node",
        type=_count,
        default=1,
        dest="cost_gpus_per_node",
        metavar="RAD.COST_NUM_GPUS_PER_NODE",
    )
    seconds: dict[str, Any] = {"type": _seconds, "metavar": "SECONDS"}
    add("server_timeout", "for one answer of a cost or reward server", default=usual.answer, **seconds)
    add("server_deadline", "for all attempts together; then the run stops", default=usual.deadline, **seconds)
    add(
        "server_batch",
        "answers in one request to a cost server",
        type=_count,
        default=SERVER_BATCH,
        metavar="N",
    )
    for name, text in {
        "any_version": "run on versions that were not tested",
        "accept_profile_change": "resume from a checkpoint of another profile",
        "trust_remote_code": "run Python code that comes with models",
        "dry_run": "say what would run and what would stop it; start nothing",
    }.items():
        add(name, text, action="store_true")
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
    flags = parser()
    known, rest = flags.parse_known_args(argv)
    unknown = [word for word in rest if word.startswith("--rad.")]
    if unknown:
        names = [name for action in flags._actions for name in action.option_strings]
        hint = did_you_mean(unknown[0].partition("=")[0], names)
        raise ConfigError(
            f"{unknown[0]} is not a flag of RAD; {hint or 'see python -m openrlhf_rad --rad.help'}"
        )
    values = vars(known)
    named, changes, out = (values.pop(name) for name in ("profile", "set", "out"))
    if profile is None and named is None:
        given = [word for word in argv if word.startswith("--rad.")]
        if given:
            raise ConfigError(f"{given[0]} needs --rad.profile FILE|NAME")
        return None, rest
    profile = profile or load_profile(named).with_overrides(overrides(changes))
    options = RadOptions(
        profile=profile,
        out=Path(out or f"runs/{profile.name}").absolute(),
        patience=Patience(answer=values.pop("server_timeout"), deadline=values.pop("server_deadline")),
        variables={name: os.environ[name] for name in variables(profile) if name in os.environ},
        **values,
    )
    return options, rest


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"it is {text}; it must be a whole number of at least 1")
    return int(text)


def _answers(text: str) -> int | None:
    if text == "all":
        return None
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"it is {text}; it must be a whole number of at least 0, or all")
    return int(text)


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"it is {text}; it must be a number of seconds above 0")
    return value


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"it is {text}; it must be a share in (0, 1]; 0.4 is RA-RLHF's")
    return value


def overrides(pairs: list[str]) -> dict[str, str]:
    """``["dual.step=0.2"]`` → ``{"dual.step": "0.2"}``."""
    broken = [pair for pair in pairs if "=" not in pair]
    if broken:
        raise ConfigError(f"--set {broken[0]} has no '='; write --set dual.step=0.2")
    return dict(tuple(pair.split("=", 1)) for pair in pairs)  # type: ignore[misc]
