"""How long a run waits for a server that rates answers."""

from __future__ import annotations

from dataclasses import dataclass


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
