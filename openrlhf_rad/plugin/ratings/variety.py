"""Ratings that never differ: a scorer that is broken but alive often gives the same number to everything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

#: Constant batches in a row that stop the run. One may be chance where answers are few.
CONSTANT_BATCHES = 3
# So few different values in so many samples are a rating with steps, such as 0 and 1, not a scale.
_STEPS, _ENOUGH = 4, 32
#: What is of these values alone may be a flag, which is often the same for all answers at first.
_FLAGS = frozenset({-1.0, 0.0, 1.0})


class Variety:
    """Whether ratings differ within a batch, now and then.

    An empty input, a default, a model that was not loaded give one number to a whole batch, which says
    nothing about the policy. A rating that has a few values only, such as 0 and 1, may well give one of them
    to a whole batch, and is let be; so is what may be a flag of which no other value has been seen yet.
    """

    def __init__(self) -> None:
        self._seen: set[float] = set()
        self._samples = self._constant = 0

    def constant(self, batch: Sequence[float]) -> int:
        """Take a batch in; how many batches in a row were constant if that is too many, else 0."""
        self._samples += len(batch)
        if len(self._seen) <= _STEPS:
            self._seen.update(batch)
        same = len(batch) > 1 and len(set(batch)) == 1
        has_steps = 1 < len(self._seen) <= _STEPS and self._samples >= _ENOUGH
        self._constant = self._constant + 1 if same and not has_steps else 0
        return self._constant if self._constant >= CONSTANT_BATCHES and not self._seen <= _FLAGS else 0

    @property
    def remark(self) -> str | None:
        """What to say once of a flag that has had one value in as many batches as would stop the run."""
        if self._constant != CONSTANT_BATCHES or len(self._seen) != 1 or not self._seen <= _FLAGS:
            return None
        (value,) = self._seen
        return (
            f"is {value:g} for all samples of the first {CONSTANT_BATCHES} batches ({self._samples} samples),"
            " which teaches nothing; a flag may begin so; if it should not, check that its source sees the"
            " answers and that its model is loaded"
        )

    def state_dict(self) -> dict[str, Any]:
        """For a checkpoint: what was seen."""
        return {"seen": sorted(self._seen), "samples": self._samples, "constant": self._constant}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""
        self._seen, self._samples = set(state["seen"]), int(state["samples"])
        self._constant = int(state["constant"])
