"""Bin weights of a profile for other programs."""

from __future__ import annotations

import io
import json
from typing import Literal

import numpy as np

from openrlhf_rad.authoring.reading import parts
from openrlhf_rad.method.particles import quantile_levels
from openrlhf_rad.profile import RiskProfile

Format = Literal["csv", "json", "npy"]


def tabulate(profile: RiskProfile, n: int, form: Format) -> bytes:
    """The weights of n equally probable quantiles, mean 1, from the best answers to the worst.

    CSV has a column for the level t_i = (i − ½)/n and one for each constraint; JSON the same as lists; NPY
    an array of shape (n,), or (constraints, n) where there are several.
    """
    named = {part.name: part.risk.weights(n) for part in parts(profile)}
    if form == "npy":
        buffer = io.BytesIO()
        rows = list(named.values())
        np.save(buffer, rows[0] if len(rows) == 1 else np.stack(rows), allow_pickle=False)
        return buffer.getvalue()
    level_n = quantile_levels(n)
    if form == "json":
        data = {"profile": profile.name, "hash": profile.hash, "n": n, "levels": level_n.tolist()}
        return (json.dumps(data | {"weights": {k: w.tolist() for k, w in named.items()}}) + "\n").encode()
    header = ["level", *(["weight"] if len(named) == 1 else named)]
    lines = [",".join(header)]
    lines += [",".join(repr(float(x)) for x in row) for row in zip(level_n, *named.values(), strict=True)]
    return ("\n".join(lines) + "\n").encode()
