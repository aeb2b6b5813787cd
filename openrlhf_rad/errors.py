"""The exceptions of openrlhf_rad, one tree.

RadError
├── ProfileError          a risk profile that cannot be read or is not valid
├── ConfigError           a command line or a combination of flags that is refused
├── EnvironmentProblem    this machine cannot run the job: versions, compiler, disk, a running Ray
├── CostError             a cost that is missing, not finite, or whose source failed
├── RewardError           a reward that is missing or whose source failed
├── DataError             a file or data set whose rows cannot serve
├── JudgeError            a judge that did not answer everything it was asked
├── ReferenceCostError   reference costs that cannot serve: too few, constant, not finite
├── TransportError        a transport problem that is not valid or did not converge
├── RunError              an engine, an actor or a collective operation of a run that failed
└── WatchStop             a watch over the training's metrics that was told to stop the run

Every message says the value, the rule, the fix and the place. The command line prints it without a
traceback and exits with :attr:`RadError.exit_code`.
"""

from __future__ import annotations


class RadError(Exception):
    """Base class of all errors that a user can mend."""

    exit_code = 1


class ProfileError(RadError):
    """A risk profile that cannot be read or is not valid; holds every problem found.

    Attributes:
        problems: one line a problem, each with the place, the value, the rule and the fix.
    """

    exit_code = 2

    def __init__(self, problems: list[str] | str) -> None:
        self.problems = [problems] if isinstance(problems, str) else list(problems)
        super().__init__("\n".join(self.problems))

    def __reduce__(self) -> tuple[type[ProfileError], tuple[list[str]]]:
        return type(self), (self.problems,)


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
