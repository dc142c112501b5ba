"""Sums and products of selected inputs, learnt on a small range and asked on a larger one [nau-nmu]."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import xarray as xr
from torch import Tensor, nn

from sciviz.kan.arithmetic import NAU, NMU, AddMultiply, integer_distance
from sciviz.kan.counterparts import MLP, Ensemble
from sciviz.kan.experiments._common import seed_coord, sub_seeds
from sciviz.lab.checks import check_int, check_positive
from sciviz.lab.results import ClaimResult, dataset, variable

TASKS = ("sum", "product", "product of sums")


def _target(task: str, X: Tensor) -> Tensor:
    if task == "sum":
        return X[..., 0] + X[..., 1] - X[..., 2] + X[..., 3]
    if task == "product":
        return X[..., 0] * X[..., 1] * X[..., 2]
    return (X[..., 0] + X[..., 1]) * (X[..., 2] + X[..., 3])


def _unit(task: str, num_inputs: int, seed: int) -> nn.Module:
    generator = torch.Generator().manual_seed(seed)
    if task == "product of sums":
        return AddMultiply(num_inputs, generator=generator)
    return (NAU if task == "sum" else NMU)(num_inputs, 1, generator=generator)


def arithmetic_extrapolation(
    *,
    seed: int,
    num_seeds: int = 5,
    num_inputs: int = 10,
    train_range: Sequence[float] = (1.0, 2.0),
    test_range: Sequence[float] = (2.0, 6.0),
    num_steps: int = 1200,
    width: int = 32,
    lr: float = 0.05,
    mlp_lr: float = 0.01,
    strength: float = 1.0,
    batch_size: int = 64,
) -> xr.Dataset:
    """Learn x₁ + x₂ - x₃ + x₄, x₁x₂x₃ and (x₁ + x₂)(x₃ + x₄) from ten inputs, with arithmetic units and a ReLU MLP.

    The first task is given to a NAU, the second to a NMU, the third to a NAU followed by a NMU. The pull towards whole
    numbers sets in after 40% of the steps and has its full `strength` after 80%.

    Returns
    -------
    xr.Dataset
        `error` (on `test_range`) and `train_error` (on `train_range`) by task, network and seed; `distance`, the largest
        distance of the units' weights from whole numbers, and `weight` of the first unit, by task and seed.

    >>> ds = arithmetic_extrapolation(seed=0, num_seeds=2, num_steps=5)
    >>> ds.error.dims, ds.weight.sizes["input"]
    (('task', 'network', 'seed'), 10)
    """
    check_int(1, num_seeds=num_seeds, num_steps=num_steps, width=width, batch_size=batch_size)
    check_int(4, num_inputs=num_inputs)
    check_positive(lr=lr, mlp_lr=mlp_lr)
    seeds = sub_seeds(seed, num_seeds)

    def draw(limits: Sequence[float], num: int, generator: torch.Generator) -> Tensor:
        low, high = limits
        return low + (high - low) * torch.rand(num_seeds, num, num_inputs, generator=generator)

    tests = [draw(limits, 1000, torch.Generator().manual_seed(seeds[0] + 1)) for limits in (train_range, test_range)]
    errors: list[Tensor] = []
    distances, weights_found = [], []
    for task in TASKS:
        units = Ensemble([_unit(task, num_inputs, s) for s in seeds])
        mlps = Ensemble([MLP([num_inputs, width, 1], "relu", seed=s) for s in seeds])
        # NMU weights live in [0, 1], NAU weights in [-1, 1].
        low = -units.spread({"multiply": 0.0}) if task != "product" else torch.zeros_like(units.weights[:1])
        for ensemble, rate, exact in ((units, lr, True), (mlps, mlp_lr, False)):
            generator = torch.Generator().manual_seed(seeds[0])

            def loss(
                step: int,
                weights: Tensor,
                ensemble: Ensemble = ensemble,
                exact: bool = exact,
                generator: torch.Generator = generator,
                task: str = task,
            ) -> Tensor:
                X = draw(train_range, batch_size, generator)
                result = (ensemble(X, weights)[..., 0] - _target(task, X)).square().mean(1)
                if exact:
                    ramp = min(max((step / num_steps - 0.4) / 0.4, 0.0), 1.0)
                    result = result + strength * ramp * integer_distance(weights).mean(1)
                return result

            def clip(weights: Tensor, low: Tensor = low) -> None:
                weights.copy_(weights.clamp(max=1.0).maximum(low))

            after: Callable[[Tensor], None] | None = clip if exact else None
            ensemble.fit(loss, num_steps=num_steps, lr=rate, after=after)
            for X in tests:
                errors.append((ensemble(X)[..., 0] - _target(task, X)).square().mean(1))
        distances.append(integer_distance(units.weights).amax(1))
        weights_found.append(units.weights[:, :num_inputs])
    table = torch.stack(errors).reshape(len(TASKS), 2, 2, num_seeds)
    dims = "task network seed"
    return dataset(
        "Arithmetic beyond the range it was learnt on",
        {
            "task": variable("task", list(TASKS), "task", ""),
            "network": variable("network", ["arithmetic unit", "ReLU MLP"], "network", ""),
            "seed": seed_coord(num_seeds),
            "input": variable("input", list(range(1, num_inputs + 1)), "input"),
        },
        {
            "train_error": variable(dims, table[:, :, 0], "mean squared error on the range of training"),
            "error": variable(dims, table[:, :, 1], "mean squared error on the larger range"),
            "distance": variable(
                "task seed", torch.stack(distances), "largest distance of a weight from a whole number"
            ),
            "weight": variable("task seed input", torch.stack(weights_found), "weight of the first unit"),
        },
        train_range=f"{train_range[0]:g} to {train_range[1]:g}",
        test_range=f"{test_range[0]:g} to {test_range[1]:g}",
        num_steps=num_steps,
    )


def single_units_claim(ds: xr.Dataset) -> ClaimResult:
    """`nau-nmu/exact`: single units become exact and extrapolate."""
    chosen = ds.sel(task=["sum", "product"])
    ratio = chosen.error.sel(network="arithmetic unit") / chosen.error.sel(network="ReLU MLP")
    good = (ratio <= 1e-3) & (chosen.distance <= 0.01)
    shares = {str(t): float(good.sel(task=t).mean()) for t in good.task.values}
    text = (
        "extrapolation error at most 1e-3 times that of a ReLU MLP and every weight within 0.01 of a whole number, in at "
        f"least 4 of 5 seeds, for a NAU on a sum and a NMU on a product; trained on {ds.attrs['train_range']}, asked on "
        f"{ds.attrs['test_range']}, {ds.sizes['seed']} seeds"
    )
    enough = ds.sizes["seed"] >= 3 and ds.attrs["num_steps"] >= 500
    worst = {str(t): float(ratio.sel(task=t).max()) for t in ratio.task.values}
    spread = "largest ratio " + ", ".join(f"{name} {value:.1g}" for name, value in worst.items())
    measured = {f"{name}: share of seeds exact": share for name, share in shares.items()}
    return ClaimResult(measured, bool(min(shares.values()) >= 0.8) if enough else None, text, spread, ds.sizes["seed"])


def composite_claim(ds: xr.Dataset) -> ClaimResult:
    """`nau-nmu/composite`: units in series do not become exact as reliably as single ones."""
    chosen = ds.sel(task="product of sums")
    exact = float((chosen.distance <= 0.01).where(chosen.error.sel(network="arithmetic unit") < 1e-3, False).mean())
    fits = float((chosen.train_error.sel(network="arithmetic unit") < 0.05 * 2.0).mean())
    text = (
        "a NAU followed by a NMU learns (x1 + x2)(x3 + x4) exactly (extrapolation error below 1e-3, weights within 0.01 of "
        f"whole numbers) in at least 4 of 5 seeds; {ds.sizes['seed']} seeds"
    )
    enough = ds.sizes["seed"] >= 3 and ds.attrs["num_steps"] >= 500
    return ClaimResult(
        {"share of seeds exact": exact, "share with a small error in training": fits},
        exact >= 0.8 if enough else None,
        text,
        None,
        ds.sizes["seed"],
    )
