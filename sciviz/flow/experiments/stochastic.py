"""Stochastic interpolants: one velocity and one score, and all the ways to follow them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from sciviz.flow.couplings import pairs_of
from sciviz.flow.gaussian import ExactFields, GaussianMixture, ring_of_gaussians
from sciviz.flow.interpolants import straight
from sciviz.flow.measures import sliced_wasserstein
from sciviz.flow.networks import VelocityField
from sciviz.flow.rectify import fit_velocity, full_velocity, latent_score
from sciviz.flow.sampling import Velocity, sample_sde
from sciviz.lab.checks import check_int
from sciviz.lab.results import ClaimResult, dataset, variable

T = TypeVar("T")


def _two() -> tuple[GaussianMixture, GaussianMixture]:
    line = torch.tensor([[-1.5, -1.0], [-1.5, 1.0]])
    return GaussianMixture.isotropic(line, 0.4), ring_of_gaussians(5, radius=2.0, std=0.35)


def ode_and_sdes(
    *,
    epsilons: tuple[float, ...] = (0.0, 0.5, 2.0),
    num_seeds: int = 5,
    num_points: int = 600,
    num_steps: int = 400,
    training_steps: int = 1000,
    latent: float = 1.0,
    seed: int = 0,
) -> xr.Dataset:
    """End at the same law by the flow and by stochastic paths of several strengths, with exact and with learned fields.

    Both laws are mixtures of Gaussians, so that velocity and score are known exactly.

    Parameters
    ----------
    epsilons
        Strengths of the noise; 0 is the flow.
    num_steps
        Steps of the solver.
    training_steps
        Of each of the two networks; 0 leaves the learned fields out.
    latent
        Strength of the interpolant's latent noise.

    Returns
    -------
    `distance` (fields, epsilon, seed), `floor` (seed), and a few of the paths, `path` (epsilon, particle, time, axis).

    >>> small = ode_and_sdes(num_seeds=1, num_points=20, num_steps=4, training_steps=0, epsilons=(0.0,))
    >>> small.sizes["epsilon"]
    1
    """
    check_int(1, num_seeds=num_seeds, num_points=num_points, num_steps=num_steps)
    check_int(0, training_steps=training_steps)
    source, target = _two()
    interpolant = straight(latent)
    generator = torch.Generator().manual_seed(seed)

    def draw(mixture: GaussianMixture) -> Tensor:
        return mixture.sample(num_seeds * num_points, generator).view(num_seeds, num_points, 2)

    x0, real = draw(source), draw(target)
    floor = torch.stack([sliced_wasserstein(draw(target), draw(target), seed=seed) for _ in range(8)]).mean(0)
    fields = _remembered(ExactFields(source, target, interpolant).fields)
    distances, paths = [], []
    for place, epsilon in enumerate(epsilons):
        path = sample_sde(
            lambda t, x: fields(t, x).velocity,
            lambda t, x: fields(t, x).score,
            x0.flatten(0, 1),
            epsilon=epsilon,
            num_steps=num_steps,
            seed=seed + place,
            keep_path=True,
        )
        distances.append(sliced_wasserstein(path[-1].view_as(x0), real, seed=seed))
        paths.append(path[:: max(1, num_steps // 50), :40].transpose(0, 1))
    results = {"exact": torch.stack(distances)}
    if training_steps:
        velocity, score = _learn(source, target, latent, num_seeds, training_steps, seed)
        ends = [
            sample_sde(velocity, score, x0, epsilon=epsilon, num_steps=num_steps, seed=seed + place)
            for place, epsilon in enumerate(epsilons)
        ]
        results["learned"] = torch.stack([sliced_wasserstein(end, real, seed=seed) for end in ends])
    times = np.linspace(0, 1, num_steps + 1)[:: max(1, num_steps // 50)]
    return dataset(
        "One law, many paths",
        {
            "fields": variable("fields", list(results), "Fields"),
            "epsilon": variable("epsilon", list(epsilons), "Strength of the noise ε"),
            "seed": variable("seed", np.arange(num_seeds), "Seed"),
            "particle": variable("particle", np.arange(paths[0].shape[0]), "Particle"),
            "time": variable("time", times, "Flow time"),
            "axis": variable("axis", ["x1", "x2"], "Coordinate"),
        },
        {
            "distance": variable(
                "fields epsilon seed", torch.stack(list(results.values())), "Sliced Wasserstein distance to the target"
            ),
            "floor": variable("seed", floor, "Distance of two fresh samples of the target"),
            "path": variable("epsilon particle time axis", torch.stack(paths), "Position"),
        },
        num_steps=num_steps,
    )


def _learn(
    source: GaussianMixture, target: GaussianMixture, latent: float, members: int, num_steps: int, seed: int
) -> tuple[Velocity, Velocity]:
    interpolant = straight(latent)

    draw = pairs_of(source.sample, target.sample, batch_size=256, members=members)
    networks = []
    for place, objective in enumerate(("velocity", "latent")):
        network = VelocityField(2, width=64, depth=3, members=members, seed=seed + place)
        fit_velocity(
            network, draw, num_steps=num_steps, seed=seed + place, lr=6e-3, interpolant=interpolant, objective=objective
        )
        networks.append(network)
    latent_mean = _remembered(networks[1])
    return full_velocity(networks[0], latent_mean, interpolant), latent_score(latent_mean, interpolant)


def _remembered(function: Callable[[Tensor, Tensor], T]) -> Callable[[Tensor, Tensor], T]:
    """Return the function with a memory of one call: velocity and score are asked for at the same points, one after the other."""
    last: list[tuple[Tensor, Tensor, T]] = []

    def remembering(t: Tensor, x: Tensor) -> T:
        if not last or last[0][0] is not t or last[0][1] is not x:
            last[:] = [(t, x, function(t, x))]
        return last[0][2]

    return remembering


def same_law_claim(ds: xr.Dataset, fields: str = "exact") -> ClaimResult:
    """Hold the distance from the target, for each strength of the noise, against the floor of two fresh samples."""
    limit = {"exact": 1.5, "learned": 3.0}[fields]
    present = fields in ds.fields.values
    ratio = (ds.distance.sel(fields=fields) / ds.floor) if present else ds.distance.isel(fields=0) / ds.floor
    median = ratio.median("seed")
    enough = present and ds.sizes["seed"] >= 3 and ds.sizes["epsilon"] >= 3
    return ClaimResult(
        measured={f"ε = {float(e):g}": float(median.sel(epsilon=e)) for e in ds.epsilon},
        holds=bool((median <= limit).all()) if enough else None,
        criterion=(
            f"{fields} velocity and score, {ds.attrs['num_steps']} steps: sliced Wasserstein distance to the target at most "
            f"{limit:g} times that of two fresh samples (mean of 8 pairs), for ε = 0, 0.5 and 2, median of at least 3 seeds"
        ),
        spread={f"ε = {float(e):g}": float(ratio.sel(epsilon=e).std()) for e in ds.epsilon},  # type: ignore[arg-type]
        seeds=ds.sizes["seed"],
    )
