"""Quantiles of a stream larger than memory, with a bound on the error of their ranks.

The sketch is REQ (Cormode, Karnin, Liberty, Thaler and Veselý, *Relative Error Streaming Quantiles*) of
Apache DataSketches: its error shrinks towards the upper tail, where the weights of a risk spectrum sit.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from openrlhf_rad.errors import CostError, TransportError
from openrlhf_rad.method.particles import as_costs, quantile_levels
from openrlhf_rad.method.transport.problem import Array


@dataclass(frozen=True)
class StreamedQuantiles:
    """Quantiles at given levels, each within a band of levels.

    Attributes:
        level_n: t_i. quantile_n: an observed cost whose rank is near t_i; shape (n,).
        low_n, high_n: the rank of quantile_n lies between them with probability 0.997 (three standard
            deviations of the sketch, as its authors state them), for each i on its own.
        count: how many costs were seen. exact: whether the sketch still held all of them.
    """

    level_n: Array
    quantile_n: Array
    low_n: Array
    high_n: Array
    count: int
    exact: bool


class QuantileSketch:
    """Takes costs in chunks and answers quantiles; sketches of parts merge into that of the whole.

    Memory grows with the logarithm of the stream: 11,000 numbers for 10⁶ costs at the default size.
    Costs are kept as float32, which rounds them by 6e-8 of their size.
    """

    def __init__(self, size: int = 100) -> None:
        """size: REQ's k, even, from 4 to 1024; ranks near level t are off by at most 0.4/k·(1 − t)."""
        if size % 2 or not 4 <= size <= 1024:
            raise TransportError(f"size is {size}; it must be even, from 4 to 1024; 100 is usual")
        self._sketch: Any = _datasketches().req_floats_sketch(size, True)

    @property
    def count(self) -> int:
        """Costs seen."""
        return int(self._sketch.n)

    def update(self, costs: ArrayLike) -> None:
        """Add a chunk. Raises CostError for costs that are not finite, or beyond float32."""
        if not np.size(costs):
            return
        chunk = as_costs(costs)
        with np.errstate(over="ignore"):
            small = chunk.astype(np.float32)
        if not np.isfinite(small).all():
            raise CostError(
                f"a cost is {chunk[~np.isfinite(small)][0]:g}; a sketch keeps float32, up to 3.4e38;"
                " rescale the costs"
            )
        self._sketch.update(small)

    def merge(self, other: QuantileSketch) -> None:
        """Add what another sketch has seen."""
        self._sketch.merge(other._sketch)

    def quantiles(self, level_n: ArrayLike) -> StreamedQuantiles:
        """The quantiles at levels in [0, 1]. Raises CostError before the first cost."""
        level_n = np.asarray(level_n, dtype=np.float64).reshape(-1)
        if not self.count:
            raise CostError("the stream held 0 costs; at least one is needed; check the file")
        if not ((level_n >= 0) & (level_n <= 1)).all():
            raise TransportError("a level lies outside [0, 1]; levels are shares of the distribution")
        sketch = self._sketch
        return StreamedQuantiles(
            level_n=level_n,
            quantile_n=np.array(sketch.get_quantiles(level_n.tolist(), True)),
            low_n=np.array([sketch.get_rank_lower_bound(level, 3) for level in level_n]),
            high_n=np.array([sketch.get_rank_upper_bound(level, 3) for level in level_n]),
            count=self.count,
            exact=not sketch.is_estimation_mode(),
        )


def streamed_quantiles(chunks: Iterable[ArrayLike], n: int, *, size: int = 100) -> StreamedQuantiles:
    """The n particles of Eq. (12), t_i = (i − ½)/n, of all chunks together, in one pass.

    Raises:
        CostError: no costs, or one that is not finite.
    """
    sketch = QuantileSketch(size)
    for chunk in chunks:
        sketch.update(chunk)
    return sketch.quantiles(quantile_levels(n))


def _datasketches() -> Any:
    try:
        import datasketches  # noqa: PLC0415
    except ImportError as error:
        raise TransportError(
            f"streaming quantiles need the package datasketches ({error}); pip install 'openrlhf-rad[stream]'"
        ) from None
    return datasketches
