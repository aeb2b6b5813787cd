"""Reference costs that a user brings along."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from openrlhf_rad.errors import ReferenceCostError


def read_costs(path: str | Path) -> NDArray[np.float64]:
    """The costs of an ``.npz`` (array ``costs``), ``.npy`` or text file (one cost a line), shape (N,).

    Raises:
        ReferenceCostError: no such file, no array ``costs``, or nothing that reads as numbers.
    """
    file = Path(path)
    try:
        if file.suffix == ".npz":
            with np.load(file, allow_pickle=False) as arrays:
                raw = arrays["costs"]
        elif file.suffix == ".npy":
            raw = np.load(file, allow_pickle=False)
        else:
            raw = np.loadtxt(file)
        return np.asarray(raw, dtype=np.float64).reshape(-1)
    except FileNotFoundError:
        raise ReferenceCostError(f"reference.file is {path}; there is no such file") from None
    except KeyError:
        raise ReferenceCostError(
            f"{path} has no array named 'costs'; save it as np.savez(file, costs=…)"
        ) from None
    except (ValueError, OSError) as cause:
        raise ReferenceCostError(f"{path} cannot be read as costs: {cause}") from cause
