"""DeepSpeed's CPU Adam after a restart: the same bias corrections, to the last bit.

It multiplies β₁ᵗ and β₂ᵗ up from step to step, but after a restart takes them as powers, which differ in the
last bits; some steps later a weight does, and then an answer. Its C++ part keeps the products out of reach of
a checkpoint, so the steps are counted through again.
"""

from __future__ import annotations

from typing import Any

import torch


def count_through(engine: Any) -> int:
    """Bring the CPU Adam of a DeepSpeed engine to where its checkpoint was; returns the steps counted.

    Args:
        engine: a DeepSpeedEngine that has loaded a checkpoint, or none, with any optimizer.
    """
    adam: Any = getattr(engine.optimizer, "optimizer", None)
    if not hasattr(adam, "ds_opt_adam"):
        return 0
    steps = max((int(state.get("step", 0)) for state in adam.state.values()), default=0)
    group = adam.param_groups[0]
    one = [torch.zeros(1) for _ in range(4)]  # a parameter, its gradient, both moments
    for step in range(1, steps + 1):
        adam.ds_opt_adam.adam_update(
            adam.opt_id, step, 0.0, *group["betas"], group["eps"], 0.0, group["bias_correction"], *one
        )
    return steps
