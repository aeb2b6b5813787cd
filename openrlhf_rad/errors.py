"""The exceptions of openrlhf_rad, one tree.

RadError
├── ProfileError          a risk profile that cannot be read or is not valid
├── ConfigError           a command line or a combination of flags that is refused
├── EnvironmentProblem    this machine cannot run the job: versions, compiler, disk, a running Ray
├── CostError             a cost that is missing, not finite, or whose source failed
├── RewardError           a reward that is missing or whose source failed
├── DataError             a file or data set whose rows cannot serve
├── JudgeError            a judge that did not answer everything it was asked
├── ReferenceCostError    reference costs that cannot serve: too few, constant, not finite
├── TransportError        a transport problem that is not valid or did not converge
├── RunError              an engine, an actor or a collective operation of a run that failed
└── WatchStop             a watch over the training's metrics that was told to stop the run

Every message says the value, the rule, the fix and the place. The command line prints it without a
traceback and exits with :attr:`RadError.exit_code`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple


class Place(NamedTuple):
    """Where something stands: a file (or `--set KEY`), and line and column from 1; 0 for the whole of it."""

    source: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        return f"{self.source}:{self.line}:{self.column}" if self.line else self.source


@dataclass(frozen=True)
class Problem:
    """One thing that a user can mend, as data; `str` is its line `PLACE: KEY is VALUE; RULE; FIX`.

    Attributes:
        place: where it stands; None where nothing has a place.
        key: what is wrong.
        value: what it is; "" where the key says all.
        rule: what it must be.
        fix: what to write instead.
        verb: what joins key and value.
    """

    place: Place | None
    key: str
    value: str = ""
    rule: str = ""
    fix: str = ""
    verb: str = "is"

    @property
    def message(self) -> str:
        """The line without its place."""
        said = " ".join([self.key, *([self.verb, self.value] if self.value else [])])
        return printable("; ".join(filter(None, (said, self.rule, self.fix))))

    def __str__(self) -> str:
        return f"{printable(str(self.place))}: {self.message}" if self.place else self.message


def printable(text: str) -> str:
    """The text with line breaks and a terminal's escape codes shown, so that no file can use them."""
    return "".join(sign if sign.isprintable() else f"\\x{ord(sign):02x}" for sign in text)


def shown(value: Any) -> str:
    """A value of a file as YAML would write it, shortened."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    text = printable(str(value)[:61]) or "empty"
    return text if len(text) <= 60 else f"{text[:57]}..."


def did_you_mean(word: Any, options: Iterable[str]) -> str:
    """`did you mean X?` for a near miss, else nothing."""
    # No key is longer; the comparison takes quadratic time.
    close = difflib.get_close_matches(str(word)[:40], list(options), 1, 0.6)
    return f"did you mean {close[0]}?" if close else ""


class RadError(Exception):
    """Base class of all errors that a user can mend."""

    exit_code = 1


class ProfileError(RadError):
    """A risk profile that cannot be read or is not valid; holds every problem found.

    Attributes:
        details: the problems as data.
        problems: one line a problem, each with the place, the value, the rule and the fix.
    """

    exit_code = 2

    def __init__(self, problems: Iterable[Problem | str] | Problem | str) -> None:
        given = [problems] if isinstance(problems, Problem | str) else list(problems)
        self.details = [one if isinstance(one, Problem) else Problem(None, one) for one in given]
        self.problems = [str(one) for one in given]
        super().__init__("\n".join(self.problems))

    def __reduce__(self) -> tuple[type[ProfileError], tuple[list[Problem]]]:
        return type(self), (self.details,)


class ConfigError(RadError):
    """A command line, or a combination of flags, that is refused."""

    exit_code = 2


class EnvironmentProblem(RadError):
    """This machine or installation cannot run the job as it is."""

    exit_code = 3


class CostError(RadError):
    """A cost that is missing, not finite or not a number, or a cost source that failed."""


class RewardError(RadError):
    """A reward that is missing, or a reward source that failed."""


class DataError(RadError):
    """A file or data set whose rows cannot serve; holds every problem found, and shows the first.

    Attributes:
        problems: one line a problem, each with the place, the value, the rule and the fix.
    """

    exit_code = 2
    shown = 12

    def __init__(self, problems: list[str] | str) -> None:
        self.problems = [problems] if isinstance(problems, str) else list(problems)
        more = len(self.problems) - self.shown
        rest = [f"… and {more} more of the kind"] if more > 0 else []
        super().__init__("\n".join([*self.problems[: self.shown], *rest]))

    def __reduce__(self) -> tuple[type[DataError], tuple[list[str]]]:
        return type(self), (self.problems,)


class JudgeError(RadError):
    """A judge that did not answer everything it was asked."""


class ReferenceCostError(RadError):
    """Reference costs that cannot serve as a reference distribution."""


class TransportError(RadError):
    """A transport problem that is not valid, or a solver that did not converge."""


class RunError(RadError):
    """An engine, an actor or a collective operation of a run that failed; the log holds its traceback."""


class WatchStop(RadError):
    """A watch over the training's metrics that was told to stop the run."""
