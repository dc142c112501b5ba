"""Neural tangent kernels: of one network, and of an infinitely wide one."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
from registry import Outcome, Target, Workload

SIZES = (256, 512, 512, 10)


def _draws() -> tuple[np.ndarray, list[tuple[np.ndarray, np.ndarray]]]:
    draw = np.random.default_rng(0)
    X = draw.standard_normal((64, SIZES[0])).astype(np.float32)
    layers = [
        ((draw.standard_normal((a, b)) * (2 / a) ** 0.5).astype(np.float32), np.zeros(b, np.float32))
        for a, b in pairwise(SIZES)
    ]
    return X, layers


def _torch_network() -> tuple[Any, Any]:
    import torch
    from torch import nn

    X, layers = _draws()
    parts: list[Any] = []
    for weight, bias in layers:
        linear = nn.Linear(*weight.shape)
        linear.weight.data = torch.as_tensor(weight.T.copy())
        linear.bias.data = torch.as_tensor(bias)
        parts += [linear, nn.ReLU()]
    return nn.Sequential(*parts[:-1]), torch.as_tensor(X)


def _judge_empirical(outcomes: dict[str, Outcome]) -> dict[str, dict[str, float]]:
    from sciviz.ntk import empirical_ntk

    network, X = _torch_network()
    truth = empirical_ntk(network.double(), X.double(), method="jacobian").numpy()
    size = np.abs(truth).max()
    return {
        name: {"relative_error": float(np.abs(kept["kernel"] - truth).max() / size)} for name, kept in outcomes.items()
    }


empirical = Workload(
    "ntk/empirical",
    "empirical kernel, MLP 256-512-512-10 (ReLU, biases), 64 points, all 10×10 blocks, float32",
    _judge_empirical,
    targets=(
        Target("torch.func Jacobians", 1 / 150, says="at least 150 times as fast as contracted Jacobians"),
        Target(
            "neural-tangents",
            1.0,
            says="no slower than neural-tangents, compiled",
        ),
    ),
    not_alike="neural-tangents is compiled by XLA; its compilation is in the column 'first call'.",
)


@empirical.contestant("sciviz")
def _():
    from sciviz.ntk import empirical_ntk

    network, X = _torch_network()
    return lambda: {"kernel": empirical_ntk(network, X)}


@empirical.contestant("torch.func Jacobians", package="torch")
def _():
    # The contraction of whole Jacobians, layer by layer, that torch's own guide to this kernel shows.
    import torch
    from torch.func import functional_call, jacrev, vmap

    network, X = _torch_network()
    params = {name: value.detach() for name, value in network.named_parameters()}

    def single(params: Any, x: Any) -> Any:
        return functional_call(network, params, (x[None],))[0]

    def run() -> Outcome:
        jacobian = vmap(jacrev(single), (None, 0))(params, X)
        blocks = [value.flatten(2) for value in jacobian.values()]
        return {"kernel": sum(torch.einsum("naf,mbf->nmab", block, block) for block in blocks)}

    return run


@empirical.contestant("neural-tangents", "tangents")
def _():
    import jax
    import jax.numpy as jnp
    import neural_tangents as nt

    X, layers = _draws()
    params = [(jnp.asarray(weight), jnp.asarray(bias)) for weight, bias in layers]

    def network(params: Any, x: Any) -> Any:
        for weight, bias in params[:-1]:
            x = jnp.maximum(x @ weight + bias, 0)
        return x @ params[-1][0] + params[-1][1]

    kernel = jax.jit(
        nt.empirical_ntk_fn(
            network,
            trace_axes=(),
            diagonal_axes=(),
            vmap_axes=0,
            implementation=nt.NtkImplementation.STRUCTURED_DERIVATIVES,
        ),
        static_argnums=(1,),
    )
    points = jnp.asarray(X)
    return lambda: {"kernel": kernel(points, None, params).block_until_ready()}


# ------------------------------------------------------------------------------------------------------ infinite width


def _points() -> np.ndarray:
    return np.random.default_rng(3).standard_normal((1000, 256))


def _judge_infinite(outcomes: dict[str, Outcome]) -> dict[str, dict[str, float]]:
    import mpmath

    # Fifty digits on entries of the diagonal and beside it: there arccos loses half the digits of a double.
    mpmath.mp.dps = 50
    X = _points()
    pairs = [(0, 0), (7, 7), (999, 999), (0, 1), (5, 700)]

    def exact(i: int, j: int) -> float:
        dot = [mpmath.fdot(map(mpmath.mpf, X[a]), map(mpmath.mpf, X[b])) / 256 for a, b in ((i, i), (j, j), (i, j))]
        first, second, cross = dot
        tangent = cross
        for _ in range(2):
            size = mpmath.sqrt(first * second)
            cosine = min(mpmath.mpf(1), max(mpmath.mpf(-1), cross / size))
            angle = mpmath.acos(cosine)
            cross = size * (mpmath.sin(angle) + (mpmath.pi - angle) * cosine) / mpmath.pi
            tangent = cross + tangent * (mpmath.pi - angle) / mpmath.pi
        return float(tangent)

    truth = np.array([exact(i, j) for i, j in pairs])
    figures = {}
    for name, kept in outcomes.items():
        found = np.array([kept["kernel"][i, j] for i, j in pairs])
        figures[name] = {"relative_error": float(np.abs(found / truth - 1).max())}
    return figures


infinite = Workload(
    "ntk/infinite",
    "infinitely wide ReLU network, 2 hidden layers, 1000×1000, d = 256",
    _judge_infinite,
    targets=(
        Target(
            "neural-tangents",
            1 / 1.5,
            says="at least 1.5 times as fast as neural-tangents, compiled",
            why="A third of ours is new memory: it returns two kernels, that of the NNGP as well, and the system hands out their "
            "16 MB a page at a time (4,500 page faults a call). With memory that is kept it takes two thirds of the time.",
        ),
        Target("", 1e-10, "relative_error", says="float64 within 1e-10 of a 50-digit reference, on the diagonal too"),
    ),
    not_alike="float64 on both sides.",
)


@infinite.contestant("sciviz")
def _():
    import torch

    from sciviz.ntk import infinite_kernels

    X = torch.as_tensor(_points())
    return lambda: {"kernel": infinite_kernels(X, depth=2, weight_variance=2.0).ntk / 2}


@infinite.contestant("neural-tangents", "tangents")
def _():
    import jax
    import jax.numpy as jnp
    from neural_tangents import stax

    jax.config.update("jax_enable_x64", True)
    layers = [stax.Dense(1, W_std=2**0.5), stax.Relu()] * 2 + [stax.Dense(1, W_std=2**0.5)]
    kernel_fn = stax.serial(*layers)[2]
    kernel = jax.jit(lambda x: kernel_fn(x, None, "ntk"))
    X = jnp.asarray(_points())
    return lambda: {"kernel": kernel(X).block_until_ready() / 2}


WORKLOADS = [empirical, infinite]
