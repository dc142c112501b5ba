"""Poisson's equation on a square, solved by a network whose residual is made zero [kan-liu, §3.4]."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from sciviz.kan.experiments._common import seed_coord, sub_seeds
from sciviz.kan.experiments.scaling import DAMPING, design_points, mlp_widths
from sciviz.kan.networks import KAN, BatchedMLP
from sciviz.kan.training import Function, train
from sciviz.lab.checks import check_int
from sciviz.lab.results import ClaimResult, dataset, variable


def solution(X: Tensor) -> Tensor:
    """Return u = sin(πx) sin(πy), which solves Δu = -2π² u with u = 0 around [-1, 1]².

    >>> round(float(solution(torch.tensor([[0.5, 0.5]]))), 6)
    1.0
    """
    return torch.sin(math.pi * X[..., :1]) * torch.sin(math.pi * X[..., 1:2])


def residual(function: Function, X: Tensor, is_boundary: Tensor) -> Tensor:
    """Return Δu + 2π² sin(πx) sin(πy) inside, and u, made as large as what is inside, on the boundary."""
    x = X.detach().requires_grad_()
    u = function(x)
    slope = torch.autograd.grad(u.sum(), x, create_graph=True)[0]
    curvature = sum(
        torch.autograd.grad(slope[..., axis].sum(), x, create_graph=True)[0][..., axis : axis + 1] for axis in range(2)
    )
    inside = curvature + 2 * math.pi**2 * solution(X)
    # The boundary's weight is that of a solution with one wave: of the size of 2π².
    return torch.where(is_boundary > 0, 2 * math.pi**2 * u, inside)


def poisson_equation(
    *,
    seed: int,
    num_seeds: int = 5,
    num_inside: int = 200,
    num_steps: int = 40,
    mlp_steps: int = 80,
    cells: Sequence[int] = (5,),
) -> xr.Dataset:
    """Solve Poisson's equation by a KAN and by a perceptron of at least as many parameters, both by Levenberg-Marquardt.

    Parameters
    ----------
    num_inside
        Collocation points inside; a quarter as many lie on the boundary.
    num_steps, mlp_steps
        Steps of either network; a step of the perceptron costs less, so that it may take more in the same time.
    cells
        Grid cells of the KAN [2, 5, 1], of order 4: its second derivatives must themselves be smooth.

    Returns
    -------
    xr.Dataset
        `error` (network, cells, seed), relative L2 error of u on a fine grid; `parameters` (network, cells); `u` (network,
        vertical, horizontal) of the first seed and last grid, with `truth`.
    """
    check_int(1, num_seeds=num_seeds, num_inside=num_inside, num_steps=num_steps, mlp_steps=mlp_steps)
    kan_seed, mlp_seed, data_seed = sub_seeds(seed, 3)
    line = torch.linspace(-1, 1, max(2, num_inside // 16), dtype=torch.float64)
    one = torch.ones_like(line)
    around = [torch.stack(side, 1) for side in ((line, one), (line, -one), (one, line), (-one, line))]
    X = torch.cat([design_points(num_inside, 2, seed=data_seed), *around])
    is_boundary = (torch.arange(len(X))[:, None] >= num_inside).double()
    fine = torch.linspace(-1, 1, 41, dtype=torch.float64)
    T = torch.cartesian_prod(fine, fine)
    truth = solution(T)
    errors = np.zeros((2, len(cells), num_seeds))
    sizes = np.zeros((2, len(cells)), dtype=int)
    pictures = []
    for place, num_cells in enumerate(cells):
        kan = KAN([2, 5, 1], seed=kan_seed, num_cells=num_cells, order=4, members=num_seeds, dtype=torch.float64)
        kan.follow(X, blend=1.0, inputs=False)
        size = kan.num_active()
        mlp = BatchedMLP(mlp_widths(size, 3), seed=mlp_seed, members=num_seeds, dtype=torch.float64)
        for row, model, steps in ((0, kan, num_steps), (1, mlp, mlp_steps)):
            follow = (3, 8) if row == 0 else ()
            train(
                model, X, is_boundary, num_steps=steps, residual=residual, damping=DAMPING, follow=follow, blend=1.0,
                follow_inputs=False,
            )  # fmt: skip
            with torch.no_grad():
                u = model(T)
            errors[row, place] = ((u - truth).square().mean((-2, -1)).sqrt() / truth.square().mean().sqrt()).numpy()
            sizes[row, place] = model.num_active()
            if place == len(cells) - 1:
                pictures.append(u[0, :, 0].view(41, 41).T)
    return dataset(
        "Poisson's equation",
        {
            "network": variable("network", ["KAN", "MLP"], "Network"),
            "cells": variable("cells", list(cells), "Grid cells"),
            "seed": seed_coord(num_seeds),
            "horizontal": variable("horizontal", fine, "x"),
            "vertical": variable("vertical", fine, "y"),
        },
        {
            "error": variable("network cells seed", errors, "Relative L2 error of the solution"),
            "parameters": variable("network cells", sizes, "Parameters"),
            "u": variable("network vertical horizontal", torch.stack(pictures), "Solution u"),
            "truth": variable("vertical horizontal", truth.view(41, 41).T, "Exact solution"),
        },
        num_inside=num_inside,
    )


def poisson_claim(ds: xr.Dataset) -> ClaimResult:
    """`kan-liu/poisson`: at equal numbers of parameters the KAN solves the equation more accurately."""
    last = ds.isel(cells=-1)
    medians = {str(name): float(last.error.sel(network=name).median()) for name in ds.network.values}
    ratio = medians["KAN"] / medians["MLP"]
    return ClaimResult(
        measured={**medians, "ratio": ratio},
        holds=ratio <= 0.1 if ds.sizes["seed"] >= 5 else None,
        criterion="median relative L2 error of the KAN <= 0.1 x that of a perceptron with at least as many parameters, "
        "at least 5 seeds",
        spread=None,
        seeds=ds.sizes["seed"],
    )
