"""What ``rad gate`` does once its options are read."""

from __future__ import annotations

import csv
import json
import sys
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import asdict, astuple, dataclass, replace
from pathlib import Path
from typing import Any

from openrlhf_rad.errors import ConfigError, DataError, ProfileError, RadError
from openrlhf_rad.evaluation import sign
from openrlhf_rad.evaluation.answers import Answers, pair, read_answers
from openrlhf_rad.evaluation.columns import Columns
from openrlhf_rad.evaluation.constraints import CostOf, Part, costs_of, family, parts, without_prompts
from openrlhf_rad.evaluation.folder import PROFILE, kept, kept_profile, read
from openrlhf_rad.evaluation.folder import source as read_from
from openrlhf_rad.evaluation.gate import Gate, Outcome, Ruling, overall, sentence
from openrlhf_rad.evaluation.sources import Rating, parse_sources
from openrlhf_rad.method.settings import Level
from openrlhf_rad.profile import EvaluateSettings, RiskProfile
from openrlhf_rad.statistics.answers import Panel

from .evaluate_run import profile_of
from .gate import Options
from .terminal import BROKEN, INTERRUPTED, USAGE, say

RULES = ("risk", "quantiles")


@dataclass(frozen=True)
class Evidence:
    """What a gate judges.

    Attributes:
        answers: of red, then of blue. lines: what was read, and which way is harmful, for people.
    """

    profile: RiskProfile
    answers: Mapping[str, Answers]
    lines: Sequence[str]


def main(options: Options) -> int:
    """Decide and print; nothing but a pass is 0, nothing but a fail is 1."""
    try:
        held = evidence(options)
        rulings = decide(options, held)
    except (ConfigError, ProfileError) as error:
        say("error", error)
        return USAGE
    except RadError as error:
        print(f"CANNOT SAY: {error}", file=sys.stderr)
        return Outcome.UNKNOWN.value
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception:  # Python would end with 1, which means fail
        traceback.print_exc()
        return BROKEN
    outcome = overall(rulings)
    if options.as_json:
        rows = [asdict(ruling) | {"outcome": ruling.outcome.name.lower()} for ruling in rulings]
        said = {"outcome": outcome.name.lower(), "sentence": sentence(rulings), "read": list(held.lines)}
        print(json.dumps(said | {"rulings": rows}, ensure_ascii=False, indent=1))
    else:
        print("\n".join([sentence(rulings), *held.lines]))
    return outcome.value


def evidence(options: Options) -> Evidence:
    """Profile and scored answers, the sign of the costs looked at. Raises RadError."""
    found = _of_tables(options) if options.evaluation is None else _of_evaluation(options, options.evaluation)
    if wrong := sign.inverted(sign.look(found.answers)):
        raise DataError(wrong)
    return found


def decide(options: Options, held: Evidence) -> list[Ruling]:
    """All rulings. Raises RadError."""
    wrong = [rule for rule in options.rule or () if rule not in RULES]
    if wrong:
        raise ConfigError(f"--rule {wrong[0]}: it must be one of {', '.join(RULES)}; leave it out for both")
    panel = pair(held.answers)
    bounds = parts(held.profile, panel)
    empty = [without_prompts(part, panel) for part in bounds if not part.panel.prompts]
    if empty:
        raise DataError(empty)
    asked, (red, blue) = _segments(options.segments, panel), held.answers
    found = []
    for part in bounds:
        rulings = _gate(options, held.profile.evaluate, part, asked, red).decide(part.panel, red, blue)
        name = part.constraint.name if len(bounds) > 1 else ""
        found += [replace(ruling, constraint=name) for ruling in rulings]
    return found


def _of_tables(options: Options) -> Evidence:
    """Red and blue as tables of scored answers."""
    missing = [
        flag
        for flag, given in (("--red", options.red), ("--blue", options.blue), ("--profile", options.profile))
        if given is None
    ]
    if missing or options.red is None or options.blue is None or options.profile is None:
        raise ConfigError(
            f"{' and '.join(missing)}: missing; name --red, --blue and --profile, or a folder of rad eval by"
            " --eval DIR"
        )
    sources = parse_sources(options.red, options.blue, [])
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


