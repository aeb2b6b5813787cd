"""What ``rad gate`` does once its options are read."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from openrlhf_rad.errors import ConfigError, DataError, RadError
from openrlhf_rad.evaluation.answers import read_answers
from openrlhf_rad.evaluation.columns import Columns
from openrlhf_rad.evaluation.constraints import Part, parts, without_prompts
from openrlhf_rad.evaluation.costs import costs_of
from openrlhf_rad.evaluation.folder import read
from openrlhf_rad.evaluation.gate import Gate, overall, sentence
from openrlhf_rad.evaluation.panel import Panel, pair
from openrlhf_rad.evaluation.prepare import ANSWERS
from openrlhf_rad.evaluation.rules import Outcome, Ruling
from openrlhf_rad.evaluation.sources import Source, parse_sources
from openrlhf_rad.profile import EvaluateSettings
from openrlhf_rad.profile.level import Level

from .evaluate_run import profile_of

RULES = ("risk", "quantiles")


@dataclass(frozen=True)
class Options:
    """The options of ``rad gate`` as they were given."""

    profile: str
    red: str | None
    blue: str | None
    evaluation: Path | None
    rule: list[str] | None
    improvement: str | None
    tolerance: str | None
    confidence: float | None
    levels: str | None
    segments: str | None
    column: list[str] | None
    overrides: list[str] | None
    seed: int
    as_json: bool


def main(options: Options) -> int:
    """Decide and print; 2 for every error, so that nothing but a pass is 0."""
    try:
        rulings = decide(options)
    except RadError as error:
        print(f"CANNOT SAY: {error}", file=sys.stderr)
        return Outcome.UNKNOWN.value
    outcome = overall(rulings)
    if options.as_json:
        rows = [asdict(ruling) | {"outcome": ruling.outcome.name.lower()} for ruling in rulings]
        print(
            json.dumps(
                {"outcome": outcome.name.lower(), "sentence": sentence(rulings), "rulings": rows},
                ensure_ascii=False,
                indent=1,
            )
        )
    else:
        print(sentence(rulings))
    return outcome.value


def decide(options: Options) -> list[Ruling]:
    """All rulings. Raises RadError."""
    profile = profile_of(options.profile, options.overrides)
    wrong = [rule for rule in options.rule or () if rule not in RULES]
    if wrong:
        raise ConfigError(f"--rule {wrong[0]}: it must be one of {', '.join(RULES)}; leave it out for both")
    costs = costs_of(profile)
    columns = Columns.parse(options.column or [], costs)
    sources, own = _sources(options)
    panel = pair(
        {
            source.name: read_answers(
                Path(source.location), columns if own else Columns(), source.name, costs
            )
            for source in sources
        }
    )
    bounds = parts(profile, panel)
    empty = [without_prompts(part, panel) for part in bounds if not part.panel.prompts]
    if empty:
        raise DataError(empty)
    asked, sides = _segments(options.segments, panel), (sources[0].name, sources[1].name)
    found = []
    for part in bounds:
        rulings = _gate(options, profile.evaluate, part, asked, sides[0]).decide(part.panel, *sides)
        name = part.constraint.name if len(bounds) > 1 else ""
        found += [replace(ruling, constraint=name) for ruling in rulings]
    return found


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


def _sources(options: Options) -> tuple[list[Source], bool]:
    """Red and blue as tables, and whether the user's columns hold for them."""
    if options.evaluation is None:
        if options.red is None or options.blue is None:
            raise ConfigError(
                "--red and --blue are missing; name both, or a folder of rad eval by --eval DIR"
            )
        found = parse_sources(options.red, options.blue, [])
        models = [source for source in found if source.table is None]
        if models:
            raise ConfigError(
                f"--{models[0].role} {models[0].name}={models[0].location}: a gate reads scored answers;"
                f" run rad"
                " eval first, then rad gate --eval DIR"
            )
        return found, True
    rows = {row["name"]: row for row in read(options.evaluation)["models"]}
    roles = {row["role"]: name for name, row in rows.items()}
    found = []
    for role, given in (("red", options.red), ("blue", options.blue)):
        name = given or roles[role]
        if name not in rows:
            raise ConfigError(
                f"--{role} {name}: {options.evaluation} holds {', '.join(rows)}; name one of them"
            )
        kept = options.evaluation / ANSWERS / f"{name}.jsonl"
        found.append(Source(name, str(kept) if kept.exists() else rows[name]["source"], role))
    return found, True


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
    names = panel.segments if text == "all" else tuple(text.split(","))
    unknown = [name for name in names if name not in panel.segments]
    if unknown or not names:
        held = ", ".join(panel.segments) or "no segments"
        raise ConfigError(f"--segments {text}: the answers have {held}; name some of them, or all")
    return names
