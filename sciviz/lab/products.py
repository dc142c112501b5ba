"""Matrix products by the fastest library that torch has for them."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

__all__ = ["linear", "product", "times_transpose"]

LEAST = 10**6  # products of two numbers


def times_transpose(a: Float[Tensor, "n k"], b: Float[Tensor, "m k"]) -> Float[Tensor, "n m"]:
    """Return a bᵀ, through oneDNN where torch would call a BLAS that leaves the processor's wide vectors idle.

    Torch hands float32 products on a CPU to MKL, which on some processors runs at less than half of oneDNN's rate. The
    operator is the one that torch's own compiler emits; it knows no gradients, and where it is missing `@` does the same.

    >>> times_transpose(torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 4.0]])).item()
    11.0
    """
    if not _suits(a, b) or (torch.is_grad_enabled() and (a.requires_grad or b.requires_grad)):
        return a @ b.mT
    product: Tensor = torch.ops.mkldnn._linear_pointwise(a, b, None, "none", [], "")
    return product


def linear(
    x: Float[Tensor, "*batch k"],
    weight: Float[Tensor, "m k"],
    bias: Float[Tensor, "m"] | None = None,
    *,
    least: float = 0,
) -> Float[Tensor, "*batch m"]:
    """Return x Wᵀ + b as `torch.nn.functional.linear` does; where oneDNN serves, forwards and backwards through it.

    `least` is how many products of two numbers it takes, where that is more than usual.

    >>> linear(torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 4.0]]), torch.tensor([0.5])).item()
    11.5
    """
    # The transforms of torch.func look into the operations that torch itself has.
    if not _suits(x, weight, least) or torch._C._are_functorch_transforms_active():
        return nn.functional.linear(x, weight, bias)
    result: Tensor = _Linear.apply(x, weight, bias)  # type: ignore[no-untyped-call]
    return result


def product(a: Float[Tensor, "*batch n k"], b: Float[Tensor, "*members k m"]) -> Float[Tensor, "*batch n m"]:
    """Return a b as `@` does; where b is one matrix and oneDNN serves, forwards and backwards through it.

    >>> product(torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0], [4.0]])).item()
    11.0
    """
    return linear(a, b.mT) if b.ndim == 2 else a @ b


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.save_for_forward(x, weight)
        rows = x.reshape(-1, x.shape[-1])
        y: Tensor = torch.ops.mkldnn._linear_pointwise(rows, weight, bias, "none", [], "")
        return y.view(*x.shape[:-1], len(weight))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        # `times_transpose` takes the plain way where a graph of the gradient is asked for.
        x, weight = ctx.saved_tensors
        need_x, need_weight, need_bias = ctx.needs_input_grad
        rows = grads[0].reshape(-1, len(weight))
        return (
            times_transpose(rows, weight.mT).view_as(x) if need_x else None,
            times_transpose(rows.mT, x.reshape(-1, x.shape[-1]).mT) if need_weight else None,
            rows.sum(0) if need_bias else None,
        )

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor | None) -> Tensor:
        x, weight = ctx.saved_tensors
        d_x, d_weight, d_bias = tangents
        parts = [
            nn.functional.linear(d_x, weight) if d_x is not None else None,
            nn.functional.linear(x, d_weight) if d_weight is not None else None,
            d_bias.expand(*x.shape[:-1], len(weight)) if d_bias is not None else None,
        ]
        return torch.stack([part for part in parts if part is not None]).sum(0)


def _suits(a: Tensor, b: Tensor, least: float = 0) -> bool:
    """Whether oneDNN can make the product, and it is large enough to repay the longer way there."""
    on_cpu = a.device.type == b.device.type == "cpu" and a.dtype == b.dtype == torch.float32
    return _HAS_ONEDNN and on_cpu and a.numel() * len(b) >= max(LEAST, least)


def _find_onednn() -> bool:
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    try:
        a, b = torch.arange(6.0).view(2, 3), torch.arange(12.0).view(3, 4).T
        return torch.equal(torch.ops.mkldnn._linear_pointwise(a, b, None, "none", [], ""), a @ b.T)
    except (AttributeError, RuntimeError, NotImplementedError, TypeError):
        return False


_HAS_ONEDNN = _find_onednn()
