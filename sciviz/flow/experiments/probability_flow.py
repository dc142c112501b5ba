"""How the error of deterministic sampling falls with its steps, for Gaussian data and four noise schedules."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from sciviz.flow.probability_flow import (
    NOISE_SCHEDULES,
    AxisLaw,
    axis_distance,
    exact_law,
    noise_schedule,
    sampler_law,
)
from sciviz.lab.checks import check_int
from sciviz.lab.results import ClaimResult, dataset, log_log_slope, variable

__all__ = [
    "sampling_steps",
    "sampling_steps_claim",
    "score_error_claim",
    "step_slopes",
]


def _random_laws(seed: int, num_seeds: int, dimension: int) -> tuple[AxisLaw, AxisLaw]:
    """Return Gaussians whose variances spread from 0.2 to 2, and a direction of unit size for the score's error."""
    generator = torch.Generator().manual_seed(seed)

    def normal() -> Tensor:
        return torch.randn(num_seeds, dimension, generator=generator, dtype=torch.float64)

    uniform = torch.rand(num_seeds, dimension, generator=generator, dtype=torch.float64)
    data = AxisLaw(normal(), (0.2 * 10**uniform).sqrt())
    both = torch.cat([normal(), normal()], dim=1)
    offset, slope = (both / both.norm(dim=1, keepdim=True)).chunk(2, dim=1)
    return data, AxisLaw(offset, slope)


def sampling_steps(
    *,
    seed: int,
    num_seeds: int = 5,
    dimension: int = 8,
    schedules: Sequence[str] = tuple(NOISE_SCHEDULES),
    num_steps: Sequence[int] = (32, 64, 128, 256, 512, 1024),
    score_errors: Sequence[float] = (0.01, 0.1),
    integrator: str = "exponential",
    data: AxisLaw | None = None,
) -> xr.Dataset:
    """Measure in closed form how far a K-step sampler ends from the exact flow, from the data, and under a wrong score.

    Parameters
    ----------
    data
        Gaussians of one's own, mean and standard deviation of shape (seed, d); by default random ones.

    Returns
    -------
    xr.Dataset
        W2 distances: `discretisation` (schedule, seed, num_steps) between the laws after K steps and of the exact flow,
        `total` between the law after K steps and the data, `initialisation` (schedule, seed) between the exact flow's
        law and the data, and `shift` (schedule, seed, score_error) that an error of the score makes, at the most steps.

    >>> ds = sampling_steps(seed=0, num_seeds=2, num_steps=(8, 16))
    >>> bool((ds.discretisation[..., 1] < ds.discretisation[..., 0]).all())
    True
    """
    check_int(1, num_seeds=num_seeds, dimension=dimension, number_of_step_counts=len(num_steps))
    law, direction = _random_laws(seed, num_seeds, dimension)
    if data is not None:
        law = data
        num_seeds, dimension = law.mean.shape
        direction = _random_laws(seed, num_seeds, dimension)[1]
    found: dict[str, list[Tensor]] = {"discretisation": [], "total": [], "initialisation": [], "shift": []}
    for name in schedules:
        schedule = noise_schedule(name)
        exact = exact_law(law, schedule)
        reached = [sampler_law(law, schedule, k, integrator=integrator) for k in num_steps]
        wrong = [
            sampler_law(law, schedule, max(num_steps), integrator=integrator, score_error=error, direction=direction)
            for error in score_errors
        ]
        best = reached[int(np.argmax(num_steps))]
        found["discretisation"].append(torch.stack([axis_distance(one, exact) for one in reached], dim=-1))
        found["total"].append(torch.stack([axis_distance(one, law) for one in reached], dim=-1))
        found["initialisation"].append(axis_distance(exact, law))
        found["shift"].append(torch.stack([axis_distance(one, best) for one in wrong], dim=-1))
    values = {name: torch.stack(parts) for name, parts in found.items()}
    return dataset(
        "Steps of a probability-flow sampler",
        {
            "schedule": variable("schedule", list(schedules), "noise schedule", ""),
            "seed": variable("seed", np.arange(num_seeds), "draw of the Gaussian"),
            "num_steps": variable("num_steps", list(num_steps), "solver steps"),
            "score_error": variable("score_error", list(score_errors), "root mean square error of the score"),
        },
        {
            "discretisation": variable(
                "schedule seed num_steps", values["discretisation"], "W2 distance from the exact flow's law"
            ),
            "total": variable("schedule seed num_steps", values["total"], "W2 distance from the data"),
            "initialisation": variable("schedule seed", values["initialisation"], "W2 distance that the start leaves"),
            "shift": variable("schedule seed score_error", values["shift"], "W2 shift by the score's error"),
        },
        integrator=integrator,
        dimension=dimension,
    )


def step_slopes(ds: xr.Dataset) -> xr.DataArray:
    """Return the slope of log steps against log 1/W2, by schedule and seed: 1 means steps scale like inverse accuracy."""
    slopes = [
        [
            log_log_slope(1 / ds.discretisation.sel(schedule=name, seed=draw).values, ds["num_steps"].values)
            for draw in ds.seed.values
        ]
        for name in ds.schedule.values
    ]
    return xr.DataArray(
        slopes,
        dims=("schedule", "seed"),
        coords={"schedule": ds.schedule, "seed": ds.seed},
        attrs={"long_name": "slope of log steps against log inverse error", "units": "1"},
    )


def sampling_steps_claim(ds: xr.Dataset) -> ClaimResult:
    """`pf-ode-wasserstein/steps`: steps scale like inverse accuracy, for each schedule."""
    slopes = step_slopes(ds)
    enough = ds.sizes["seed"] >= 3 and ds.sizes["num_steps"] >= 3
    holds = bool(((slopes >= 0.8) & (slopes <= 1.2)).all()) if enough else None
    text = (
        f"slope of log K against log 1/W2(K-step law, exact flow's law) in [0.8, 1.2] for each of "
        f"{ds.sizes['schedule']} schedules and each of {ds.sizes['seed']} Gaussians, K = {int(ds['num_steps'].min())} to "
        f"{int(ds['num_steps'].max())}, first-order {ds.attrs['integrator']} steps"
    )
    measured = {str(name): float(slopes.sel(schedule=name).mean()) for name in ds.schedule.values}
    spread = f"{float(slopes.min()):.3f} to {float(slopes.max()):.3f}"
    return ClaimResult(measured, holds, text, spread, ds.sizes["seed"])


def score_error_claim(ds: xr.Dataset) -> ClaimResult:
    """`pf-ode-wasserstein/score-error`: a ten times larger error of the score shifts the law ten times as far."""
    pair = (0.01, 0.1)
    if not set(pair) <= set(ds.score_error.values.tolist()):
        return ClaimResult({}, None, "needs score errors 0.01 and 0.1", None, ds.sizes["seed"])
    ratios = ds["shift"].sel(score_error=0.1) / ds["shift"].sel(score_error=0.01)
    holds = bool(((ratios >= 9) & (ratios <= 11)).all()) if ds.sizes["seed"] >= 3 else None
    text = (
        f"W2 shift at score error 0.1 over shift at 0.01 in [9, 11] for each of {ds.sizes['schedule']} schedules and each "
        f"of {ds.sizes['seed']} Gaussians; the error is a random affine function of root mean square 0.1 or 0.01"
    )
    measured = {str(name): float(ratios.sel(schedule=name).mean()) for name in ds.schedule.values}
    spread = f"{float(ratios.min()):.2f} to {float(ratios.max()):.2f}"
    return ClaimResult(measured, holds, text, spread, ds.sizes["seed"])
