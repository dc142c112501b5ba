"""Grid extension: the training loss falls in steps, as the same functions get finer grids [kan-liu, §2.5, figure 2.3]."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import xarray as xr

from sciviz.kan.experiments._common import seed_coord, sub_seeds
from sciviz.kan.experiments.scaling import Target, best_starts, design_points, draw_points, exp_sin
from sciviz.kan.networks import KAN
from sciviz.kan.training import train
from sciviz.lab.checks import check_int
from sciviz.lab.results import dataset, variable


def grid_extension(
    *,
    seed: int,
    num_seeds: int = 5,
    cells: Sequence[int] = (3, 6, 12, 24, 48, 96),
    num_points: int = 400,
    steps_each: int = 10,
    widths: Sequence[int] = (2, 1, 1),
    target: Target = exp_sin,
) -> xr.Dataset:
    """Train one ensemble, giving it a finer grid again and again, and record the errors of every step.

    Parameters
    ----------
    cells
        Grid cells of each stage.
    target
        A function of points (batch, widths[0]) with values (batch, 1); bring your own.

    Returns
    -------
    xr.Dataset
        `train` and `test` RMSE (seed, step), `cells` and `parameters` (step), `jump` (stage): the largest change that an
        extension made to an edge's function.

    >>> grid_extension(seed=0, num_seeds=2, cells=(3, 6), num_points=50, steps_each=2).sizes["step"]
    6
    """
    check_int(1, num_seeds=num_seeds, num_points=num_points, steps_each=steps_each)
    model_seed, data_seed, test_seed = sub_seeds(seed, 3)
    X, T = design_points(num_points, widths[0], seed=data_seed), draw_points(1000, widths[0], seed=test_seed)
    y, t = target(X), target(T)
    start = KAN(
        list(widths), seed=model_seed, num_cells=cells[0], base=None, members=3 * num_seeds, dtype=torch.float64
    )
    model = best_starts(start, X, y, num_seeds, 12)
    assert isinstance(model, KAN)
    losses, tests, grid, jumps, sizes = [], [], [], [], []
    for stage, num_cells in enumerate(cells):
        jumps.append(model.extend(num_cells, X) if stage else 0.0)
        history = train(model, X, y, num_steps=steps_each, test=(T, t))
        assert history.test_loss is not None
        losses.append(history.loss.sqrt())
        tests.append(history.test_loss.sqrt())
        grid += [num_cells] * (steps_each + 1)
        sizes += [model.num_active()] * (steps_each + 1)
    return dataset(
        "Grid extension",
        {
            "seed": seed_coord(num_seeds),
            "step": variable("step", np.arange(len(grid)), "Step"),
            "stage": variable("stage", list(cells), "Grid cells"),
        },
        {
            "train": variable("seed step", torch.cat(losses).T, "Training error (RMSE)"),
            "test": variable("seed step", torch.cat(tests).T, "Test error (RMSE)"),
            "cells": variable("step", grid, "Grid cells"),
            "parameters": variable("step", sizes, "Parameters"),
            "jump": variable("stage", jumps, "Largest change of an edge by the extension"),
        },
        num_points=num_points,
    )
