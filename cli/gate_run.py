"""What ``rad gate`` does once its options are read."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from openrlhf_rad.errors import ConfigError, DataError
from openrlhf_rad.evaluation import sign
from openrlhf_rad.evaluation.answers import ScoredAnswers, read_answers
from openrlhf_rad.evaluation.columns import Columns
from openrlhf_rad.evaluation.constraints import Costs, costs_of
from openrlhf_rad.evaluation.folder import PROFILE, kept, kept_profile, read
from openrlhf_rad.evaluation.folder import source as read_from
from openrlhf_rad.evaluation.gate import RULES, GateVerdict, Outcome, Requirements, decide
from openrlhf_rad.evaluation.pairing import pair
from openrlhf_rad.evaluation.sources import Rating, parse_sources
from openrlhf_rad.method.settings import Level
from openrlhf_rad.profile import RiskProfile
from openrlhf_rad.statistics.answers import Panel

from .evaluate_run import profile_of
from .gate import GateOptions
from .options import numbers
from .terminal import verdict_code


@dataclass(frozen=True)
class Evidence:
    """What a gate judges.

    Attributes:
        answers: of the baseline, then of the candidate. lines: what was read, and which way is harmful.
    """

    profile: RiskProfile
    answers: Mapping[str, ScoredAnswers]
    lines: Sequence[str]


def main(options: GateOptions) -> int:
    """Decide and print; nothing but a pass is 0, nothing but a fail is 1."""
    return verdict_code(lambda: decided(options))


def decided(options: GateOptions) -> Outcome:
    """Read, judge and print. Raises RadError."""
    ask = _ask(options)
    held = evidence(options)
    verdict = judge(options, ask, held)
    if options.as_json:
        print(json.dumps(verdict.data() | {"read": list(held.lines)}, ensure_ascii=False, indent=1))
    else:
        print("\n".join([*verdict.lines, *held.lines]))
    return verdict.outcome


def evidence(options: GateOptions) -> Evidence:
    """Profile and scored answers, the sign of the costs looked at. Raises RadError."""
    found = _of_tables(options) if options.evaluation is None else _of_evaluation(options, options.evaluation)
    if wrong := sign.inverted(sign.look(found.answers)):
        raise DataError(wrong)
    return found


def judge(options: GateOptions, ask: Requirements, held: Evidence) -> GateVerdict:
    """The verdict. Raises RadError."""
    panel, (baseline, candidate) = pair(held.answers), held.answers
    whole = replace(ask, segments=_segments(options.segments, panel))
    verdict = decide(held.profile, panel, baseline, candidate, whole)
    if verdict.reasons:
        raise DataError(list(verdict.reasons))
    return verdict


def _of_tables(options: GateOptions) -> Evidence:
    """Baseline and candidate as tables of scored answers."""
    missing = [
        flag
        for flag, given in (
            ("--baseline", options.baseline),
            ("--candidate", options.candidate),
            ("--profile", options.profile),
        )
        if given is None
    ]
    if missing or options.baseline is None or options.candidate is None or options.profile is None:
        raise ConfigError(
            f"{' and '.join(missing)}: missing; name --baseline, --candidate and --profile, or a folder"
            " of rad eval by --eval DIR"
        )
    sources = parse_sources(options.baseline, options.candidate, [])
    models = [source for source in sources if source.table is None]
    if models:
        raise ConfigError(
            f"--{models[0].role} {models[0].name}={models[0].location}: a gate reads scored answers; run rad"
            " eval first, then rad gate --eval DIR"
        )
    profile = profile_of(options.profile, options.overrides)
    costs = costs_of(profile)
    columns = _columns(options, costs)
    answers = {
        source.name: read_answers(Path(source.location), columns, source.name, costs) for source in sources
    }
    rows = [{"name": one.name, "role": one.role, "read": read_from(answers[one.name])} for one in sources]
    return _evidence(profile, answers, rows, [])


def _of_evaluation(options: GateOptions, folder: Path) -> Evidence:
    """The rows that an evaluation kept, under its profile unless another is asked for."""
    data = read(folder)
    own = kept_profile(folder, data)
    profile = own
    if options.profile is not None or options.overrides:
        profile = profile_of(options.profile or str(folder / PROFILE), options.overrides)
    named = {row["name"]: row for row in data["models"]}
    roles = {row["role"]: name for name, row in named.items()}
    sides = {
        role: given or roles[role]
        for role, given in (("baseline", options.baseline), ("candidate", options.candidate))
    }
    costs = costs_of(profile)
    answers = kept(folder, data, list(sides.values()), _columns(options, costs), costs)
    rows = [named[name] | {"role": role} for role, name in sides.items()]
    _refuse_other_costs(profile, rows)
    lines = [f"{folder}, evaluated {data['created']} under {own.name} {own.hash[:12]}"]
    if profile != own:
        lines[0] += f"; judged under {profile.name} {profile.hash[:12]}, which is not the evaluation's"
    return _evidence(profile, answers, rows, lines)


def _evidence(
    profile: RiskProfile,
    answers: Mapping[str, ScoredAnswers],
    rows: Sequence[Mapping[str, Any]],
    lines: list[str],
) -> Evidence:
    looked = sign.look(answers)
    return Evidence(profile, answers, [*lines, *sign.described(rows, looked), *sign.notes(answers, looked)])


def _refuse_other_costs(profile: RiskProfile, rows: Sequence[Mapping[str, Any]]) -> None:
    """Raise DataError where the profile names another source of costs than scored the answers."""
    wanted = {
        one.family: str(Rating("cost", one.cost.kind, one.cost.location, one.cost.settings))
        for one in profile.constraints
        if one.cost
    }
    for row in rows:
        alone = len(wanted) == len(row["scored_by"]) == 1
        held = dict.fromkeys(wanted, *row["scored_by"].values()) if alone else row["scored_by"]
        for name in wanted.keys() & held.keys():
            if wanted[name] != held[name]:
                raise DataError(
                    f"{row['name']}: its costs are by {held[name]}, and the profile {profile.name} names"
                    f" {wanted[name]}; run rad eval with that profile, or judge by the evaluation's own"
                )


def _columns(options: GateOptions, costs: Costs) -> Columns:
    return Columns.parse(options.column or [], costs, options.harmful, labelled=not options.no_labels)


def _ask(options: GateOptions) -> Requirements:
    """What the options ask for in place of the profile. Raises ConfigError with every problem."""
    problems = [
        f"--rule {rule}: it must be one of {', '.join(RULES)}; leave it out for both"
        for rule in options.rule or ()
        if rule not in RULES
    ]
    amounts: dict[str, Any] = {}
    for name in ("improvement", "worsening", "tolerance"):
        if (given := getattr(options, name)) is not None:
            amounts[name] = _amount(given)
            if amounts[name] is None:
                problems.append(
                    f"--{name} {given}: it must be an amount of cost of at least 0; write 0.2 or '10% of"
                    " reference spread'"
                )
    if {"improvement", "worsening"} <= amounts.keys():
        problems.append(
            "--improvement and --worsening: the risk must fall by the one, or may rise by the other; drop one"
        )
    low, high = numbers(options.levels or "", 2) or (0.0, 0.0)
    levels = (low, high) if 0 < low <= high < 1 else None
    if levels is None and options.levels is not None:
        problems.append(
            f"--levels {options.levels}: it must be two levels LOW,HIGH between 0 and 1; write 0.5,0.95"
        )
    if problems:
        raise ConfigError("\n".join(problems))
    return Requirements(
        rules=tuple(options.rule or RULES),
        confidence=options.confidence,
        levels=levels,
        seed=options.seed,
        **amounts,
    )


def _amount(given: str) -> Level | None:
    """An amount of cost of at least 0; None for anything else."""
    try:
        level = Level.parse(float(given) if _is_number(given) else given)
    except ValueError:
        return None
    return None if level.unit == "quantile" or not 0 <= level.value < float("inf") else level


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _segments(text: str | None, panel: Panel) -> tuple[str, ...]:
    if text is None:
        return ()
    listed = (text,) if text in panel.segments else tuple(next(csv.reader([text], skipinitialspace=True), ()))
    names = panel.segments if text == "all" else listed
    unknown = [name for name in names if name not in panel.segments]
    if unknown or not names:
        held = ", ".join(panel.segments) or "no segments"
        raise ConfigError(
            f"--segments {text}: the answers have {held}; name some of them, those with commas in double"
            " quotes, or all"
        )
    return names
