"""Error against parameters: Kolmogorov-Arnold networks whose grid grows, and multilayer perceptrons that grow [kan-liu, §3.1]."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from sciviz.kan.experiments._common import seed_coord, sub_seeds
from sciviz.kan.networks import KAN, BatchedMLP
from sciviz.kan.training import choose, rmse, train
from sciviz.lab.checks import check_int
from sciviz.lab.results import ClaimResult, dataset, log_log_slope, variable

Target = Callable[[Tensor], Tensor]
KAN_CELLS = (4, 10, 20, 34, 50)
NETWORKS = ("KAN", "MLP, 2 layers", "MLP, 3 layers", "MLP, 4 layers")
Progress = Callable[[str, int, float], None]


def exp_sin(X: Tensor) -> Tensor:
    """Return exp(sin πx + y²) of points (…, 2), as (…, 1): two functions of one variable, a sum, and one more function.

    >>> exp_sin(torch.zeros(1, 2)).tolist()
    [[1.0]]
    """
    return torch.exp(torch.sin(math.pi * X[..., :1]) + X[..., 1:2].square())


def draw_points(num: int, dim: int, *, seed: int) -> Tensor:
    """Draw points evenly from [-1, 1]^dim, in float64.

    >>> draw_points(3, 2, seed=0).shape
    torch.Size([3, 2])
    """
    generator = torch.Generator().manual_seed(seed)
    return 2 * torch.rand(num, dim, generator=generator, dtype=torch.float64) - 1


def design_points(num: int, dim: int, *, seed: int) -> Tensor:
    """Return training points in [-1, 1]^dim that leave no holes and reach the edges: -cos(πu) of scrambled Sobol points u.

    Points drawn at random miss a corner in one draw and not in another, and a test there measures extrapolation.

    >>> bool(design_points(64, 1, seed=0).max() > 0.99)
    True
    """
    check_int(1, num=num, dim=dim)
    sobol = torch.quasirandom.SobolEngine(dim, scramble=True, seed=seed)  # type: ignore[no-untyped-call]
    drawn = sobol.draw(num, dtype=torch.float64)
    return -torch.cos(math.pi * drawn)


def mlp_widths(num_parameters: int, layers: int, *, inputs: int = 2) -> list[int]:
    """Return widths of the smallest perceptron of so many layers of weights with at least `num_parameters` parameters.

    >>> mlp_widths(69, 3)
    [2, 7, 7, 1]
    """
    check_int(2, layers=layers)
    hidden = 1
    while True:
        widths = [inputs, *[hidden] * (layers - 1), 1]
        if sum((a + 1) * b for a, b in itertools.pairwise(widths)) >= num_parameters:
            return widths
        hidden += 1


# Perceptrons reach lower errors from a cautious first step; spline networks do not mind.
DAMPING = 10.0


def best_starts(model: KAN | BatchedMLP, X: Tensor, y: Tensor, num_seeds: int, num_steps: int) -> KAN | BatchedMLP:
    """Train an ensemble a little, and keep for each seed the start with the lowest training error.

    Members belong to seeds in turn: the first to the first seed, the second to the second, and so on around.
    """
    follow = (1, 3, 6) if isinstance(model, KAN) else ()
    train(model, X, y, num_steps=num_steps, follow=follow, blend=1.0, follow_inputs=False, damping=DAMPING)
    errors = rmse(model, X, y).view(-1, num_seeds)
    return choose(model, errors.argmin(0) * num_seeds + torch.arange(num_seeds))


def error_scaling(
    *,
    seed: int,
    num_seeds: int = 5,
    cells: Sequence[int] = KAN_CELLS,
    num_points: int = 500,
    num_starts: int = 3,
    mlp_steps: int = 150,
    target: Target = exp_sin,
    widths: Sequence[int] = (2, 1, 1),
    progress: Progress | None = None,
) -> xr.Dataset:
    """Measure test errors of KANs and perceptrons of equal numbers of parameters, all by a second-order method.

    A KAN's grid is extended from one number of cells to the next; for each, perceptrons of two to four layers with at
    least as many parameters are trained. Both get the best of `num_starts` starts for each seed, by training error, and
    the same method, Levenberg and Marquardt's.

    Parameters
    ----------
    target
        A function of points (batch, 2) with values (batch, 1); bring your own.
    widths
        Of the KAN.
    progress
        Called with a network's name, its number of parameters and its median error as soon as these are known.

    Returns
    -------
    xr.Dataset
        `rmse` (network, size, seed), the test error; `parameters` (network, size).

    >>> ds = error_scaling(seed=0, num_seeds=2, cells=(3,), num_points=60, num_starts=1, mlp_steps=3)
    >>> ds.rmse.dims
    ('network', 'size', 'seed')
    """
    check_int(1, num_seeds=num_seeds, num_points=num_points, num_starts=num_starts, mlp_steps=mlp_steps)
    kan_seed, mlp_seed, data_seed, test_seed = sub_seeds(seed, 4)
    X, T = design_points(num_points, widths[0], seed=data_seed), draw_points(1000, widths[0], seed=test_seed)
    y, t = target(X), target(T)
    errors = np.zeros((len(NETWORKS), len(cells), num_seeds))
    sizes = np.zeros((len(NETWORKS), len(cells)), dtype=int)

    def note(network: int, place: int, model: KAN | BatchedMLP) -> None:
        errors[network, place] = rmse(model, T, t).numpy()
        sizes[network, place] = model.num_active()
        if progress is not None:
            progress(NETWORKS[network], int(sizes[network, place]), float(np.median(errors[network, place])))

    kan: KAN | BatchedMLP = KAN(
        list(widths), seed=kan_seed, num_cells=cells[0], base=None, members=num_seeds * num_starts, dtype=torch.float64
    )
    kan = best_starts(kan, X, y, num_seeds, 15)
    assert isinstance(kan, KAN)
    for place, num_cells in enumerate(cells):
        if place:
            kan.extend(num_cells, X)
        train(kan, X, y, num_steps=15)
        note(0, place, kan)
    for place in range(len(cells)):
        for layers in (2, 3, 4):
            shape = mlp_widths(int(sizes[0, place]), layers, inputs=widths[0])
            mlp: KAN | BatchedMLP = BatchedMLP(
                shape, seed=(mlp_seed + layers) % 2**32, members=num_seeds * num_starts, dtype=torch.float64
            )
            mlp = best_starts(mlp, X, y, num_seeds, 20)
            train(mlp, X, y, num_steps=mlp_steps, damping=DAMPING)
            note(layers - 1, place, mlp)
    return dataset(
        "Error against parameters",
        {
            "network": variable("network", list(NETWORKS), "Network"),
            "seed": seed_coord(num_seeds),
            "cells": variable("size", list(cells), "Grid cells of the KAN"),
        },
        {
            "rmse": variable("network size seed", errors, "Test error (RMSE)"),
            "parameters": variable("network size", sizes, "Parameters"),
        },
        num_points=num_points,
        widths=str(list(widths)),
    )


def _best_mlp(ds: xr.Dataset) -> xr.DataArray:
    """Each seed's best perceptron of a size, over the numbers of layers: a choice that favours the perceptron."""
    best: xr.DataArray = ds.rmse.isel(network=slice(1, None)).min("network")
    return best


