"""Several costs as one, on the careful side: their mean and a multiple of their spread."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from openrlhf_rad.plugin.costs.sources import CostRater
from openrlhf_rad.plugin.costs.texts import RatedText


class EnsembleCost(CostRater):
    """c = mean_m c_m + k · std_m c_m over M sources, the deviation with M − 1.

    Where the sources agree it is their cost; where a policy has found an answer that one of them takes for
    harmless and others do not, the spread makes it dear.

    Args:
        sources: two at least, in one unit. spread: k ≥ 0.
    """

    def __init__(self, sources: Sequence[CostRater], spread: float) -> None:
        self._sources, self._spread = sources, spread
        self.name = f"cost ensemble of {', '.join(source.name for source in sources)}"
        #: Of the first model, whose chat format the prompts of rad eval are put into.
        self.tokenizer = next(
            (source.tokenizer for source in sources if hasattr(source, "tokenizer")),
            None,
        )

    def begin(self, batches: Sequence[Sequence[RatedText]]) -> list[Any]:
        """Start all of them."""
        return [source.begin(batches) for source in self._sources]

    def finish(self, handle: list[Any]) -> list[float]:
        """Wait for all. Raises CostError of the first that failed."""
        found = [source.finish(held) for source, held in zip(self._sources, handle, strict=True)]
        cost_mb = np.array(found, dtype=np.float64)
        upper: list[float] = (cost_mb.mean(axis=0) + self._spread * cost_mb.std(axis=0, ddof=1)).tolist()
        return upper
