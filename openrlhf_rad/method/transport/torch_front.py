"""Differentiable values of transport: scalar tensors whose gradient is the envelope's, nothing unrolled."""

from __future__ import annotations

from typing import Any

import torch

from openrlhf_rad.method.transport.divergence import sinkhorn_divergence
from openrlhf_rad.method.transport.result import Array
from openrlhf_rad.method.transport.solve import sinkhorn
from openrlhf_rad.method.transport.tensors import as_array, as_tensor, result_dtype, shared_device


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