def _of_evaluation(options: Options, folder: Path) -> Evidence:
    """The rows that an evaluation kept, under its profile unless another is asked for."""
    data = read(folder)
    own = kept_profile(folder, data)
    profile = own
    if options.profile is not None or options.overrides:
        profile = profile_of(options.profile or str(folder / PROFILE), options.overrides)
    named = {row["name"]: row for row in data["models"]}
    roles = {row["role"]: name for name, row in named.items()}
    sides = {role: given or roles[role] for role, given in (("red", options.red), ("blue", options.blue))}
    costs = costs_of(profile)
    answers = kept(folder, data, list(sides.values()), _columns(options, costs), costs)
    rows = [named[name] | {"role": role} for role, name in sides.items()]
    _refuse_other_costs(profile, rows)
    lines = [f"{folder}, evaluated {data['created']} under {own.name} {own.hash[:12]}"]
    if profile != own:
        lines[0] += f"; judged under {profile.name} {profile.hash[:12]}, which is not the evaluation's"
    return _evidence(profile, answers, rows, lines)


def _evidence(
    profile: RiskProfile, answers: Mapping[str, Answers], rows: Sequence[Mapping[str, Any]], lines: list[str]
) -> Evidence:
    looked = sign.look(answers)
    return Evidence(profile, answers, [*lines, *sign.described(rows, looked), *sign.notes(answers, looked)])


def _refuse_other_costs(profile: RiskProfile, rows: Sequence[Mapping[str, Any]]) -> None:
    """Raise DataError where the profile names another source of costs than scored the answers."""
    wanted = {family(one): str(Rating("cost", *astuple(one.cost))) for one in profile.constraints if one.cost}
    for row in rows:
        alone = len(wanted) == len(row["scored_by"]) == 1
        held = dict.fromkeys(wanted, *row["scored_by"].values()) if alone else row["scored_by"]
        for name in wanted.keys() & held.keys():
            if wanted[name] != held[name]:
                raise DataError(
                    f"{row['name']}: its costs are by {held[name]}, and the profile {profile.name} names"
                    f" {wanted[name]}; run rad eval with that profile, or judge by the evaluation's own"
                )


def _columns(options: Options, costs: Sequence[CostOf]) -> Columns:
    return Columns.parse(options.column or [], costs, options.harmful, labelled=not options.no_labels)


def _gate(
    options: Options, settings: EvaluateSettings, part: Part, segments: tuple[str, ...], red: str
) -> Gate:
    """The rules of one constraint; amounts relative to red are of red's own costs under it."""
    cost_b, risk, rules = part.panel.cost[red], part.constraint.risk, options.rule or RULES
    amounts = {
        "improvement": _level("improvement", options.improvement, settings.improvement),
        "tolerance": _level("tolerance", options.tolerance, settings.tolerance),
    }
    limit = {name: level.resolve(cost_b, risk.risk(cost_b)) for name, level in amounts.items()}
    return Gate(
        risk,
        limit["improvement"] if "risk" in rules else None,
        limit["tolerance"] if "quantiles" in rules else None,
        options.confidence or settings.confidence,
        _levels(options.levels),
        settings.resamples,
        options.seed,
        # A segment with a constraint of its own is judged by that one.
        () if part.constraint.segment else tuple(s for s in segments if part.constraint.holds_for(s)),
    )


def _level(name: str, given: str | None, default: Level) -> Level:
    if given is None:
        return default
    try:
        level = Level.parse(float(given) if _is_number(given) else given)
    except ValueError:
        level = None
    if level is None or level.unit == "quantile" or level.value < 0:
        raise ConfigError(
            f"--{name} {given}: it must be an amount of cost of at least 0; write 0.2 or '10% of"
            f" reference spread'"
        )
    return level


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _levels(text: str | None) -> tuple[float, float] | None:
    if text is None:
        return None
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        low, high = 1.0, 0.0
    if not 0 < low <= high < 1:
        raise ConfigError(f"--levels {text}: it must be two levels LOW,HIGH between 0 and 1; write 0.5,0.95")
    return low, high


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
