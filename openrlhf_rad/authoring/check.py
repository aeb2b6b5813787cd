"""A profile from a file, a shipped name or standard input; problems and warnings for people and programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from openrlhf_rad.authoring.words import parts
from openrlhf_rad.errors import ConfigError, Place, Problem, ProfileError, did_you_mean
from openrlhf_rad.profile import Constraint, RiskProfile, load_profile

Severity = Literal["error", "warning"]

#: What standard input is called in messages.
STDIN = "<stdin>"
# Above what the parser accepts, so that it is the parser that refuses a flood, and bounded all the same.
_MAX_BYTES = 1_000_000


class Remark(NamedTuple):
    """A problem or a warning of a file, and where it stands."""

    severity: Severity
    place: Place
    message: str

    def __str__(self) -> str:
        return f"{self.place}: {'warning: ' if self.severity == 'warning' else ''}{self.message}"


@dataclass(frozen=True)
class Checked:
    """What the check of one file found; profile is None where the file holds none."""

    file: str
    profile: RiskProfile | None
    findings: tuple[Remark, ...]

    def count(self, severity: Severity) -> int:
        """How many findings of a kind there are."""
        return sum(finding.severity == severity for finding in self.findings)


def read_profile(source: str) -> RiskProfile:
    """The profile of a file, a shipped name, or standard input for ``-``. Raises ProfileError."""
    if source != "-":
        return load_profile(source)
    raw = sys.stdin.buffer.read(_MAX_BYTES)
    try:
        return RiskProfile.from_text(raw.decode("utf-8-sig"), STDIN)
    except UnicodeDecodeError as error:
        said = f"byte {error.start} is not UTF-8"
        raise ProfileError(Problem(Place(STDIN), said, "", "", "save the text as UTF-8")) from None


def choose(profile: RiskProfile, name: str | None) -> Constraint:
    """One constraint by its name; the only one needs none. Raises ConfigError with the names there are."""
    several = parts(profile)
    if name is None and len(several) == 1:
        return several[0]
    chosen = [part for part in several if part.name == name]
    if not chosen:
        names = [part.name for part in several]
        said = f"--constraint is {name}" if name else "--constraint is missing"
        hint = did_you_mean(name, names) or f"write --constraint {names[0]}"
        raise ConfigError(f"{said}; the constraints of {profile.name} are {', '.join(names)}; {hint}")
    return chosen[0]


def check(source: str) -> Checked:
    """Check one file, a shipped name, or standard input for ``-``; never raises for what they hold."""
    file = STDIN if source == "-" else source
    try:
        profile = read_profile(source)
    except ProfileError as error:
        errors = [Remark("error", one.place or Place(file), one.message) for one in error.details]
        return Checked(file, None, tuple(errors))
    return Checked(file, profile, tuple(Remark("warning", Place(file), text) for text in profile.warnings))


def failed(reports: Iterable[Checked], *, strict: bool) -> bool:
    """Whether a check of these files fails: by any error, and by any warning where strict."""
    return any(report.count("error") or (strict and report.findings) for report in reports)


def as_text(reports: Sequence[Checked]) -> str:
    """A line a finding, a line a sound file, and the count of all."""
    lines: list[str] = []
    for report in reports:
        lines += [str(finding) for finding in report.findings]
        if report.profile is not None:
            lines.append(f"{report.file}: valid, {_held(report.profile)}, hash {report.profile.hash[:12]}")
    counts = {"file": len(reports)}
    counts |= {word: sum(report.count(word) for report in reports) for word in ("error", "warning")}
    total = ", ".join(f"{count} {word}{'' if count == 1 else 's'}" for word, count in counts.items())
    return "\n".join([*lines, total])


def as_json(reports: Sequence[Checked]) -> str:
    """A list of files, each with its validity, its hash and its findings."""
    data = [
        {
            "file": report.file,
            "valid": report.profile is not None,
            "hash": report.profile.hash if report.profile else None,
            "problems": [
                {
                    "severity": finding.severity,
                    "file": finding.place.source,
                    "line": finding.place.line or None,
                    "column": finding.place.column or None,
                    "message": finding.message,
                }
                for finding in report.findings
            ],
        }
        for report in reports
    ]
    return json.dumps(data, indent=2, ensure_ascii=False)


def as_github(reports: Sequence[Checked]) -> str:
    """A workflow command a finding, which GitHub shows beside the line in a pull request."""
    return "\n".join(_annotation(finding) for report in reports for finding in report.findings)


def _held(profile: RiskProfile) -> str:
    """The risk of the only constraint, or how many there are."""
    count = len(profile.constraints)
    return str(profile.constraints[0].risk) if count == 1 else f"{count} constraints"


def _annotation(finding: Remark) -> str:
    place = finding.place
    properties = {"file": place.source, "line": place.line, "col": place.column, "title": "risk profile"}
    given = ",".join(f"{name}={_escaped(str(held), ':,')}" for name, held in properties.items() if held)
    return f"::{finding.severity} {given}::{_escaped(finding.message)}"


def _escaped(text: str, also: str = "") -> str:
    """GitHub's own escapes: percent, line breaks, and in properties the separators."""
    for character in f"%\r\n{also}":
        text = text.replace(character, f"%{ord(character):02X}")
    return text
