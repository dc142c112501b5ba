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
from itertools import pairwise
from typing import NamedTuple, Self

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
    X1, X2 = _check_arguments(X1, X2, depth, activation, weight_variance, bias_variance, bias)
    symmetric = X2 is None
    X2 = X1 if X2 is None else X2
    network = _Network(depth, weight_variance, bias_variance, bias_variance if bias == "all" else 0.0)
    features1 = _with_bias_feature(X1, network)
    features2 = features1 if symmetric else _with_bias_feature(X2, network)
    scheme = {"relu": _ReluScheme, "erf": _ErfScheme, "sine": _SineScheme}[activation]
    one = scheme(features1, network)
    two = one if symmetric else scheme(features2, network)

    result = InfiniteKernels(*(X1.new_empty(len(X1), len(X2)) for _ in range(2)))
    # Tiles of a few rows keep the dozen elementwise passes of a layer in the cache, and bound the temporaries.
    height = max(1, min(len(X1), _TILE_ENTRIES // max(1, len(X2))))
    # One workspace for all tiles: memory that is new costs more than the arithmetic done in it.
    workspace = X1.new_empty(scheme.num_buffers, height * len(X2))
    for start in range(0, len(X1), height):
        rows = slice(start, min(start + height, len(X1)))
        # A symmetric kernel is computed from the diagonal to the right, and mirrored.
        columns = slice(start, len(X2)) if symmetric else slice(0, len(X2))
        shape = (rows.stop - rows.start, columns.stop - columns.start)
        buffers = [buffer[: math.prod(shape)].view(shape) for buffer in workspace]
        for whole, tile in zip(result, one.tile(rows, two, columns, buffers), strict=True):
            if symmetric:
                square = tile[:, : tile.shape[0]]
                # Products of matrices are not symmetric to the last bit.
                square.copy_((square + square.T) / 2)
                whole[columns, rows] = tile.T
            whole[rows, columns] = tile
    return result


_TILE_ENTRIES = 2**16


class _Network(NamedTuple):
    depth: int
    weight_variance: float
    input_bias: float
    hidden_bias: float


def _with_bias_feature(X: Tensor, network: _Network) -> Tensor:
    """Points with the input layer's variances absorbed, so that K⁰ is a plain inner product."""
    scaled = X * math.sqrt(network.weight_variance / X.shape[1])
    if network.input_bias == 0:
        return scaled
    return torch.cat([scaled, X.new_full((len(X), 1), math.sqrt(network.input_bias))], dim=1)


class _Scheme:
    """One side's points with everything that depends on them alone: the diagonal of K at every layer."""

    num_buffers = 4

    def __init__(self, features: Tensor, network: _Network) -> None:
        self.features, self.network = features, network
        self.variances = [features.square().sum(1)]
        for _ in range(network.depth):
            value = network.weight_variance * self.diagonal(self.variances[-1]) + network.hidden_bias
            self.variances.append(value)

    def diagonal(self, variance: Tensor) -> Tensor:
        """E[φ(u)²]."""
        raise NotImplementedError

    def tile(self, rows: slice, other: Self, columns: slice, buffers: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Both kernels for some rows of this side and some columns of the other, computed in the buffers."""
        raise NotImplementedError


class _ReluScheme(_Scheme):
    """ReLU, by the angle's deficit q = 1 − cos θ, in which nearly parallel points keep all their digits.

    With unit vectors û = features/√K⁰(x, x), q⁰ = |û − û'|²/2. One layer gives, with
    g(q) = q − (sin θ − θ cos θ)/π the deficit of the ReLU's outputs,

        q' = r g + e        r = C_W s/(2 s')        e = 1 − r − C_b/s'        s = √(K(x, x) K(x', x'))

    where e = |(α, β) − (α', β')|²/2 for the unit vector (α, β) = (√(C_W K/2), √C_b)/√K'. None of these differences
    cancels. Kernels are carried divided by s. Without a hidden bias r = 1 and e = 0: angles do not depend on norms.
    """

    num_buffers = 5

    def __init__(self, features: Tensor, network: _Network) -> None:
        super().__init__(features, network)
        norms = [variance.sqrt() for variance in self.variances]
        self.unit = features / norms[0].where(norms[0] > 0, torch.ones_like(norms[0]))[:, None]
        self.last_norm = norms[-1]
        self.signal = [math.sqrt(network.weight_variance / 2) * a / b for a, b in pairwise(norms)]
        self.bias = [math.sqrt(network.hidden_bias) / b for b in norms[1:]] if network.hidden_bias > 0 else []

    def diagonal(self, variance: Tensor) -> Tensor:
        return variance / 2

    def tile(self, rows: slice, other: Self, columns: slice, buffers: list[Tensor]) -> tuple[Tensor, Tensor]:
        deficit, tangent, sine, cosine, angle = buffers
        torch.mm(self.unit[rows], other.unit[columns].T, out=deficit).neg_().add_(1).clamp_(0, 2)
        # An inner product knows 1 − cos θ to 1e-16, which is θ itself to 1e-16/θ: too little near 0 and near π.
        near = torch.where(deficit < _NEARLY_PARALLEL)
        deficit[near] = _half_squared_distance(self.unit[rows], other.unit[columns], near, -1)
        opposite = torch.where(deficit > 2 - _NEARLY_PARALLEL)
        remainder = _half_squared_distance(self.unit[rows], other.unit[columns], opposite, 1)

        torch.sub(1, deficit, out=tangent)
        for layer in range(self.network.depth):
            torch.sub(2, deficit, out=sine).mul_(deficit).sqrt_()
            if layer == 0:
                sine[opposite] = (remainder * (2 - remainder)).sqrt()
            torch.sub(1, deficit, out=cosine)
            torch.atan2(sine, cosine, out=angle)
            deficit.addcmul_(angle, cosine, value=1 / math.pi).sub_(sine, alpha=1 / math.pi)
            # 1 − θ/π is the normalised E[φ'φ'], up to the factor 2 that E[φ²] = K/2 brings.
            tangent.mul_(angle.mul_(-1 / math.pi).add_(1))
            if self.bias:
                signal1, signal2 = self.signal[layer][rows, None], other.signal[layer][None, columns]
                bias1, bias2 = self.bias[layer][rows, None], other.bias[layer][None, columns]
                deficit.mul_(signal1).mul_(signal2)
                tangent.mul_(signal1).mul_(signal2)
                torch.sub(signal1, signal2, out=angle)
                deficit.addcmul_(angle, angle, value=0.5)
                torch.sub(bias1, bias2, out=angle)
                deficit.addcmul_(angle, angle, value=0.5)
            # Rounding can leave −1e-17 here, whose square root would be no number.
            deficit.clamp_(min=0)
            tangent.add_(1).sub_(deficit)
        norm1, norm2 = self.last_norm[rows, None], other.last_norm[None, columns]
        return deficit.neg_().add_(1).mul_(norm1).mul_(norm2), tangent.mul_(norm1).mul_(norm2)


_NEARLY_PARALLEL = 1e-6


def _half_squared_distance(unit1: Tensor, unit2: Tensor, pairs: tuple[Tensor, ...], sign: int) -> Tensor:
    """|û + sign û'|²/2 of the listed pairs, from the difference itself; in chunks, as the pairs may be many."""
    if len(pairs[0]) == 0:
        return unit1.new_empty(0)
    size = max(1, _TILE_ENTRIES * 16 // unit1.shape[1])
    parts = zip(torch.split(pairs[0], size), torch.split(pairs[1], size), strict=True)
    return torch.cat([(unit1[i] + sign * unit2[j]).square().sum(1) / 2 for i, j in parts])


class _ErfScheme(_Scheme):
    """Erf: E[φφ'] = 2/π asin(z) and E[φ'φ'] = 4/π/√((1+2K)(1+2K') (1−z²)), z = 2 K(x, x')/√((1+2K)(1+2K'))."""

    def __init__(self, features: Tensor, network: _Network) -> None:
        super().__init__(features, network)
        self.scales = [(1 + 2 * variance).rsqrt() for variance in self.variances]

    def diagonal(self, variance: Tensor) -> Tensor:
        return 2 / math.pi * (2 * variance / (1 + 2 * variance)).asin()

    def tile(self, rows: slice, other: Self, columns: slice, buffers: list[Tensor]) -> tuple[Tensor, Tensor]:
        weight_variance, hidden_bias = self.network.weight_variance, self.network.hidden_bias
        kernel, tangent, ratio, slope = buffers
        torch.mm(self.features[rows], other.features[columns].T, out=kernel)
        tangent.copy_(kernel)
        for scale1, scale2 in zip(self.scales[:-1], other.scales[:-1], strict=True):
            row, column = scale1[rows, None], scale2[None, columns]
            torch.mul(kernel, 2 * row, out=ratio).mul_(column)
            torch.mul(ratio, ratio, out=slope).neg_().add_(1).rsqrt_().mul_(weight_variance * 4 / math.pi * row)
            tangent.mul_(slope.mul_(column))
            torch.asin(ratio, out=kernel).mul_(weight_variance * 2 / math.pi).add_(hidden_bias)
            tangent.add_(kernel)
        return kernel, tangent


class _SineScheme(_Scheme):
    """Sine: with E± = exp(−(K + K')/2 ± K(x, x'))/2, E[φφ'] = E₊ − E₋ and E[φ'φ'] = E₊ + E₋."""

    def diagonal(self, variance: Tensor) -> Tensor:
        return -torch.expm1(-2 * variance) / 2

    def tile(self, rows: slice, other: Self, columns: slice, buffers: list[Tensor]) -> tuple[Tensor, Tensor]:
        weight_variance, hidden_bias = self.network.weight_variance, self.network.hidden_bias
        kernel, tangent, plus, minus = buffers
        torch.mm(self.features[rows], other.features[columns].T, out=kernel)
        tangent.copy_(kernel)
        for variance1, variance2 in zip(self.variances[:-1], other.variances[:-1], strict=True):
            mean = (variance1[rows, None] / 2, variance2[None, columns] / 2)
            torch.sub(kernel, mean[0], out=plus).sub_(mean[1]).exp_().mul_(weight_variance / 2)
            torch.add(kernel, mean[0], out=minus).add_(mean[1]).neg_().exp_().mul_(weight_variance / 2)
            torch.sub(plus, minus, out=kernel).add_(hidden_bias)
            tangent.mul_(plus.add_(minus)).add_(kernel)
        return kernel, tangent


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