def lower_error_claim(ds: xr.Dataset) -> ClaimResult:
    """`kan-liu/lower-error`: a small spline network has a lower test error than perceptrons of at least its size."""
    kan, mlp = ds.rmse.isel(network=0).median("seed"), _best_mlp(ds).median("seed")
    sizes = ds.parameters.isel(network=0).values
    ratio = (kan / mlp).values
    wanted = [int(np.abs(sizes - size).argmin()) for size in (70, 160)]
    near = all(abs(sizes[place] - size) <= 0.1 * size for place, size in zip(wanted, (70, 160), strict=True))
    decided = near and ds.sizes["seed"] >= 3
    return ClaimResult(
        measured={f"ratio at {sizes[place]} parameters": float(ratio[place]) for place in wanted},
        holds=bool((ratio[wanted] <= 0.1).all()) if decided else None,
        criterion="median test RMSE of the KAN <= 0.1 x that of the best MLP of 2 to 4 layers with at least as "
        "many parameters, at 70 and at 160, at least 3 seeds",
        spread=None,
        seeds=ds.sizes["seed"],
    )


def slope_claim(ds: xr.Dataset, *, num_draws: int = 2000) -> ClaimResult:
    """`kan-liu/slope`: the KAN's error falls faster with the number of parameters."""
    sizes = ds.parameters.values
    kan, mlp = ds.rmse.isel(network=0).values, _best_mlp(ds).values
    rng = np.random.default_rng(0)
    draws = rng.integers(0, ds.sizes["seed"], size=(num_draws, ds.sizes["seed"]))

    def slopes(errors: np.ndarray, count: np.ndarray) -> np.ndarray:
        middle = np.log(np.median(errors[:, draws], axis=-1))
        place = np.log(count) - np.log(count).mean()
        found: np.ndarray = (place[:, None] * middle).sum(0) / (place**2).sum()
        return found

    differences = slopes(kan, sizes[0]) - slopes(mlp, sizes[2])
    low, high = np.quantile(differences, [0.025, 0.975])
    decided = ds.sizes["seed"] >= 3 and ds.sizes["size"] >= 3
    return ClaimResult(
        measured={
            "KAN": log_log_slope(sizes[0], np.median(kan, 1)),
            "MLP": log_log_slope(sizes[2], np.median(mlp, 1)),
        },
        holds=(True if high < 0 else False if low >= 0 else None) if decided else None,
        criterion="slope of log median error against log parameters, KAN less best MLP: whole 95% bootstrap interval over "
        "seeds below 0, at least 3 seeds and 3 sizes",
        spread=f"difference between {low:.1f} and {high:.1f}",
        seeds=ds.sizes["seed"],
    )
