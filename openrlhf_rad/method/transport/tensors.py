"""Tensors in, tensors out: results of the input's device and dtype.

The problem is solved in float64 on the CPU, with numpy arrays that share the tensors' memory where they can.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from openrlhf_rad.errors import TransportError
from openrlhf_rad.method.transport.result import SinkhornResult

_ARRAYS = ("gradient", "gradient_y", "f", "g")


def on_tensors(
    solve: Callable[..., SinkhornResult], x: Any, y: Any, epsilon: float, *, init: Any = None, **options: Any
) -> SinkhornResult:
    """``solve`` (:func:`sinkhorn`) with tensors in and out, detached; one of x and y may be an array.

    Raises:
        TransportError: tensors on two devices, or what ``solve`` refuses.
    """
    device = shared_device(x, y)
    if init is not None:
        f, g = (init.f, init.g) if hasattr(init, "f") else init
        init = (as_array(f), as_array(g))
    result = solve(as_array(x), as_array(y), epsilon, init=init, **options)
    dtype = result_dtype(x, y)
    changed: dict[str, Any] = {name: as_tensor(getattr(result, name), device, dtype) for name in _ARRAYS}
    return dataclasses.replace(result, **changed)


def shared_device(x: Any, y: Any) -> torch.device:
    """The device of the tensors. Raises TransportError when there are two."""
    devices = [values.device for values in (x, y) if isinstance(values, torch.Tensor)]
    if any(device != devices[0] for device in devices):
        raise TransportError(
            f"x is on {devices[0]}, y on {devices[1]}; both must be on one device; move y with .to(x.device)"
        )
    return devices[0]


def result_dtype(x: Any, y: Any) -> torch.dtype:
    """The wider floating dtype of the tensors; float64 where there is none."""
    found = [v.dtype for v in (x, y) if isinstance(v, torch.Tensor) and v.dtype.is_floating_point]
    if not found:
        return torch.float64
    return found[0] if len(found) == 1 else torch.promote_types(*found)


def as_array(values: Any) -> Any:
    """A tensor as an array; halves, which numpy may lack, as float64."""
    if not isinstance(values, torch.Tensor):
        return values
    values = values.detach().cpu()
    return (values.double() if values.dtype.is_floating_point else values).numpy()


def as_tensor(values: Any, device: torch.device, dtype: torch.dtype) -> torch.Tensor:
    """An array as a tensor of this device and dtype."""
    return torch.as_tensor(np.ascontiguousarray(values)).to(device=device, dtype=dtype)
