"""When a KAN is the wrong tool: noise, dimension, and time, measured at equal parameters and at equal time."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from sciviz.kan.experiments._common import seed_coord, sub_seeds
from sciviz.kan.experiments.scaling import DAMPING, best_starts, design_points, draw_points, exp_sin, mlp_widths
from sciviz.kan.networks import KAN, BatchedMLP
from sciviz.kan.training import levenberg_marquardt, rmse
from sciviz.lab.checks import check_int, check_nonnegative
from sciviz.lab.results import dataset, variable


def noise_and_size(
    *,
    seed: int,
    num_seeds: int = 5,
    noise: Sequence[float] = (0.0, 0.1, 0.5),
    cells: Sequence[int] = (3, 10, 40),
    num_points: int = 150,
) -> xr.Dataset:
    """Measure test errors of KANs [2, 1, 1] and perceptrons of at least their size, trained on noisy targets.

    Errors are against the function without noise, so that a perfect learner would reach 0.

    >>> noise_and_size(seed=0, num_seeds=1, noise=(0.1,), cells=(3,), num_points=40).rmse.dims
    ('network', 'noise', 'size', 'seed')
    """
    check_int(1, num_seeds=num_seeds, num_points=num_points)
    check_nonnegative(**{f"noise_{n}": level for n, level in enumerate(noise)})
    kan_seed, mlp_seed, data_seed, test_seed = sub_seeds(seed, 4)
    X, T = design_points(num_points, 2, seed=data_seed), draw_points(1000, 2, seed=test_seed)
    t = exp_sin(T)
    generator = torch.Generator().manual_seed(data_seed)
    # Levels of noise and draws of it are members of one ensemble.
    draws = torch.randn(num_seeds, num_points, 1, generator=generator, dtype=torch.float64)
    levels = torch.tensor(noise, dtype=torch.float64)[:, None, None, None]
    y = (exp_sin(X) + levels * draws).flatten(0, 1)
    members = len(y)
    errors = np.zeros((2, len(noise), len(cells), num_seeds))
    sizes = np.zeros((2, len(cells)), dtype=int)
    clean = exp_sin(X)
    # All start from the same good structure: the question is what noise does to it, not whether it is found.
    kan = best_starts(
        KAN([2, 1, 1], seed=kan_seed, num_cells=cells[0], base=None, members=3 * members, dtype=torch.float64),
        X,
        clean,
        members,
        20,
    )
    assert isinstance(kan, KAN)
    for place, num_cells in enumerate(cells):
        if place:
            kan.extend(num_cells, X)
        levenberg_marquardt(kan, X, y, num_steps=15)
        starts = BatchedMLP(mlp_widths(kan.num_active(), 3), seed=mlp_seed, members=3 * members, dtype=torch.float64)
        mlp = best_starts(starts, X, y.repeat(3, 1, 1), members, 20)
        levenberg_marquardt(mlp, X, y, num_steps=60, damping=DAMPING)
        for row, model in enumerate((kan, mlp)):
            errors[row, :, place] = rmse(model, T, t).view(len(noise), num_seeds).numpy()
            sizes[row, place] = model.num_active()
    return dataset(
        "Noise and size",
        {
            "network": variable("network", ["KAN", "MLP"], "Network"),
            "noise": variable("noise", list(noise), "Noise on the targets"),
            "cells": variable("size", list(cells), "Grid cells"),
            "seed": seed_coord(num_seeds),
        },
        {
            "rmse": variable("network noise size seed", errors, "Error against the true function (RMSE)"),
            "parameters": variable("network size", sizes, "Parameters"),
        },
        num_points=num_points,
    )


def teacher(X: Tensor, *, seed: int, width: int = 24) -> Tensor:
    """Return a random tanh network's values, scaled to standard deviation one: a function that is no sum of few curves.

    >>> round(float(teacher(draw_points(500, 4, seed=0), seed=0).std()), 3)
    1.0
    """
    network = BatchedMLP([X.shape[-1], width, 1], seed=seed, dtype=X.dtype)
    with torch.no_grad():
        network.weights[0].mul_(3.0)
        value: Tensor = network(X)
    return (value - value.mean()) / value.std()


def dimensions(
    *, seed: int, num_seeds: int = 3, sizes: Sequence[int] = (2, 5, 10), num_points: int = 400, parameters: int = 150
) -> xr.Dataset:
    """Measure test errors on functions of more and more inputs that a perceptron made, at equal numbers of parameters.

    >>> dimensions(seed=0, num_seeds=1, sizes=(2,), num_points=60, parameters=40).rmse.dims
    ('network', 'dimension', 'seed')
    """
    check_int(1, num_seeds=num_seeds, num_points=num_points, parameters=parameters)
    errors = np.zeros((2, len(sizes), num_seeds))
    counts = np.zeros((2, len(sizes)), dtype=int)
    for place, dim in enumerate(sizes):
        kan_seed, mlp_seed, data_seed, teacher_seed = sub_seeds((seed + 7919 * dim) % 2**32, 4)
        points = draw_points(num_points + 1000, dim, seed=data_seed)
        y = torch.stack([teacher(points, seed=(teacher_seed + n) % 2**32) for n in range(num_seeds)])
        X, T, t, y = points[:num_points], points[num_points:], y[:, num_points:], y[:, :num_points]
        num_cells = 3
        hidden = max(1, round(parameters / ((dim + 1) * (num_cells + 4))))
        kan = KAN([dim, hidden, 1], seed=kan_seed, num_cells=num_cells, members=num_seeds, dtype=torch.float64)
        mlp = BatchedMLP(
            mlp_widths(kan.num_active(), 2, inputs=dim), seed=mlp_seed, members=num_seeds, dtype=torch.float64
        )
        networks: tuple[KAN | BatchedMLP, ...] = (kan, mlp)
        for row, model in enumerate(networks):
            follow = (1, 4) if row == 0 else ()
            levenberg_marquardt(
                model, X, y, num_steps=40, damping=DAMPING, follow=follow, blend=1.0, follow_inputs=False
            )
            with torch.no_grad():
                errors[row, place] = (model(T) - t).square().mean((1, 2)).sqrt().numpy()
            counts[row, place] = model.num_active()
    return dataset(
        "Functions of many inputs that are no sums of few curves",
        {
            "network": variable("network", ["KAN", "MLP"], "Network"),
            "dimension": variable("dimension", list(sizes), "Inputs"),
            "seed": seed_coord(num_seeds),
        },
        {
            "rmse": variable("network dimension seed", errors, "Test error (RMSE)", "target's SD"),
            "parameters": variable("network dimension", counts, "Parameters"),
        },
        num_points=num_points,
    )


def against_the_clock(
    *,
    seed: int,
    seconds: float = 1.5,
    num_points: int = 1000,
    target: Callable[[Tensor], Tensor] | None = None,
    kan_widths: Sequence[int] = (2, 5, 1),
) -> xr.Dataset:
    """Train a KAN and a perceptron of at least its size by Adam for the same time, and record errors on the way.

    Times are this machine's, and so are the curves: nothing is claimed from them.

    Returns
    -------
    xr.Dataset
        `elapsed` and `error` (network, moment); `step_time` (network), a step's median in milliseconds.

    >>> against_the_clock(seed=0, seconds=0.05, num_points=50).sizes["network"]
    2
    """
    check_int(1, num_points=num_points)
    function = target or exp_sin
    kan_seed, mlp_seed, data_seed, test_seed = sub_seeds(seed, 4)
    X, T = draw_points(num_points, kan_widths[0], seed=data_seed), draw_points(500, kan_widths[0], seed=test_seed)
    y, t = function(X), function(T)
    kan = KAN(list(kan_widths), seed=kan_seed, dtype=torch.float64)
    mlp = BatchedMLP(mlp_widths(kan.num_active(), 3, inputs=kan_widths[0]), seed=mlp_seed, dtype=torch.float64)
    moments = 24
    elapsed, errors = np.zeros((2, moments)), np.zeros((2, moments))
    step_times = []
    for row, model in enumerate((kan, mlp)):
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        spent, place, times = 0.0, 0, []
        while place < moments:
            if spent >= seconds * (place + 1) / moments:
                errors[row, place], elapsed[row, place] = float(rmse(model, T, t)), spent
                place += 1
                continue
            began = time.perf_counter()
            optimizer.zero_grad()
            loss = (model(X) - y).square().mean()
            loss.backward()
            optimizer.step()
            times.append(time.perf_counter() - began)
            spent += times[-1]
        step_times.append(1e3 * float(np.median(times)))
    return dataset(
        "Equal time",
        {
            "network": variable("network", ["KAN", "MLP"], "Network"),
            "moment": variable("moment", np.arange(moments), "Moment"),
        },
        {
            "elapsed": variable("network moment", elapsed, "Time in training", "s"),
            "error": variable("network moment", errors, "Test error (RMSE)"),
            "step_time": variable("network", step_times, "Time of a step", "ms"),
            "parameters": variable("network", [kan.num_active(), mlp.num_active()], "Parameters"),
        },
        num_points=num_points,
    )
