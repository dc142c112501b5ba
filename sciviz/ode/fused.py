"""Small layers as loops that `torch.compile` joins with what surrounds them; for `compiled.CompiledRun`.

A layer of a few dozen units on a few hundred samples is over before a matrix library has been called, and each call
splits the compiled step in two. Here the product is written as sums over inputs, which the compiler turns into the same
kind of loops as everything else. They are fast where the batch is what lies side by side in memory: then one
instruction works on eight or sixteen samples, however narrow the layer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

# Layers of more weights than this are left to the matrix library, which is then the faster one.
SMALL_LAYER = 4096
# Sums of at most this many terms are written out.
FEW = 8

# tanh(x) ≈ x P(x²) / Q(x²) for |x| < 7.9, beyond which single precision has reached ±1: Eigen's coefficients, which XLA
# uses too.
TANH_END = 7.9
TANH_P = (4.89352455891786e-03, 6.37261928875436e-04, 1.48572235717979e-05, 5.12229709037114e-08,
          -8.60467152213735e-11, 2.00018790482477e-13, -2.76076847742355e-16)  # fmt: skip
TANH_Q = (4.89352518554385e-03, 2.26843463243900e-03, 1.18534705686654e-04, 1.19825839466702e-06)


def batch_last(y: Tensor) -> Tensor:
    """Return the same values with the samples, the first dimension, side by side in memory.

    >>> batch_last(torch.zeros(5, 2, 3)).stride()
    (1, 15, 5)
    """
    return y.movedim(0, -1).contiguous().movedim(-1, 0)


def keep_layout(y: Tensor) -> Tensor:
    """Return `y`; compiled, it is put into memory as it is here, where the compiler would choose by itself."""
    return y.as_strided(y.shape, y.stride())


def small_layer(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Compute x @ weight + bias with the batch side by side in memory.

    >>> small_layer(torch.ones(3, 2), torch.tensor([[1.0], [2.0]]), torch.ones(1)).tolist()
    [[4.0], [4.0], [4.0]]
    """
    # Else the compiler would work out each input again for each output that it goes into.
    inputs = keep_layout(x).t()
    if len(inputs) <= FEW:
        total = weight[0].unsqueeze(1) * inputs[0]
        for row, values in zip(weight[1:], inputs[1:], strict=True):
            total = total + row.unsqueeze(1) * values
    else:
        total = (inputs.unsqueeze(1) * weight.unsqueeze(2)).sum(0)
    return keep_layout((total if bias is None else total + bias.unsqueeze(1)).t())


def quick_tanh(x: Tensor) -> Tensor:
    """The hyperbolic tangent in single precision to 4e-7 of its value, several times as fast as the library's.

    >>> x = torch.linspace(-9, 9, 1001)
    >>> bool((quick_tanh(x) - x.tanh()).abs().max() < 4e-7)
    True
    """
    x = x.clamp(-TANH_END, TANH_END)
    square = x * x
    top, bottom = torch.full_like(x, TANH_P[-1]), torch.full_like(x, TANH_Q[-1])
    for value in TANH_P[-2::-1]:
        top = top * square + value
    for value in TANH_Q[-2::-1]:
        bottom = bottom * square + value
    return x * top / bottom


class SmallLayers(TorchFunctionMode):
    """Inside, small layers on states whose samples lie side by side are the loops above; tanh is the quick one."""

    def __init__(self) -> None:
        super().__init__()
        self.met = 0

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Compute `func`, in another way if it is one of those."""
        kwargs = kwargs or {}
        layer: tuple[Tensor, Tensor, Tensor | None] | None = None
        if func is F.linear and len(args) == 3 and not kwargs:
            layer = (args[0], args[1].t(), args[2])
        elif func is torch.addmm and not kwargs and args[0].ndim == 1:
            layer = (args[1], args[2], args[0])
        elif func in PRODUCTS and not kwargs and isinstance(args[1], Tensor) and args[1].ndim == 2:
            layer = (args[0], args[1], None)
        if layer is not None and fits(*layer):
            if not torch.compiler.is_compiling():
                self.met += 1
            return small_layer(*layer)
        if func in TANHS and args[0].dtype == torch.float32:
            return quick_tanh(args[0])
        if func is torch.Tensor.view and all(isinstance(size, int) for size in args[1:]):
            # A row's numbers are no longer side by side, and a view of them may not exist.
            return args[0].reshape(*args[1:])
        return func(*args, **kwargs)


PRODUCTS = (torch.matmul, torch.mm, torch.Tensor.matmul, torch.Tensor.mm, torch.Tensor.__matmul__)
TANHS = (torch.tanh, torch.Tensor.tanh)


def fits(x: Tensor, weight: Tensor, bias: Tensor | None) -> bool:
    """Tell whether the layer is small, and `x` a batch of rows whose samples lie side by side in memory."""
    return (
        x.ndim == 2
        and x.stride(0) == 1
        and weight.ndim == 2
        and weight.numel() <= SMALL_LAYER
        and x.shape[1] == weight.shape[0] > 0
    )


def fuse(func: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    """Return the function with its small layers as loops, and its answer with the samples side by side in memory."""

    def fused(t: Tensor, y: Tensor) -> Tensor:
        with SmallLayers():
            return batch_last(func(t, y))

    return fused


def gains(func: Callable[[Tensor, Tensor], Tensor], t: Tensor, y: Tensor, f: Tensor) -> bool:
    """Tell whether the function has small layers, and gives the slopes `f` also where they are loops.

    It may not have any, or may rely on how a row lies in memory; then it stays as it is.
    """
    layers = SmallLayers()
    try:
        with torch.no_grad(), layers:
            again = func(t, batch_last(y))
    except (RuntimeError, ValueError, IndexError):
        return False
    f, tolerance = f.detach(), 1e3 * torch.finfo(y.dtype).eps
    return layers.met > 0 and torch.allclose(again, f, rtol=tolerance, atol=tolerance * float(f.abs().max()))
