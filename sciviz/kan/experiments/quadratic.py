"""Quadratic neurons: a disc at equal parameters, and depth with and without ReLinear [quadratic-relinear]."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import xarray as xr
from torch import Tensor, nn

from sciviz.kan.counterparts import MLP, Ensemble, count_parameters, match_width
from sciviz.kan.experiments._common import seed_coord, sub_seeds
from sciviz.kan.quadratic import QUADRATIC, QuadraticNetwork
from sciviz.lab.checks import check_int, check_positive
from sciviz.lab.results import ClaimResult, dataset, variable


def disc(X: Tensor) -> Tensor:
    """Return 4 max(0, 1/2 - |x|²) for each row: a bowl turned over on a disc, flat outside.

    >>> disc(torch.tensor([[0.0, 0.0], [1.0, 1.0]])).tolist()
    [2.0, 0.0]
    """
    return 4 * torch.relu(0.5 - X.square().sum(-1))


def _square(num: int, seed: int) -> Tensor:
    return 2 * torch.rand(num, 2, generator=torch.Generator().manual_seed(seed)) - 1


def disc_fit(
    *,
    seed: int,
    num_seeds: int = 5,
    num_parameters: int = 75,
    num_steps: int = 1000,
    lrs: Sequence[float] = (0.03,),
    target: Callable[[Tensor], Tensor] = disc,
    num_train: int = 400,
) -> xr.Dataset:
    """Fit a function on [-1, 1]² with one hidden layer of quadratic, of ReLU and of squaring neurons, at equal size.

    Quadratic networks start at random ("quadratic") or as ReLinear starts them, with quadratic weights a tenth as fast.
    Each network is trained with every learning rate, and the one with the lowest training loss is kept.

    Returns
    -------
    xr.Dataset
        `error` on new points by network and seed, `num_parameters` by network, and `prediction` of each network's best
        seed on a grid beside `signal`.

    >>> ds = disc_fit(seed=0, num_seeds=2, num_steps=5)
    >>> ds.num_parameters.values.tolist()
    [71, 71, 73, 73]
    """
    check_int(1, num_seeds=num_seeds, num_steps=num_steps, num_parameters=num_parameters, num_train=num_train)
    seeds = sub_seeds(seed, num_seeds)
    X, T = _square(num_train, seeds[0]), _square(2000, seeds[0] + 1)
    y, t = target(X), target(T)
    line = torch.linspace(-1, 1, 41)
    grid = torch.cartesian_prod(line, line)
    makers: dict[str, Callable[[int, int], nn.Module]] = {
        "quadratic": lambda w, s: QuadraticNetwork([2, w, 1], start="random", seed=s),
        "quadratic, ReLinear": lambda w, s: QuadraticNetwork([2, w, 1], start="relinear", seed=s),
        "ReLU": lambda w, s: MLP([2, w, 1], "relu", seed=s),
        "squaring": lambda w, s: MLP([2, w, 1], "square", seed=s),
    }
    errors, sizes, pictures = [], [], []
    for name, make in makers.items():
        width = match_width(lambda w, make=make: make(w, 0), num_parameters)  # type: ignore[misc]
        ensemble = Ensemble([make(width, s) for _ in lrs for s in seeds])

        def loss(step: int, weights: Tensor, ensemble: Ensemble = ensemble) -> Tensor:
            return (ensemble(X, weights)[..., 0] - y).square().mean(1)

        scales = dict.fromkeys(QUADRATIC, 0.1) if name.endswith("ReLinear") else None
        rates = torch.tensor(lrs).repeat_interleave(num_seeds)
        losses = ensemble.fit(loss, num_steps=num_steps, lr=rates, scales=scales)[-1].reshape(len(lrs), num_seeds)
        best = torch.nan_to_num(losses, nan=float("inf")).argmin(0) * num_seeds + torch.arange(num_seeds)
        error = torch.nan_to_num((ensemble(T)[..., 0] - t).square().mean(1)[best], nan=1e30)
        errors.append(error)
        sizes.append(count_parameters(make(width, 0)))
        pictures.append(ensemble(grid)[best[int(error.argmin())], :, 0].reshape(41, 41))
    return dataset(
        "A disc, drawn by neurons of several kinds",
        {
            "network": variable("network", list(makers), "neurons", ""),
            "seed": seed_coord(num_seeds),
            "first": variable("first", line, "first input"),
            "second": variable("second", line, "second input"),
        },
        {
            "error": variable("network seed", torch.stack(errors), "mean squared error on new points"),
            "num_parameters": variable("network", sizes, "parameters"),
            "prediction": variable("network first second", torch.stack(pictures), "output of the best network"),
            "signal": variable("first second", target(grid).reshape(41, 41), "target"),
        },
        num_steps=num_steps,
        variance=float(t.var()),
    )


def disc_claim(ds: xr.Dataset) -> ClaimResult:
    """`quadratic-relinear/disc`: at matched parameters quadratic neurons fit a disc better than ReLU or squaring ones."""
    best = {str(n): float(ds.error.sel(network=n).min()) for n in ds.network.values}
    limit = 0.1 * min(best["ReLU"], best["squaring"])
    sizes = ", ".join(str(int(v)) for v in ds.num_parameters.values)
    text = (
        "test error of the best quadratic network at most 0.1 times that of the best ReLU or squaring one, best of "
        f"{ds.sizes['seed']} seeds each; parameters {sizes}"
    )
    enough = ds.sizes["seed"] >= 3 and best["ReLU"] < 0.5 * float(ds.attrs["variance"])
    return ClaimResult(best, best["quadratic"] <= limit if enough else None, text, None, ds.sizes["seed"])


def deep_training(
    *,
    seed: int,
    num_seeds: int = 5,
    depth: int = 8,
    width: int = 16,
    num_steps: int = 200,
    lr: float = 0.01,
    damping: float = 0.01,
    num_train: int = 200,
) -> xr.Dataset:
    """Train deep quadratic networks on the disc, from a random start and as ReLinear does.

    Returns
    -------
    xr.Dataset
        `relative_error`, training error by the target's variance (1e30 where it is not finite), and `start_error`, the
        same before training, by start and seed; `history` along `step`.

    >>> ds = deep_training(seed=0, num_seeds=2, depth=2, num_steps=3)
    >>> ds.start.values.tolist()
    ['random', 'ReLinear']
    """
    check_int(1, num_seeds=num_seeds, depth=depth, width=width, num_steps=num_steps, num_train=num_train)
    check_positive(lr=lr, damping=damping)
    seeds = sub_seeds(seed, num_seeds)
    X = _square(num_train, seeds[0])
    y = disc(X)
    every = max(1, num_steps // 20)
    finals, starts, histories = [], [], []
    for start, scales in (("random", None), ("relinear", dict.fromkeys(QUADRATIC, damping))):
        ensemble = Ensemble([QuadraticNetwork([2, *[width] * depth, 1], start=start, seed=s) for s in seeds])

        def loss(step: int, weights: Tensor, ensemble: Ensemble = ensemble) -> Tensor:
            return (ensemble(X, weights)[..., 0] - y).square().mean(1)

        losses = ensemble.fit(loss, num_steps=num_steps, lr=lr, scales=scales, record_every=every) / y.var()
        losses = torch.nan_to_num(losses, nan=1e30, posinf=1e30).clamp_max(1e30)
        finals.append(losses[-1])
        starts.append(losses[0])
        histories.append(losses.T)
    steps = list(range(0, num_steps, every))
    steps += [num_steps - 1] if steps[-1] != num_steps - 1 else []
    return dataset(
        "Eight quadratic layers",
        {
            "start": variable("start", ["random", "ReLinear"], "start", ""),
            "seed": seed_coord(num_seeds),
            "step": variable("step", steps, "training step"),
        },
        {
            "relative_error": variable("start seed", torch.stack(finals), "error after training by the variance"),
            "start_error": variable("start seed", torch.stack(starts), "error before training by the variance"),
            "history": variable("start seed step", torch.stack(histories), "error / target's variance"),
        },
        depth=depth,
        width=width,
        num_steps=num_steps,
    )


def deep_claim(ds: xr.Dataset) -> ClaimResult:
    """`quadratic-relinear/depth`: deep quadratic networks fail under plain training; ReLinear's do not."""
    failed = {str(s): float((ds.relative_error.sel(start=s) >= 0.9).mean()) for s in ds.start.values}
    measured = {f"{s}: share of seeds that failed": share for s, share in failed.items()}
    text = (
        f"of networks with {ds.attrs['depth']} hidden layers at least 4 of 5 fail from a random start and none with ReLinear; "
        f"failed is an error that is not finite or at least 0.9 of the target's variance, {ds.sizes['seed']} seeds"
    )
    enough = ds.sizes["seed"] >= 3 and ds.attrs["depth"] >= 6 and ds.attrs["num_steps"] >= 100
    holds = failed["random"] >= 0.8 and failed["ReLinear"] == 0 if enough else None
    return ClaimResult(measured, holds, text, None, ds.sizes["seed"])
