"""The risk section: an expression or a mapping, to a spectrum."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from openrlhf_rad.errors import ProfileError, did_you_mean
from openrlhf_rad.errors import shown as show
from openrlhf_rad.method.measures import ALIASES, MEASURES, SYMBOLS
from openrlhf_rad.method.spectrum import (
    MAX_MEMBERS,
    MAX_STEPS,
    MEAN,
    Flaw,
    MeasureSpectrum,
    Spectrum,
    make_mixture,
    make_piecewise,
    step_flaws,
    weight_flaws,
)
from openrlhf_rad.profile.checks import Problems, is_number, number
from openrlhf_rad.profile.document import Document
from openrlhf_rad.profile.expression import FAULTY, MAX_CHARACTERS, parse_expression

# What str() of the largest spectrum takes.
_OWN_CHARACTERS = 100_000


def build_risk(problems: Problems, raw: Any, key: str = "risk", limit: int = MAX_CHARACTERS) -> Spectrum:
    """The spectrum of a risk as a profile writes it; the mean when it is not valid, with the problems noted.

    Args:
        raw: `cvar α=0.9`, `{measure: cvar, alpha: 0.9}`, `{piecewise: …}` or `{mixture: …}`.
        key: dotted path of raw in the document, for places and texts.
        limit: most characters of an expression.
    """
    if isinstance(raw, str):
        raw = _read_expression(problems, raw, key, limit)
        if raw is None:
            return MEAN
    if not isinstance(raw, dict):
        problems.add(key, raw, "it must be a measure with its parameters", "write cvar α=0.9")
        return MEAN
    return _mixture(problems, raw, key) if "mixture" in raw else _member(problems, raw, key)


def read_spectrum(text: str) -> Spectrum:
    """The spectrum of an expression, such as `str(spectrum)` gives; places are `risk:1:column`.

    Raises:
        ProfileError: every problem of the text.
    """
    document = Document("risk", text, {"risk": "risk:1:1"}, texts={"risk:1:1": 1})
    problems = Problems(document)
    spectrum = build_risk(problems, text, limit=_OWN_CHARACTERS)
    if problems.lines:
        raise ProfileError(problems.in_order())
    return spectrum


def _read_expression(problems: Problems, text: str, key: str, limit: int) -> dict[str, Any] | None:
    """The long form of an expression, with the places of its tokens noted."""
    document = problems.document
    parsed = parse_expression(text, limit)
    for path, offset in parsed.offsets.items():
        document.places[f"{key}.{path}"] = document.inside(key, offset)
    for fault in parsed.faults:
        problems.add_text(
            document.inside(key, fault.offset), f"{key} is {show(text)}; {fault.rule}", fault.fix
        )
    return parsed.data


def _mixture(problems: Problems, raw: dict[str, Any], key: str) -> Spectrum:
    _alone(problems, raw, key, "mixture")
    members, path = raw["mixture"], f"{key}.mixture"
    if not isinstance(members, list) or not 1 <= len(members) <= MAX_MEMBERS:
        rule = f"it must be a list of 1 to {MAX_MEMBERS} measures with their weights"
        problems.add(path, _sized(members), rule, "write for instance [{weight: 1, measure: mean}]")
        return MEAN
    before = len(problems.lines)
    built: list[tuple[float, Spectrum]] = []
    for index, member in enumerate(members):
        place = f"{path}.{index}"
        if isinstance(member, dict) and "mixture" not in member:
            built.append((_weight(problems, member, place), _member(problems, member, place, weighted=True)))
        elif member is not FAULTY:
            rule = "it must be a measure or steps, with a weight"
            problems.add(place, member, rule, "write for instance {weight: 0.8, measure: cvar, alpha: 0.9}")
    weights = [weight for weight, _ in built]
    if len(built) < len(members) or any(math.isnan(weight) for weight in weights):
        return MEAN
    _note(problems, key, weight_flaws(weights))
    return make_mixture(built) if len(problems.lines) == before else MEAN


def _weight(problems: Problems, member: dict[str, Any], place: str) -> float:
    """The weight of a member as given; NaN, with a problem noted, when it is no number."""
    if "weight" not in member:
        text = f"{place}.weight is missing; each measure of a mixture has one"
        problems.add_text(problems.document.place(place), text, "write for instance weight: 0.5")
        return math.nan
    value = _float(member["weight"])
    if math.isnan(value):
        rule = "a weight must be a number ≥ 0"
        problems.add(f"{place}.weight", member["weight"], rule, "write for instance 0.5")
    return value


def _member(problems: Problems, raw: dict[str, Any], key: str, *, weighted: bool = False) -> Spectrum:
    """A measure or steps; weighted: beside a weight, which the caller reads."""
    if "piecewise" in raw:
        _alone(problems, raw, key, "piecewise", *(["weight"] if weighted else []))
        return _piecewise(problems, raw["piecewise"], key)
    return _measure(problems, {name: raw[name] for name in raw if not (weighted and name == "weight")}, key)


def _piecewise(problems: Problems, steps: Any, key: str) -> Spectrum:
    path, example = f"{key}.piecewise", "[[0, 0.2], [0.9, 1], [0.99, 5]]"
    if not isinstance(steps, list) or not 1 <= len(steps) <= MAX_STEPS:
        rule = f"it must be a list of 1 to {MAX_STEPS} steps, each [level from which, relative height]"
        problems.add(path, _sized(steps), rule, f"write for instance {example}")
        return MEAN
    before, sound = len(problems.lines), True
    for index, step in enumerate(steps):
        if not isinstance(step, list) or len(step) != 2:
            rule, fix = "a step must be [level from which, relative height]", "write for instance [0.9, 1]"
            problems.add(f"{path}.{index}", step, rule, fix)
            sound = False
            continue
        for side, value in enumerate(step):
            if math.isnan(_float(value)):
                what = "a level must be a number in [0, 1)" if side == 0 else "a height must be a number ≥ 0"
                problems.add(f"{path}.{index}.{side}", value, what, "write for instance [0.9, 1]")
                sound = False
    # What could not be read has its line already, so that the lines do not tell.
    if not sound:
        return MEAN
    pairs = [(_float(level), _float(height)) for level, height in steps]
    _note(problems, key, step_flaws(pairs))
    return make_piecewise(pairs) if len(problems.lines) == before else MEAN


def _measure(problems: Problems, raw: dict[str, Any], key: str) -> Spectrum:
    measure = raw.get("measure")
    if "measure" not in raw:
        text = f"{key}.measure is missing; a risk is a measure, piecewise or mixture"
        meant = [did_you_mean(name, ("measure", "piecewise", "mixture")) for name in raw]
        fix = next(filter(None, meant), "write for instance measure: cvar")
        problems.add_text(problems.document.place(key), text, fix)
        return MEAN
    if not isinstance(measure, str) or measure not in MEASURES:
        rule = f"it must be one of {', '.join(MEASURES)}"
        problems.add(f"{key}.measure", measure, rule, did_you_mean(measure, [*MEASURES, "piecewise"]))
        return MEAN
    given: dict[str, tuple[str, Any]] = {}
    for written, value in raw.items():
        name = ALIASES.get(str(written), str(written))
        if name in given:
            # The later of the two in the file is kept out, so the text names it first.
            place = problems.document.place(f"{key}.{given[name][0]}", key=True)
            text = f"{key}.{name} is given twice, as {given[name][0]} and as {written}"
            problems.add_text(place, text, "remove one")
        given[name] = (str(written), value)
    del given["measure"]
    known = MEASURES[measure].parameters
    for name, (written, _) in given.items():
        if name not in known:
            takes = f"{measure} takes {', '.join(known) if known else 'no parameters'}"
            place = problems.document.place(f"{key}.{written}", key=True)
            text = f"{key}.{name} is not a parameter of {measure}; {takes}"
            problems.add_text(place, text, did_you_mean(name, known))
    return MeasureSpectrum(measure, _parameters(problems, measure, given, key))


def _parameters(
    problems: Problems, measure: str, given: dict[str, tuple[str, Any]], key: str
) -> tuple[tuple[str, float], ...]:
    values: list[tuple[str, float]] = []
    for name, parameter in sorted(MEASURES[measure].parameters.items()):
        written, value = given.get(name, (name, parameter.default))
        if value is None and name not in given:
            needs = f"{key}.{name} is missing; {measure} needs {SYMBOLS[name]} in {parameter.range}"
            problems.add_text(problems.document.place(key), needs, f"write {MEASURES[measure].example}")
            continue
        # The place belongs to the key as written (α), the message to the full name.
        full = f"{key}.{name}"
        problems.document.places[full] = problems.document.place(f"{key}.{written}")
        checked = value if math.isfinite(_float(value)) or not is_number(value) else _float(value)
        values.append((name, number(problems, full, checked, 0.5, parameter)))
    return tuple(values)


def _alone(problems: Problems, raw: dict[str, Any], key: str, *allowed: str) -> None:
    """Note keys beside one that takes none."""
    for name in raw:
        if name not in allowed:
            place = problems.document.place(f"{key}.{name}", key=True)
            problems.add_text(
                place, f"{key}.{name} stands beside {allowed[0]}, which takes no more", "remove one"
            )


def _note(problems: Problems, key: str, flaws: Iterable[Flaw]) -> None:
    for flaw in flaws:
        path = f"{key}.{flaw.path}"
        problems.add_text(problems.document.place(path), f"{path} is {flaw.value}; {flaw.rule}", flaw.fix)


def _sized(value: Any) -> Any:
    return f"a list of {len(value)}" if isinstance(value, list) else value


def _float(value: Any) -> float:
    """A number as a float, whole ones too large for it as ±∞, all else as NaN."""
    if not is_number(value):
        return math.nan
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf
