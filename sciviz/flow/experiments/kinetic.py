"""How far the straight schedule is from the one of least kinetic energy, by samples and dimension."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from sciviz.flow.schedules import (
    angle_grid,
    kinetic_optimal_schedule,
    separation_function,
    standardise,
    straight_energy,
)
from sciviz.lab.checks import check_int, check_same_length
from sciviz.lab.results import ClaimResult, dataset, variable

__all__ = ["kinetic_gap", "kinetic_gap_claim", "kinetic_paths"]


def _measure(X: Tensor, angle: Tensor, seed: int, num_draws: int) -> tuple[Tensor, dict[str, float]]:
    separation = separation_function(X, torch.tan(angle), num_draws=num_draws, seed=seed)
    best = kinetic_optimal_schedule(angle, separation)
    straight = float(straight_energy(angle, separation))
    # dt of the straight schedule as a share of dθ, so that the mean is over its time.
    time_share = 1 / (torch.sin(angle) + torch.cos(angle)) ** 2
    numbers = {
        "straight_energy": straight,
        "least_energy": best.energy,
        "gap": straight / best.energy - 1,
        "deviation": float(((1 - separation) * time_share).sum() / time_share.sum()),
        "total_angle": best.total_angle,
    }
    return separation, numbers


def kinetic_gap(
    *,
    seed: int,
    num_seeds: int = 5,
    num_samples: Sequence[int] = (200,) * 6,
    dimensions: Sequence[int] = (4, 16, 64, 256, 1000, 4000),
    num_angles: int = 80,
    num_draws: int = 1,
) -> xr.Dataset:
    """Measure the separation function of Gaussian samples and what the straight schedule costs above the least.

    Parameters
    ----------
    num_samples, dimensions
        Sizes of the point sets, pairwise.

    Returns
    -------
    xr.Dataset
        By seed and `case`: `separation` (also by angle), `deviation` of it from one (mean over the time of the straight
        schedule), `straight_energy`, `least_energy`, `gap` = straight/least − 1, and the case's sizes as coordinates.

    >>> ds = kinetic_gap(seed=0, num_seeds=1, num_samples=(20, 20), dimensions=(2, 200), num_angles=20)
    >>> bool((ds.gap[:, 1] < ds.gap[:, 0]).all())
    True
    """
    check_int(1, num_seeds=num_seeds, num_draws=num_draws)
    check_same_length(num_samples=np.asarray(num_samples), dimensions=np.asarray(dimensions))
    angle = angle_grid(num_angles)
    separations, rows = [], []
    # Points and noise need seeds of their own: the same one would make the noise a copy of the points.
    for points_seed, noise_seed in np.random.SeedSequence(seed).generate_state(2 * num_seeds).reshape(-1, 2):
        generator = torch.Generator().manual_seed(int(points_seed))
        for n, d in zip(num_samples, dimensions, strict=True):
            check_int(2, num_samples=n)
            check_int(1, dimensions=d)
            X = standardise(torch.randn(n, d, generator=generator, dtype=torch.float64))
            separation, numbers = _measure(X, angle, int(noise_seed), num_draws)
            separations.append(separation)
            rows.append(numbers)
    cases = len(dimensions)
    names = {
        "straight_energy": "kinetic energy of the straight schedule, per dimension",
        "least_energy": "least kinetic energy, per dimension",
        "gap": "energy of the straight schedule above the least, as a share",
        "deviation": "mean of 1 − λ along the straight schedule",
    }
    return dataset(
        "Kinetic energy of the straight schedule and of the best",
        {
            "seed": variable("seed", np.arange(num_seeds), "draw of the points"),
            "case": variable("case", np.arange(cases), "point set"),
            "angle": variable("angle", angle, "angle between noise and data", "rad"),
            "num_samples": variable("case", list(num_samples), "samples"),
            "dimension": variable("case", list(dimensions), "dimension"),
            "samples_per_dimension": variable(
                "case", np.asarray(num_samples) / np.asarray(dimensions), "samples per dimension"
            ),
        },
        {
            "separation": variable(
                "seed case angle", torch.stack(separations).reshape(num_seeds, cases, -1), "separation λ"
            ),
            **{
                name: variable("seed case", np.array([row[name] for row in rows]).reshape(num_seeds, cases), text)
                for name, text in names.items()
            },
        },
    )


def kinetic_gap_claim(ds: xr.Dataset) -> ClaimResult:
    """`kinetic-optimal-paths/straight`: the straight schedule becomes the best as samples per dimension shrink."""
    by_case = ds.gap.mean("seed").values
    per_dimension = ds["samples_per_dimension"].values
    many, few = int(per_dimension.argmax()), int(per_dimension.argmin())
    ratios = ds.gap.isel(case=few).values / ds.gap.isel(case=many).values
    decidable = ds.sizes["seed"] >= 3 and per_dimension[many] >= 50 and per_dimension[few] <= 0.05
    text = (
        f"(E_straight − E_least)/E_least at n/d = {per_dimension[few]:g} at most 0.1 of its value at n/d = "
        f"{per_dimension[many]:g}, in each of {ds.sizes['seed']} draws of {int(ds['num_samples'][few])} points"
    )
    measured = {
        "ratio": float(ratios.mean()),
        "gap at most samples per dimension": float(by_case[many]),
        "gap at fewest": float(by_case[few]),
    }
    return ClaimResult(measured, bool(ratios.max() <= 0.1) if decidable else None, text, None, ds.sizes["seed"])


def kinetic_paths(
    *, seed: int, dimensions: Sequence[int] = (4, 64, 4000), num_samples: int = 200, X: Tensor | None = None
) -> xr.Dataset:
    """Return the schedules of least kinetic energy for some point sets, or for points of one's own, beside the straight one.

    Returns
    -------
    xr.Dataset
        `alpha` and `sigma` over (case, time), `least_energy` and `straight_energy` over case.

    >>> ds = kinetic_paths(seed=0, dimensions=(2, 100), num_samples=20)
    >>> ds.alpha.dims
    ('case', 'time')
    """
    check_int(2, num_samples=num_samples)
    angle = angle_grid(120)
    generator = torch.Generator().manual_seed(seed)
    if X is not None:
        sets = [standardise(X.double())]
    else:
        sets = [standardise(torch.randn(num_samples, d, generator=generator, dtype=torch.float64)) for d in dimensions]
    schedules, straight = [], []
    for points in sets:
        separation = separation_function(points, torch.tan(angle), num_draws=2, seed=seed + 1)
        schedules.append(kinetic_optimal_schedule(angle, separation))
        straight.append(float(straight_energy(angle, separation)))
    return dataset(
        "Schedules of least kinetic energy",
        {
            "case": variable("case", np.arange(len(sets)), "point set"),
            "dimension": variable("case", [points.shape[1] for points in sets], "dimension"),
            "num_samples": variable("case", [points.shape[0] for points in sets], "samples"),
            "time": variable("time", schedules[0].t, "time"),
        },
        {
            "alpha": variable("case time", torch.stack([one.alpha for one in schedules]), "weight α of the data"),
            "sigma": variable("case time", torch.stack([one.sigma for one in schedules]), "weight σ of the noise"),
            "least_energy": variable("case", [one.energy for one in schedules], "least kinetic energy, per dimension"),
            "straight_energy": variable("case", straight, "kinetic energy of the straight schedule, per dimension"),
        },
    )
