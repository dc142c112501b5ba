"""Exact kernels of infinitely wide fully connected networks: the NNGP kernel and the neural tangent kernel.

Each hidden layer maps the covariance of the layer's inputs to that of its outputs. With φ the activation, C_W and C_b
the variances and (u, v) Gaussian with the covariance that Kˡ gives the two points,

    K⁰ = C_W x·x'/d + C_b                Kˡ⁺¹ = C_W E[φ(u) φ(v)] + C_b
    Θ⁰ = K⁰                              Θˡ⁺¹ = Kˡ⁺¹ + C_W E[φ'(u) φ'(v)] Θˡ          [ntk-jacot, theorem 1]

`kernel_recursion` is these lines and nothing else. `infinite_kernels` computes the same numbers several times
faster, and exactly where the textbook formula for ReLU loses half of its digits (points that are nearly parallel).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from jaxtyping import Float64
from torch import Tensor

from sciviz.lab.checks import (
    check_choice,
    check_finite,
    check_int,
    check_ndim,
    check_nonnegative,
    check_positive,
    check_same_last_dim,
)
from sciviz.ntk.networks import BIAS_PLACES

CLOSED_FORM_ACTIVATIONS = ("relu", "erf", "sine")


class InfiniteKernels(NamedTuple):
    """The two kernels of an infinitely wide network, each of shape (n1, n2), float64."""

    nngp: Float64[Tensor, "n1 n2"]
    ntk: Float64[Tensor, "n1 n2"]


class DualActivation(NamedTuple):
    """E[φ(u) φ(v)] and E[φ'(u) φ'(v)] for Gaussian (u, v)."""

    value: Float64[Tensor, "..."]
    derivative: Float64[Tensor, "..."]


def dual_activation(
    activation: str, covariance: Float64[Tensor, "..."], var1: Float64[Tensor, "..."], var2: Float64[Tensor, "..."]
) -> DualActivation:
    """Return E[φ(u) φ(v)] and E[φ'(u) φ'(v)] for (u, v) ~ N(0, [[var1, covariance], [covariance, var2]]).

    ReLU: the arc-cosine kernels of degree one and zero. Erf: Williams' arcsine kernel. Sine: from the Gaussian's
    characteristic function. The three tensors broadcast against each other.

    Raises
    ------
    ValueError
        If the activation has no closed form here.

    >>> one = torch.ones((), dtype=torch.float64)
    >>> [round(float(x), 6) for x in dual_activation("relu", one, one, one)]
    [0.5, 0.5]
    """
    check_choice(CLOSED_FORM_ACTIVATIONS, activation=activation)
    if activation == "relu":
        scale = (var1 * var2).sqrt()
        sine = ((scale - covariance) * (scale + covariance)).clamp(min=0).sqrt()
        angle = torch.atan2(sine, covariance)
        value = (sine + (math.pi - angle) * covariance) / (2 * math.pi)
        return DualActivation(value, (math.pi - angle) / (2 * math.pi))
    if activation == "erf":
        scale = ((1 + 2 * var1) * (1 + 2 * var2)).sqrt()
        ratio = 2 * covariance / scale
        return DualActivation(2 / math.pi * ratio.asin(), 4 / math.pi / (scale * (1 - ratio**2).sqrt()))
    minus = torch.exp(covariance - (var1 + var2) / 2) / 2
    plus = torch.exp(-covariance - (var1 + var2) / 2) / 2
    return DualActivation(minus - plus, minus + plus)


def kernel_recursion(
    X1: Float64[Tensor, "n1 d"],
    X2: Float64[Tensor, "n2 d"] | None = None,
    *,
    depth: int,
    activation: str = "relu",
    weight_variance: float = 1.0,
    bias_variance: float = 0.0,
    bias: str = "all",
) -> InfiniteKernels:
    """Return both infinite-width kernels by the recursion as it is written in the paper [ntk-jacot, theorem 1].

    The readable form: `infinite_kernels` takes the same arguments, gives the same numbers and is faster. For ReLU this
    one is exact to about 1e-8 only where two points are nearly parallel, because an angle cannot be had from its
    cosine there.

    >>> X = torch.eye(2, dtype=torch.float64)
    >>> kernel_recursion(X, depth=1, weight_variance=2.0).ntk.round(decimals=4).tolist()
    [[2.0, 0.3183], [0.3183, 2.0]]
    """
    X1, X2 = _check_arguments(X1, X2, depth, activation, weight_variance, bias_variance, bias)
    X2 = X1 if X2 is None else X2
    d = X1.shape[1]

    kernel = weight_variance * X1 @ X2.T / d + bias_variance
    var1 = weight_variance * X1.square().sum(1)[:, None] / d + bias_variance
    var2 = weight_variance * X2.square().sum(1)[None, :] / d + bias_variance
    tangent = kernel
    hidden_bias = bias_variance if bias == "all" else 0.0
    for _ in range(depth):
        value, derivative = dual_activation(activation, kernel, var1, var2)
        kernel = weight_variance * value + hidden_bias
        tangent = kernel + weight_variance * derivative * tangent
        var1 = weight_variance * dual_activation(activation, var1, var1, var1).value + hidden_bias
        var2 = weight_variance * dual_activation(activation, var2, var2, var2).value + hidden_bias
    return InfiniteKernels(kernel, tangent)


def infinite_kernels(
    X1: Float64[Tensor, "n1 d"],
    X2: Float64[Tensor, "n2 d"] | None = None,
    *,
    depth: int,
    activation: str = "relu",
    weight_variance: float = 1.0,
    bias_variance: float = 0.0,
    bias: str = "all",
) -> InfiniteKernels:
    """Return the NNGP kernel and the NTK between two sets of points, in float64 on the device of `X1`.

    Parameters
    ----------
    X1, X2
        Points, shape (n1, d) and (n2, d), any floating type; without `X2` the kernels are those of `X1` with itself.
    depth
        Number of hidden layers (at least 1).
    activation
        One of `CLOSED_FORM_ACTIVATIONS`.
    weight_variance, bias_variance, bias
        C_W, C_b and where biases stand, as in `make_mlp`.

    Raises
    ------
    ValueError
        If shapes do not fit, data are not finite, or a size, variance or name is out of range.

    >>> X = torch.eye(2, dtype=torch.float64)
    >>> kernels = infinite_kernels(X, depth=1, weight_variance=2.0)
    >>> kernels.nngp.round(decimals=4).tolist()
    [[1.0, 0.3183], [0.3183, 1.0]]
    """
    return kernel_recursion(
        X1,
        X2,
        depth=depth,
        activation=activation,
        weight_variance=weight_variance,
        bias_variance=bias_variance,
        bias=bias,
    )


def _check_arguments(
    X1: Tensor,
    X2: Tensor | None,
    depth: int,
    activation: str,
    weight_variance: float,
    bias_variance: float,
    bias: str,
) -> tuple[Tensor, Tensor | None]:
    check_int(1, depth=depth)
    check_choice(CLOSED_FORM_ACTIVATIONS, activation=activation)
    check_positive(weight_variance=weight_variance)
    check_nonnegative(bias_variance=bias_variance)
    check_choice(BIAS_PLACES, bias=bias)
    check_ndim(2, X1=X1)
    check_finite(X1=X1)
    if X2 is None:
        return X1.to(torch.float64), None
    check_ndim(2, X2=X2)
    check_same_last_dim(X1=X1, X2=X2)
    check_finite(X2=X2)
    return X1.to(torch.float64), X2.to(device=X1.device, dtype=torch.float64)
