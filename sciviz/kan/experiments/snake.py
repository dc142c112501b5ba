"""A periodic signal continued beyond the training interval: ReLU, tanh and Snake [snake-periodic]."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from sciviz.kan.counterparts import MLP, Ensemble
from sciviz.kan.experiments._common import seed_coord, sub_seeds
from sciviz.lab.checks import check_int, check_positive
from sciviz.lab.results import ClaimResult, dataset, variable


def periodic_extrapolation(
    *,
    seed: int,
    num_seeds: int = 5,
    frequencies: Sequence[float] = (0.5, 1.0, 3.0, 10.0),
    signal: Callable[[Tensor], Tensor] | None = None,
    reach: float = 2.0,
    width: int = 64,
    num_steps: int = 1000,
    lr: float = 0.01,
    num_points: int = 100,
) -> xr.Dataset:
    """Fit a signal on [-reach, reach] with one hidden layer, and measure the error from there to twice as far out.

    All networks have the same width and the same training. Snake's a is fixed in each; `frequencies` are tried side by
    side.

    Parameters
    ----------
    signal
        Tensor → tensor of the same shape; sin(πx) if None.

    Returns
    -------
    xr.Dataset
        `train_error` and `error` (beyond the interval) by network and seed, `prediction` of the first seed along
        `position` beside `target`, and `zero_error`, what predicting zero beyond the interval would cost.

    >>> ds = periodic_extrapolation(seed=0, num_seeds=2, frequencies=(3.0,), num_steps=5)
    >>> ds.network.values.tolist(), ds.error.dims
    (['ReLU', 'tanh', 'Snake, a = 3'], ('network', 'seed'))
    """
    check_int(1, num_seeds=num_seeds, width=width, num_steps=num_steps)
    check_int(2, num_points=num_points)
    check_positive(reach=reach, lr=lr, **{f"frequencies[{i}]": a for i, a in enumerate(frequencies)})
    wave = (lambda x: torch.sin(math.pi * x)) if signal is None else signal
    line = torch.linspace(-2 * reach, 2 * reach, 4 * num_points + 1)
    outside = line.abs() > reach
    X = torch.linspace(-reach, reach, num_points)[:, None]
    y, target = wave(X), wave(line)
    seeds = sub_seeds(seed, num_seeds)
    names = ["ReLU", "tanh", *[f"Snake, a = {a:g}" for a in frequencies]]
    sizes = [1, width, 1]
    train, errors, curves = [], [], []
    batches = [[MLP(sizes, kind, seed=s) for s in seeds] for kind in ("relu", "tanh")]
    batches.append([MLP(sizes, "snake", seed=s, a=a) for a in frequencies for s in seeds])
    for networks in batches:
        if not networks:
            continue
        ensemble = Ensemble(networks)

        def loss(step: int, weights: Tensor, ensemble: Ensemble = ensemble) -> Tensor:
            return (ensemble(X, weights) - y).square().mean((1, 2))

        losses = ensemble.fit(loss, num_steps=num_steps, lr=lr)[-1]
        values = ensemble(line[:, None])[..., 0]
        train.append(losses.reshape(-1, num_seeds))
        errors.append((values - target)[:, outside].square().mean(1).reshape(-1, num_seeds))
        curves.append(values.reshape(-1, num_seeds, len(line))[:, 0])
    return dataset(
        "A wave beyond the interval it was learnt on",
        {
            "network": variable("network", names, "activation", ""),
            "seed": seed_coord(num_seeds),
            "position": variable("position", line, "input x"),
        },
        {
            "train_error": variable("network seed", torch.cat(train), "mean squared error on the interval"),
            "error": variable("network seed", torch.cat(errors), "mean squared error beyond the interval"),
            "prediction": variable("network position", torch.cat(curves), "output of the first network"),
            "target": variable("position", target, "signal"),
        },
        reach=reach,
        width=width,
        num_steps=num_steps,
        zero_error=float(target[outside].square().mean()),
    )


def snake_claim(ds: xr.Dataset, a: float = 3.0) -> ClaimResult:
    """`snake-periodic/extrapolates`: Snake continues a sine where ReLU and tanh do not."""
    zero = float(ds.attrs["zero_error"])
    median = ds.error.median("seed")
    name = f"Snake, a = {a:g}"
    text = (
        f"median extrapolation error of Snake with a = {a:g} at most 0.1 times the smaller of ReLU's and tanh's, and at most "
        f"0.5 times that of predicting zero; width {ds.attrs['width']}, {ds.sizes['seed']} seeds"
    )
    if name not in ds.network.values:
        return ClaimResult({"predicting zero": zero}, None, text, None, ds.sizes["seed"])
    snake, best = float(median.sel(network=name)), float(median.sel(network=["ReLU", "tanh"]).min())
    measured = {"Snake": snake, "better of ReLU and tanh": best, "predicting zero": zero}
    enough = ds.sizes["seed"] >= 3 and float(ds.train_error.median()) < 0.01
    holds = snake <= 0.1 * best and snake <= 0.5 * zero if enough else None
    worst = float(ds.error.sel(network=name).max())
    return ClaimResult(measured, holds, text, f"worst seed {worst:.2g}", ds.sizes["seed"])


def frequency_claim(ds: xr.Dataset) -> ClaimResult:
    """`snake-periodic/frequency`: how well Snake does depends on its a; 0.5 or 1 often misses a wave of period 2."""
    limit = 0.5 * float(ds.attrs["zero_error"])
    names = [n for n in ("Snake, a = 0.5", "Snake, a = 1") if n in ds.network.values]
    shares = {n: float((ds.error.sel(network=n) > limit).mean()) for n in names}
    measured = {f"{n.removeprefix('Snake, ')}: share of seeds that miss": share for n, share in shares.items()}
    text = (
        "the worse of a = 0.5 and a = 1 exceeds 0.5 times the error of predicting zero in at least 2 of 5 seeds "
        f"({ds.sizes['seed']} seeds), although its error on the interval stays below 0.01"
    )
    fitted = [n for n in names if float(ds.train_error.sel(network=n).median()) < 0.01]
    enough = len(names) == 2 and len(fitted) == 2 and ds.sizes["seed"] >= 3
    return ClaimResult(measured, bool(max(shares.values()) >= 0.4) if enough else None, text, None, ds.sizes["seed"])


def outside_claim(ds: xr.Dataset) -> ClaimResult:
    """`snake-periodic/others-fail`: ReLU and tanh do worse than predicting zero beyond the interval."""
    zero = float(ds.attrs["zero_error"])
    ratios = {n: float(ds.error.sel(network=n).min()) / zero for n in ("ReLU", "tanh")}
    text = f"error beyond the interval above that of predicting zero in every seed, {ds.sizes['seed']} seeds"
    fitted = bool((ds.train_error.sel(network=["ReLU", "tanh"]).median("seed") < 0.01).all())
    holds = bool(np.min(list(ratios.values())) > 1) if fitted and ds.sizes["seed"] >= 3 else None
    measured = {f"{n}: smallest ratio to predicting zero": value for n, value in ratios.items()}
    return ClaimResult(measured, holds, text, None, ds.sizes["seed"])
