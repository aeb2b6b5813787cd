"""A profile from a file, from a shipped name, or from standard input."""

from __future__ import annotations

import sys
from dataclasses import replace

from openrlhf_rad.errors import ConfigError, ProfileError, did_you_mean
from openrlhf_rad.method.spectrum import make_spectrum
from openrlhf_rad.profile import Constraint, RiskProfile, load_profile

#: What standard input is called in messages.
STDIN = "<stdin>"
# Above what the parser accepts, so that it is the parser that refuses a flood, and bounded all the same.
_MAX_BYTES = 1_000_000


def parts(profile: RiskProfile) -> tuple[Constraint, ...]:
    """The constraints of a profile in the order of the file, each with the spectrum that it bounds.

    Under `expected` the measure of the file is only reported; what is bounded is the mean.
    """
    return tuple(
        replace(part, risk=make_spectrum("mean")) if part.settings.form == "expected" else part
        for part in profile.constraints
    )


def choose(profile: RiskProfile, name: str | None) -> Constraint:
    """One constraint by its name; the only one needs none. Raises ConfigError with the names there are."""
    several = parts(profile)
    if name is None and len(several) == 1:
        return several[0]
    found = [part for part in several if part.name == name]
    if not found:
        names = ", ".join(part.name for part in several)
        said = f"--constraint is {name}" if name else "--constraint is missing"
        hint = did_you_mean(name, [part.name for part in several]) or f"write --constraint {several[0].name}"
        raise ConfigError(f"{said}; the constraints of {profile.name} are {names}; {hint}")
    return found[0]


def read_profile(source: str) -> RiskProfile:
    """The profile of a file, a shipped name, or standard input for ``-``. Raises ProfileError."""
    if source != "-":
        return load_profile(source)
    raw = sys.stdin.buffer.read(_MAX_BYTES)
    try:
        return RiskProfile.from_text(raw.decode("utf-8-sig"), STDIN)
    except UnicodeDecodeError as error:
        raise ProfileError(f"{STDIN}: byte {error.start} is not UTF-8; save the text as UTF-8") from None
