"""Seven functions, fitted by networks with one family of functions and with a choice among four [s-kan]."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
import torch
import xarray as xr
from torch import Tensor, nn

from sciviz.kan.experiments._common import seed_coord, sub_seeds
from sciviz.kan.networks import BatchedMLP
from sciviz.kan.selectable import FAMILIES, SelectableKAN
from sciviz.lab.checks import check_int, check_positive
from sciviz.lab.results import ClaimResult, dataset, paired_interval, variable

Plane = Callable[[Tensor, Tensor], Tensor]

SEVEN: dict[str, Plane] = {
    "exp(sin πx + y²)": lambda x, y: torch.exp(torch.sin(math.pi * x) + y.square()),
    "xy": lambda x, y: x * y,
    "sin 4πx · cos 2πy": lambda x, y: torch.sin(4 * math.pi * x) * torch.cos(2 * math.pi * y),
    "|x + y|": lambda x, y: (x + y).abs(),
    "1/(1 + 10x² + 10y²)": lambda x, y: 1 / (1 + 10 * x.square() + 10 * y.square()),
    "tanh 20(x² + y² - 1/2)": lambda x, y: torch.tanh(20 * (x.square() + y.square() - 0.5)),
    "x³ - 3xy²": lambda x, y: x**3 - 3 * x * y.square(),
}
"""Smooth, wavy, cornered, peaked and steep functions of the plane, each given a variance of one in the experiment."""

_METHODS = ("bspline", "chebyshev", "radial", "fourier", "selectable", "MLP")


def selectable_bases(
    *,
    seed: int,
    num_seeds: int = 5,
    width: int = 5,
    num_steps: int = 400,
    lr: float = 0.02,
    functions: Mapping[str, Plane] | None = None,
    num_train: int = 250,
    num_test: int = 1000,
    select_at: float = 0.5,
) -> xr.Dataset:
    """Fit functions of the plane with KANs of one basis each, with selectable ones, and with an MLP of equal size.

    All networks of a method, every function and every seed, are trained as one batch. Selectable networks train all
    families for a share `select_at` of the steps and one family a node after; their size is that after the selection.

    Returns
    -------
    xr.Dataset
        `error` (root mean squared, on new points, targets of variance one) by function, network and seed,
        `num_parameters` by network, and `share`, how many nodes chose each family, by function.

    >>> ds = selectable_bases(seed=0, num_seeds=2, num_steps=4, functions={"xy": lambda x, y: x * y})
    >>> ds.error.dims, ds.network.values.tolist()[-2:]
    (('function', 'network', 'seed'), ['selectable', 'MLP'])
    """
    check_int(1, num_seeds=num_seeds, width=width, num_train=num_train, num_test=num_test)
    check_int(2, num_steps=num_steps)
    check_positive(lr=lr, select_at=select_at)
    chosen = dict(SEVEN if functions is None else functions)
    if not chosen:
        raise ValueError("functions must not be empty.")
    seeds = sub_seeds(seed, num_seeds)
    generator = torch.Generator().manual_seed(seeds[0])
    points = 2 * torch.rand(num_seeds, num_train + num_test, 2, generator=generator) - 1
    values = torch.stack([f(points[..., 0], points[..., 1]) for f in chosen.values()])
    # Scaled by what is trained on, so that an error of 1 is what predicting the mean costs.
    seen = values[..., :num_train]
    values = (values - seen.mean(-1, keepdim=True)) / seen.std(-1, keepdim=True)
    members = len(chosen) * num_seeds
    points = points.repeat(len(chosen), 1, 1)
    values = values.reshape(members, -1)
    X, T, y, t = points[:, :num_train], points[:, num_train:], values[:, :num_train], values[:, num_train:]

    def train(network: nn.Module, is_kan: bool, selects: bool) -> None:
        optimizer = torch.optim.Adam(network.parameters(), lr=lr)
        for step in range(num_steps):
            if is_kan and step in (5, num_steps // 12, num_steps // 6, num_steps // 3):
                assert isinstance(network, SelectableKAN)
                network.follow(X)
            if selects and step == int(select_at * num_steps):
                assert isinstance(network, SelectableKAN)
                network.select()
            optimizer.param_groups[0]["lr"] = lr * (1 + math.cos(math.pi * step / num_steps)) / 2
            optimizer.zero_grad()
            loss = (network(X)[..., 0] - y).square().mean(1).sum()
            loss.backward()
            optimizer.step()

    errors: list[Tensor] = []
    sizes: list[int] = []
    share = torch.zeros(len(chosen), len(FAMILIES))
    for method in _METHODS:
        network: SelectableKAN | BatchedMLP
        if method == "MLP":
            network = _matched_mlp(sizes[0], members, seeds[0])
        else:
            families = FAMILIES if method == "selectable" else {method: FAMILIES[method]}
            network = SelectableKAN([2, width, 1], seed=seeds[0], families=families, members=members)
        train(network, method != "MLP", method == "selectable")
        with torch.no_grad():
            error = (network(T)[..., 0] - t).square().mean(1).sqrt()
        errors.append(torch.nan_to_num(error, nan=1e6).reshape(len(chosen), num_seeds))
        sizes.append(network.num_active())
        if method == "selectable":
            assert isinstance(network, SelectableKAN)
            used = torch.cat([part.chosen for part in network._parts()], -1)
            share = used.reshape(len(chosen), num_seeds, len(FAMILIES), -1).mean((1, 3))
    return dataset(
        "Networks that choose their functions",
        {
            "function": variable("function", list(chosen), "function", ""),
            "network": variable("network", list(_METHODS), "network", ""),
            "seed": seed_coord(num_seeds),
            "family": variable("family", list(FAMILIES), "family of functions", ""),
        },
        {
            "error": variable("function network seed", torch.stack(errors, 1), "root mean squared error on new points"),
            "num_parameters": variable("network", sizes, "parameters"),
            "share": variable("function family", share, "share of nodes that chose the family"),
        },
        width=width,
        num_steps=num_steps,
    )


def _matched_mlp(num_parameters: int, members: int, seed: int) -> BatchedMLP:
    """An MLP with two hidden layers and as near a number of parameters as its width allows."""
    width = min(range(1, 200), key=lambda w: abs(w * w + 5 * w + 1 - num_parameters))
    return BatchedMLP([2, width, width, 1], seed=seed, members=members)


def _log_means(ds: xr.Dataset) -> xr.DataArray:
    """The mean logarithm of the error over functions, by network and seed: of it a geometric mean is made."""
    result: xr.DataArray = np.log(ds.error.clip(min=1e-12)).mean("function")
    return result


def selectable_claim(ds: xr.Dataset) -> ClaimResult:
    """`s-kan/selectable`: choosing among families gives a lower geometric-mean error than any one of them."""
    logs = _log_means(ds)
    singles = [m for m in ds.network.values if m not in ("selectable", "MLP")]
    best = str(logs.sel(network=singles).mean("seed").idxmin("network").item())
    difference = (logs.sel(network="selectable") - logs.sel(network=best)).values
    return _ratio_claim(ds, difference, 0.9, f"that of the best single basis ({best})", len(ds.function))


def selectable_mlp_claim(ds: xr.Dataset) -> ClaimResult:
    """`s-kan/mlp`: selectable networks have a lower geometric-mean error than an MLP of equal size."""
    logs = _log_means(ds)
    difference = (logs.sel(network="selectable") - logs.sel(network="MLP")).values
    return _ratio_claim(ds, difference, 0.7, "that of an MLP of equal size", len(ds.function))


def _ratio_claim(ds: xr.Dataset, difference: np.ndarray, limit: float, other: str, num: int) -> ClaimResult:
    ratio = float(np.exp(difference.mean()))
    text = (
        f"geometric mean over {num} functions of the error at most {limit:g} times {other}, the 95% interval over "
        f"{ds.sizes['seed']} seeds on one side of it; {int(ds.num_parameters[0])} parameters"
    )
    if ds.sizes["seed"] < 3 or num < 3 or ds.attrs["num_steps"] < 200:
        return ClaimResult(ratio, None, text, None, ds.sizes["seed"])
    interval = paired_interval(difference)
    above = interval.above(math.log(limit))
    spread = f"95% interval {math.exp(interval.low):.2f} to {math.exp(interval.high):.2f}"
    return ClaimResult(ratio, None if above is None else not above, text, spread, ds.sizes["seed"])


def worst_case_claim(ds: xr.Dataset) -> ClaimResult:
    """`s-kan/never-badly`: each single basis fails badly on some function, selectable networks on none."""
    median = ds.error.median("seed")
    worst = {
        str(m): float((median.sel(network=m) / median.min("network")).max()) for m in ds.network.values if m != "MLP"
    }
    text = (
        "the largest ratio of its median error to the best method's, over the functions, is smaller for selectable networks "
        f"than for every single basis; {ds.sizes['seed']} seeds"
    )
    enough = ds.sizes["seed"] >= 3 and ds.sizes["function"] >= 3 and ds.attrs["num_steps"] >= 200
    holds = worst["selectable"] < min(v for m, v in worst.items() if m != "selectable") if enough else None
    return ClaimResult(worst, holds, text, None, ds.sizes["seed"])
