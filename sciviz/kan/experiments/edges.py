"""One edge, and the theorem's limits: splines fitted to curves of one variable, and the bases that they are sums of."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from sciviz.kan import splines
from sciviz.kan.bases import BASES
from sciviz.kan.networks import KAN
from sciviz.kan.symbolic import edge_curve
from sciviz.lab.checks import check_choice, check_int
from sciviz.lab.results import dataset, variable

CURVES: dict[str, Callable[[Tensor], Tensor]] = {
    "wave": lambda x: torch.sin(3 * math.pi * x) * torch.exp(-x.square()),
    "bump": lambda x: torch.exp(-40 * (x - 0.3).square()) + 0.3 * x,
    "kink": torch.abs,
    "step": lambda x: torch.sign(x - 0.1),
}
"""What the one-dimensional fits approximate: smooth, local, not differentiable, not continuous."""


def spline_fit(
    *,
    num_cells: int = 8,
    order: int = 3,
    curve: str = "wave",
    num_points: int = 200,
    extrapolation: str = "linear",
    reach: float = 1.3,
    function: Callable[[Tensor], Tensor] | None = None,
) -> xr.Dataset:
    """Fit a spline to a curve on [-1, 1] by least squares, and return it with the weighted bases that it is the sum of.

    Parameters
    ----------
    curve
        A key of `CURVES`.
    reach
        How far from zero the drawn positions go; beyond 1 the spline extrapolates.
    function
        A curve of your own in place of `curve`.

    Returns
    -------
    xr.Dataset
        `target`, `fit` (position) and `part` (basis, position); `knot` (knot), the inner ones; `rmse` on the fitted points.

    >>> ds = spline_fit(num_cells=4, order=1)
    >>> bool(abs(ds.part.sum("basis") - ds.fit).max() < 1e-6)
    True
    """
    check_int(1, num_cells=num_cells, num_points=num_points)
    check_choice(CURVES, curve=curve)
    target = function or CURVES[curve]
    basis = BASES["bspline"](1, num_cells=num_cells, order=order, extrapolation=extrapolation).double()
    x = torch.linspace(-1, 1, num_points, dtype=torch.float64)[:, None]
    coef = splines.fit_coefficients(basis.values(x)[:, 0], target(x))
    position = torch.linspace(-reach, reach, 521, dtype=torch.float64)[:, None]
    parts = basis.values(position)[:, 0] * coef[:, 0]
    error = (basis.values(x)[:, 0] @ coef - target(x)).square().mean().sqrt()
    knots = basis.knots[0, order : order + num_cells + 1]  # type: ignore[index]
    return dataset(
        "A spline and its bases",
        {
            "position": variable("position", position[:, 0], "Input x"),
            "basis": variable("basis", np.arange(parts.shape[1]), "Basis"),
            "knot": variable("knot", knots, "Knot"),
        },
        {
            "target": variable("position", target(position)[:, 0], "Target"),
            "fit": variable("position", parts.sum(1), "Spline"),
            "part": variable("basis position", parts.T, "Weighted basis"),
            "rmse": variable((), error, "Error on the grid (RMSE)"),
        },
        order=order,
        num_cells=num_cells,
        extrapolation=extrapolation,
    )


def order_of_convergence(
    *, orders: Sequence[int] = (0, 1, 2, 3, 5), cells: Sequence[int] = (4, 8, 16, 32, 64), num_points: int = 1000
) -> xr.Dataset:
    """Measure how the error of a spline falls with the number of cells: like cells^-(order + 1) for a smooth curve.

    >>> ds = order_of_convergence(orders=(1,), cells=(8, 16, 32))
    >>> bool(abs(ds.slope[0] + 2) < 0.2)
    True
    """
    errors = np.array(
        [[float(spline_fit(num_cells=n, order=k, num_points=num_points).rmse) for n in cells] for k in orders]
    )
    half = len(cells) // 2
    slopes = [np.polyfit(np.log(cells[half:]), np.log(row[half:]), 1)[0] for row in errors]
    return dataset(
        "Spline error against cells",
        {"order": variable("order", list(orders), "Order"), "cells": variable("cells", list(cells), "Grid cells")},
        {
            "rmse": variable("order cells", errors, "Error of the spline (RMSE)"),
            "slope": variable("order", slopes, "Slope of log error against log cells"),
        },
    )


def network_graph(
    model: KAN,
    X: Tensor,
    *,
    importance: Sequence[Tensor] | None = None,
    inputs: Sequence[str] = (),
    num_points: int = 41,
) -> xr.Dataset:
    """Return the curves of all edges of a network on data, as a list of edges.

    Returns
    -------
    xr.Dataset
        By edge: `layer`, `source`, `target` (node numbers), `score`, `form` ("" while learnt), and the curve as
        `position` and `value` (edge, point).

    >>> ds = network_graph(KAN([2, 1], seed=0), torch.rand(9, 2, generator=torch.Generator().manual_seed(0)))
    >>> ds.sizes["edge"]
    2
    """
    from sciviz.kan.pruning import scores

    found = list(importance) if importance is not None else scores(model, X).edges
    rows, positions, values = [], [], []
    for layer in range(len(model.layers)):
        active, fixed = model[layer].active(), model[layer].fixed_edges()
        for i in range(model.widths[layer]):
            for o in range(model.widths[layer + 1]):
                x, y = edge_curve(model, layer, i, o, X)
                place = torch.linspace(0, len(x) - 1, num_points).round().long()
                positions.append(x[place].double().numpy())
                values.append((y - y.mean())[place].double().numpy())
                form = getattr(fixed.get((i, o)), "name", "") if active[i, o] else "pruned"
                rows.append((layer, i, o, float(found[layer][i, o]), form))
    layer_, source, target, score, form_ = zip(*rows, strict=True)
    names = list(inputs) or [f"x{n + 1}" for n in range(model.widths[0])]
    return dataset(
        "A network's edges",
        {"edge": variable("edge", np.arange(len(rows)), "Edge")},
        {
            "layer": variable("edge", list(layer_), "Layer"),
            "source": variable("edge", list(source), "Node it comes from"),
            "target": variable("edge", list(target), "Node it goes to"),
            "score": variable("edge", list(score), "Importance"),
            "form": variable("edge", np.array(form_, dtype=object), "Form"),
            "position": variable("edge point", np.stack(positions), "Input of the edge"),
            "value": variable("edge point", np.stack(values), "Output of the edge, centred"),
        },
        widths=[int(w) for w in model.widths],
        inputs=names,
    )
