"""Costs of rollouts from one of three sources; costs that are not finite, or never differ, stop the run."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from openrlhf_rad.errors import CostError
from openrlhf_rad.plugin.ratings.variety import Variety


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


class VaryingCosts:
    """A source whose costs must differ within a batch, now and then: by costs that do not, λ would move."""

    def __init__(self, source: CostSource) -> None:
        self.source = source
        self.name = source.name
        self.variety = Variety()

    def begin(self, samples_list: Sequence[Any]) -> Any:
        """As the source does."""
        return self.source.begin(samples_list)

    @property
    def remark(self) -> str | None:
        """What to say of the last batch; None where there is nothing."""
        found = self.variety.remark
        return found and f"the cost of {self.name} {found}"

    def finish(self, handle: Any) -> list[float]:
        """The source's costs. Raises CostError at the third constant batch in a row, and what it raises."""
        costs = self.source.finish(handle)
        if batches := self.variety.constant(costs):
            raise CostError(
                f"{self.name} gave the cost {costs[0]:g} to all samples of {batches} batches in a row"
                f" ({len(costs)} in the last); a cost must tell answers apart; check that it sees the answers"
                " and that its model is loaded"
            )
        return costs


def checked_costs(raw: Any, prompts: Sequence[str], source: str) -> list[float]:
    """``raw`` as finite floats, one a prompt.

    Args:
        raw: a tensor, an array or a list, (B,) or (B, 1); or a mapping with it as ``costs`` or ``rewards``.
        prompts: the prompts of the samples, for the message.
        source: what to call the source in a message.

    Raises:
        CostError: wrong length, or a value that is missing, not a number, NaN or infinite.
    """
    if isinstance(raw, dict):
        key = next((key for key in ("costs", "rewards") if key in raw), None)
        if key is None:
            raise CostError(
                f"{source} answered with the keys {sorted(raw)}; it must give 'costs' (or 'rewards')"
            )
        if raw[key] is None:
            raise CostError(f"{source} gave null for '{key}'; it must give a list with one cost a sample")
        raw = raw[key]
    values = _as_list(raw, source)
    if len(values) != len(prompts):
        raise CostError(
            f"{source} gave {len(values)} costs for {len(prompts)} samples; it must give one each"
        )
    for position, (value, prompt) in enumerate(zip(values, prompts, strict=True)):
        if not is_finite_number(value):
            raise CostError(
                f"{source} gave the cost {value!r} for sample {position}, prompt {prompt[:200]!r};"
                " a cost must be a finite number; the run stops rather than train on it"
            )
    return [float(value) for value in values]


def is_finite_number(value: Any) -> bool:
    """Whether it is one; neither True nor False is."""
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
    return [single(value) for value in raw]


def single(value: Any) -> Any:
    """What a tensor, an array or a list of one holds."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    while isinstance(value, list | tuple) and len(value) == 1:
        value = value[0]
    return value
