"""Tensors in, tensors out; and differentiable values, whose gradient is the envelope's, nothing unrolled.

The problem is solved in float64 on the CPU, with numpy arrays that share the tensors' memory where they can.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from openrlhf_rad.errors import TransportError
from openrlhf_rad.method.transport.batch import sinkhorn_divergence
from openrlhf_rad.method.transport.problem import Array, SinkhornResult
from openrlhf_rad.method.transport.solve import sinkhorn

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
    dtypes = [v.dtype for v in (x, y) if isinstance(v, torch.Tensor) and v.dtype.is_floating_point]
    if not dtypes:
        return torch.float64
    return dtypes[0] if len(dtypes) == 1 else torch.promote_types(*dtypes)


def as_array(values: Any) -> Any:
    """A tensor as an array; halves, which numpy may lack, as float64."""
    if not isinstance(values, torch.Tensor):
        return values
    values = values.detach().cpu()
    return (values.double() if values.dtype.is_floating_point else values).numpy()


def as_tensor(values: Any, device: torch.device, dtype: torch.dtype) -> torch.Tensor:
    """An array as a tensor of this device and dtype."""
    return torch.as_tensor(np.ascontiguousarray(values)).to(device=device, dtype=dtype)


def sinkhorn_loss(
    x: torch.Tensor, y: torch.Tensor, epsilon: float, *, tol: float = 1e-9, max_iterations: int = 10_000
) -> torch.Tensor:
    """⟨P, M⟩ + ε Σ P log P of Eq. (6) as a scalar tensor, differentiable in x_n and y_m once.

    Its gradient is the envelope's, without unrolling an iteration. Float32 points give a float32 value.

    Raises:
        TransportError: what :func:`sinkhorn` refuses, or a run that did not converge.
    """
    return _apply(_Transport, x, y, epsilon, tol, max_iterations)


def divergence_loss(
    x: torch.Tensor, y: torch.Tensor, epsilon: float, *, tol: float = 1e-9, max_iterations: int = 10_000
) -> torch.Tensor:
    """The debiased divergence of :func:`sinkhorn_divergence` as a differentiable scalar tensor."""
    return _apply(_Divergence, x, y, epsilon, tol, max_iterations)


class _Envelope(torch.autograd.Function):
    """value(x, y) with gradients that are known once it is solved."""

    @classmethod
    def solved(cls, x_n: Array, y_m: Array, epsilon: float, options: dict[str, Any]) -> Any:
        raise NotImplementedError

    @classmethod
    def forward(cls, ctx: Any, *inputs: Any) -> torch.Tensor:
        x, y, epsilon, tol, max_iterations = inputs
        options = {"tol": tol, "max_iterations": max_iterations}
        result = cls.solved(as_array(x), as_array(y), epsilon, options)
        ctx.save_for_backward(
            as_tensor(result.gradient, x.device, x.dtype).reshape(x.shape),
            as_tensor(result.gradient_y, y.device, y.dtype).reshape(y.shape),
        )
        return torch.tensor(result.value, device=x.device, dtype=result_dtype(x, y))

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *outer: torch.Tensor) -> Any:
        gradient_x, gradient_y = ctx.saved_tensors
        return outer[0] * gradient_x, outer[0] * gradient_y, None, None, None


class _Transport(_Envelope):
    @classmethod
    def solved(cls, x_n: Array, y_m: Array, epsilon: float, options: dict[str, Any]) -> Any:
        return sinkhorn(x_n, y_m, epsilon, **options).require()


class _Divergence(_Envelope):
    @classmethod
    def solved(cls, x_n: Array, y_m: Array, epsilon: float, options: dict[str, Any]) -> Any:
        return sinkhorn_divergence(x_n, y_m, epsilon, **options)


def _apply(function: type[_Envelope], x: Any, y: Any, *options: Any) -> torch.Tensor:
    shared_device(x, y)
    value: torch.Tensor = function.apply(x, y, *options)  # type: ignore[no-untyped-call]
    return value
