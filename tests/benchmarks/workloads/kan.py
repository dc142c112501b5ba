"""Kolmogorov-Arnold networks: a small fit, a layer for images, and what a finer grid costs."""

from __future__ import annotations

from typing import Any

import numpy as np
from registry import Outcome, Target, Workload


def _data(number: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    X = np.random.default_rng(seed).uniform(-1, 1, (number, 2))
    return X, np.exp(np.sin(np.pi * X[:, :1]) + X[:, 1:] ** 2)


def _judge_fit(outcomes: dict[str, Outcome]) -> dict[str, dict[str, float]]:
    truth = _data(1000, 1)[1]
    return {name: {"test_rmse": float(np.sqrt(np.mean((kept["y"] - truth) ** 2)))} for name, kept in outcomes.items()}


fit = Workload(
    "kan/fit",
    "fit exp(sin πx + y²) on 1000 points, [2,5,1], grid 5, cubic, float64",
    _judge_fit,
    targets=(
        Target("pykan", 0.2, says="at least 5 times as fast as pykan"),
        Target("", 4.2e-3, "test_rmse", says="test RMSE at most 4.2e-3"),
    ),
    rounds=5,
    not_alike="pykan takes 20 steps of L-BFGS (its speed mode, regularisation off, grid updates on); ours 20 of L-BFGS in one row "
    "and its default, 20 of Levenberg-Marquardt, in the other.",
)


def _ours(**options: Any) -> Any:
    import torch

    from sciviz.kan import KAN
    from sciviz.kan.training import train

    X, y = (torch.as_tensor(part) for part in _data(1000, 0))
    fresh = torch.as_tensor(_data(1000, 1)[0])

    def run() -> Outcome:
        model = KAN([2, 5, 1], seed=0, dtype=torch.float64)
        train(model, X, y, num_steps=20, **options)
        with torch.no_grad():
            return {"y": model(fresh)}

    return run


@fit.contestant("sciviz")
def _():
    return _ours(follow=(5, 10))


@fit.contestant("sciviz, L-BFGS", package="sciviz")
def _():
    return _ours(method="lbfgs", follow=(5, 10))


@fit.contestant("pykan", "torch")
def _():
    import contextlib
    import io
    import tempfile

    import torch
    from kan import KAN

    torch.set_default_dtype(torch.float64)
    X, y = (torch.as_tensor(part) for part in _data(1000, 0))
    fresh = torch.as_tensor(_data(1000, 1)[0])
    data = {"train_input": X, "train_label": y, "test_input": X[:10], "test_label": y[:10]}
    place = tempfile.mkdtemp()

    def run() -> Outcome:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            model = KAN(width=[2, 5, 1], grid=5, k=3, seed=0, auto_save=False, ckpt_path=place)
            model.speed()
            model.fit(data, opt="LBFGS", steps=20, lamb=0.0)
        with torch.no_grad():
            return {"y": model(fresh)}

    return run


# ---------------------------------------------------------------------------------------------------------------- layer


def _judge_layer(outcomes: dict[str, Outcome]) -> dict[str, dict[str, float]]:
    """Hold each library's first layer to SciPy's B-splines with that library's own weights."""
    from scipy.interpolate import BSpline

    figures = {}
    for name, kept in outcomes.items():
        if "X" not in kept:
            continue
        X = kept["X"].astype(float)
        wanted = (X / (1 + np.exp(-X))) @ kept["base"].astype(float)
        for i, (knots, coef) in enumerate(zip(kept["knots"].astype(float), kept["coef"].astype(float), strict=True)):
            wanted += BSpline.design_matrix(X[:, i], knots, 3) @ coef
        figures[name] = {"layer_error": float(np.abs(kept["hidden"] - wanted).max() / np.abs(wanted).max())}
    return figures


layer = Workload(
    "kan/layer",
    "[784,64,10], grid 5, cubic, batch 64, forward and backward, float32",
    _judge_layer,
    targets=(
        Target(
            "pykan",
            1 / 7,
            says="at least 7 times as fast as pykan",
            why="At the limit: 0.11 to 0.16 in five runs on a machine whose speed changed with what else it did.",
        ),
        Target(
            "jaxkan",
            1.0,
            says="no slower than jaxkan, compiled",
            why="Level within the noise of the machine: XLA makes one program of jaxkan's step, ours hands torch one operation "
            "after the other. With two threads ours is ahead.",
        ),
        Target(
            "sciviz, 5 cells, again",
            1.5,
            ours="sciviz, 500 cells",
            says="500 cells cost at most 1.5 times 5 cells",
            why="The gradient of 25 million coefficients (100 MB) has to be written: see what setting it to zero takes, which is "
            "the least that any way with dense gradients can take. Of what is left, most is adding 64 x 784 x 4 rows to it.",
        ),
    ),
    not_alike="Each starts from weights of its own; its first layer is held to SciPy's splines with those weights. jaxkan is "
    "compiled by XLA; its compilation is in the column 'first call'.",
)


def _ours_network(num_cells: int) -> tuple[Any, Any]:
    import torch

    from sciviz.kan import KAN

    X = torch.rand(64, 784, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return KAN([784, 64, 10], seed=0, num_cells=num_cells), X


def _ours_layer(num_cells: int) -> Any:
    import torch

    model, X = _ours_network(num_cells)

    def run() -> Outcome:
        model.zero_grad()
        y = model(X)
        y.square().mean().backward()
        return {"y": y.detach()}

    def weights() -> Outcome:
        first = model.layers[0]
        coef, base = first.weights()
        knots = first.basis.knots.expand(784, -1)
        with torch.no_grad():
            return {"X": X, "hidden": first(X), "coef": coef.detach(), "base": base.detach(), "knots": knots}

    run.more = weights
    return run


def _forwards(num_cells: int) -> Any:
    import torch

    model, X = _ours_network(num_cells)

    def run() -> Outcome:
        with torch.no_grad():
            return {"y": model(X)}

    return run


@layer.contestant("sciviz")
def _():
    return _ours_layer(5)


@layer.contestant("sciviz, 5 cells, again", package="sciviz")
def _():
    return _ours_layer(5)


@layer.contestant("sciviz, 50 cells", package="sciviz")
def _():
    return _ours_layer(50)


@layer.contestant("sciviz, 500 cells", package="sciviz")
def _():
    return _ours_layer(500)


@layer.contestant("zeros, as many as the gradient at 500 cells", package="torch")
def _():
    import torch

    def run() -> Outcome:
        torch.zeros(784, 503, 64)
        return {}

    return run


@layer.contestant("sciviz, 500 cells, forwards", package="sciviz")
def _():
    return _forwards(500)


@layer.contestant("sciviz, 5 cells, forwards", package="sciviz")
def _():
    return _forwards(5)


@layer.contestant("pykan", "torch")
def _():
    import contextlib
    import io
    import tempfile

    import torch
    from kan import KAN

    with contextlib.redirect_stdout(io.StringIO()):
        model = KAN(width=[784, 64, 10], grid=5, k=3, seed=0, auto_save=False, ckpt_path=tempfile.mkdtemp())
        model.speed()
    X = torch.rand(64, 784, generator=torch.Generator().manual_seed(0)) * 2 - 1

    def run() -> Outcome:
        model.zero_grad()
        y = model(X)
        y.square().mean().backward()
        return {"y": y.detach()}

    def weights() -> Outcome:
        first = model.act_fun[0]
        with torch.no_grad():
            coef = (first.coef * (first.scale_sp * first.mask)[..., None]).permute(0, 2, 1)
            return {
                "X": X,
                "hidden": first(X)[0],
                "coef": coef,
                "base": first.scale_base * first.mask,
                "knots": first.grid,
            }

    run.more = weights
    return run


@layer.contestant("jaxkan", "jax")
def _():
    import jax
    import jax.numpy as jnp
    from flax import nnx
    from jaxkan.models.KAN import KAN

    options = {"k": 3, "G": 5, "external_weights": False, "add_bias": False}
    model = KAN([784, 64, 10], "spline", options, seed=0)
    graph, params, rest = nnx.split(model, nnx.Param, ...)
    X = jnp.asarray(np.random.default_rng(0).uniform(-1, 1, (64, 784)), dtype=jnp.float32)

    @jax.jit
    def step(params: Any, X: Any) -> Any:
        def loss(params: Any) -> Any:
            y = nnx.merge(graph, params, rest)(X)
            return jnp.square(y).mean(), y

        (_, y), gradient = jax.value_and_grad(loss, has_aux=True)(params)
        return y, gradient

    def run() -> Outcome:
        y, _ = jax.block_until_ready(step(params, X))
        return {"y": y}

    def weights() -> Outcome:
        first = model.layers[0]
        coef, base = np.asarray(first.c_basis[...]), np.asarray(first.c_res[...])
        return {
            "X": X,
            "hidden": first(X),
            "coef": coef.transpose(1, 2, 0),
            "base": base.T,
            "knots": first.grid.item,
        }

    run.more = weights
    return run


WORKLOADS = [fit, layer]
