"""Costs of rollouts from one of three sources; costs that are not finite, or never differ, stop the run."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from openrlhf_rad.errors import CostError


class CostSource(Protocol):
    """A source of costs, asked for a whole rollout at once, while the other models run."""

    name: str

    def begin(self, samples_list: Sequence[Any]) -> Any:
        """Start scoring OpenRLHF experiences; returns a handle for :meth:`finish`."""

    def finish(self, handle: Any) -> list[float]:
        """Wait for the costs, one a sample in the order of ``samples_list``, cost's own units.

        Raises:
            CostError: naming the source and the first bad prompt.
        """


#: Constant batches in a row that stop the run. One may be chance where answers are few.
CONSTANT_BATCHES = 3
# So few different values in so many samples are a cost with steps, such as 0 and 1, not a scale.
_STEPS, _ENOUGH = 4, 32


class VaryingCosts:
    """A source whose costs must differ within a batch, now and then.

    A scorer that is broken but alive often gives the same number to everything: an empty input, a default, a
    model that was not loaded. Such a batch says nothing about the policy, and λ would move by it. A cost that
    has a few values only, such as 0 and 1, may well give one of them to a whole batch, and is let be.
    """

    def __init__(self, source: CostSource) -> None:
        self.source = source
        self.name = source.name
        self._seen: set[float] = set()
        self._samples = self._constant = 0

    def begin(self, samples_list: Sequence[Any]) -> Any:
        """As the source does."""
        return self.source.begin(samples_list)

    def finish(self, handle: Any) -> list[float]:
        """The source's costs. Raises CostError at the third constant batch in a row, and what it raises."""
        costs = self.source.finish(handle)
        self._samples += len(costs)
        if len(self._seen) <= _STEPS:
            self._seen.update(costs)
        constant = len(costs) > 1 and len(set(costs)) == 1
        has_steps = 1 < len(self._seen) <= _STEPS and self._samples >= _ENOUGH
        self._constant = self._constant + 1 if constant and not has_steps else 0
        if self._constant >= CONSTANT_BATCHES:
            raise CostError(
                f"{self.name} gave the cost {costs[0]:g} to all samples of {self._constant} batches in a row"
                f" ({len(costs)} in the last); a cost must tell answers apart; check that it sees the answers"
                " and that its model is loaded"
            )
        return costs

    def state_dict(self) -> dict[str, Any]:
        """For a checkpoint: what was seen of the costs."""
        return {"seen": sorted(self._seen), "samples": self._samples, "constant": self._constant}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""
        self._seen, self._samples = set(state["seen"]), int(state["samples"])
        self._constant = int(state["constant"])


def checked_costs(raw: Any, prompts: Sequence[str], source: str) -> list[float]:
    """``raw`` as finite floats, one a prompt.

    Args:
        raw: a tensor, an array or a list; or a mapping with it under ``costs`` or ``rewards``.
        prompts: the prompts of the samples, for the message.
        source: what to call the source in a message.

    Raises:
        CostError: wrong length, or a value that is missing, not a number, NaN or infinite.
    """
    if isinstance(raw, dict):
        found = next((raw[key] for key in ("costs", "rewards") if key in raw), None)
        if found is None:
            raise CostError(
                f"{source} answered with the keys {sorted(raw)}; it must give 'costs' (or 'rewards')"
            )
        raw = found
    values = _as_list(raw, source)
    if len(values) != len(prompts):
        raise CostError(
            f"{source} gave {len(values)} costs for {len(prompts)} samples; it must give one each"
        )
    for position, (value, prompt) in enumerate(zip(values, prompts, strict=True)):
        if not _is_finite_number(value):
            raise CostError(
                f"{source} gave the cost {value!r} for sample {position}, prompt {prompt[:200]!r};"
                " a cost must be a finite number; the run stops rather than train on it"
            )
    return [float(value) for value in values]


def _is_finite_number(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number beyond the floats
        return False


def _as_list(raw: Any, source: str) -> list[Any]:
    if hasattr(raw, "tolist"):
        raw = raw.tolist()
    if isinstance(raw, str) or not isinstance(raw, Iterable):
        raise CostError(f"{source} gave {raw!r}; it must give a list or tensor with one cost a sample")
    return [value.item() if hasattr(value, "item") else value for value in raw]
