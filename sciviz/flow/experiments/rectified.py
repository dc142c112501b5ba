"""Rectified flow between two clouds: cost, straightness, marginals and the error of few steps, round by round."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import xarray as xr
from numpy.typing import ArrayLike
from torch import Generator, Tensor

from sciviz.flow.couplings import Sampler, resample
from sciviz.flow.gaussian import expected_velocity
from sciviz.flow.measures import COSTS, sliced_wasserstein, straightness, transport_cost
from sciviz.flow.networks import VelocityField
from sciviz.flow.rectify import rectify
from sciviz.flow.sampling import integrate
from sciviz.lab import data
from sciviz.lab.checks import check_int
from sciviz.lab.results import ClaimResult, dataset, variable

POOL = 20_000


def cloud(what: str | ArrayLike, *, seed: int, num_samples: int = POOL, noise: float | None = None) -> Tensor:
    """Return points of a named density of `sciviz.lab.data`, or points of your own, as (num, d) in single precision.

    Raises
    ------
    ValueError
        If the name is unknown, or your points are not finite numbers of shape (num, d).

    >>> cloud("two_moons", seed=0, num_samples=10).shape
    torch.Size([10, 2])
    """
    if isinstance(what, str):
        (points,) = data.to_tensors(data.make_density(what, num_samples=num_samples, seed=seed, noise=noise), "X")
        return points
    mine = torch.as_tensor(np.asarray(what), dtype=torch.float32)
    if mine.ndim != 2 or len(mine) < 2 or not bool(mine.isfinite().all()):
        raise ValueError(f"Points of your own must be finite, of shape (num, d), got shape {tuple(mine.shape)}.")
    return mine


def _fresh(points: Tensor, num: int, members: int, generator: Generator) -> Tensor:
    """Draw points for each member without giving one member the same point twice, where there are enough."""
    rows = [torch.randperm(len(points), generator=generator)[:num] for _ in range(members)]
    return torch.stack([points[row] for row in rows])


def rectification(
    *,
    source: str | ArrayLike = "gaussian",
    target: str | ArrayLike = "eight_gaussians",
    noise: float | None = 0.1,
    rounds: int = 3,
    num_seeds: int = 5,
    num_steps: int = 700,
    batch_size: int = 256,
    width: int = 64,
    num_points: int = 1000,
    euler_steps: tuple[int, ...] = (1, 2, 4, 8, 50),
    seed: int = 0,
) -> xr.Dataset:
    """Rectify a flow again and again, and measure each round: what it costs, how straight it is, where it ends.

    The seeds are trained together, as one ensemble.

    Parameters
    ----------
    source, target
        Names of densities of `sciviz.lab.data`, or points of your own, (num, d).
    noise
        Of a named target; None takes the density's own.
    rounds
        Flows in the chain; the second is the first reflow.
    num_points
        Points on which everything is measured, with as many fresh ones of the target to compare with.
    euler_steps
        Numbers of Euler steps with which samples are made.

    Returns
    -------
    `straightness` (round, seed), `cost` (coupling, cost, seed), `error` (round, euler_steps, seed), `floor` (seed), and
    `path` (round, particle, time, axis) of the first seed.

    >>> small = rectification(rounds=2, num_seeds=2, num_steps=20, num_points=50, euler_steps=(1, 4))
    >>> dict(small.error.sizes)
    {'round': 2, 'euler_steps': 2, 'seed': 2}
    """
    check_int(1, rounds=rounds, num_seeds=num_seeds, num_steps=num_steps, num_points=num_points)
    one = cloud(source, seed=2 * seed, num_samples=POOL)
    other = cloud(target, seed=2 * seed + 1, num_samples=POOL, noise=noise if isinstance(target, str) else None)
    flow = rectify(
        resample(one),
        resample(other),
        dim=one.shape[1],
        seed=seed,
        rounds=rounds,
        num_steps=num_steps,
        batch_size=batch_size,
        width=width,
        members=num_seeds,
        num_pairs=4096,
    )
    generator = torch.Generator().manual_seed(seed + 77)
    x0 = _fresh(one, num_points, num_seeds, generator)
    real = _fresh(other, num_points, num_seeds, generator)
    # Eight pairs of fresh clouds: the counts of points in each mode fluctuate, and one pair is a poor floor.
    floors = [
        sliced_wasserstein(
            _fresh(other, num_points, num_seeds, generator), _fresh(other, num_points, num_seeds, generator), seed=seed
        )
        for _ in range(8)
    ]
    costs = {name: [transport_cost(x0, real, name)] for name in COSTS}
    straight, errors, paths = [], [], []
    times = torch.linspace(0, 1, 51, dtype=torch.float64)
    for velocity in flow.rounds:
        path = integrate(velocity, x0, times, num_steps=50, method="rk4")
        for name, values in costs.items():
            values.append(transport_cost(x0, path[-1], name))
        straight.append(straightness(velocity, x0, num_steps=25))
        ends = [integrate(velocity, x0, num_steps=number)[-1] for number in euler_steps]
        errors.append(torch.stack([sliced_wasserstein(end, real, seed=seed) for end in ends]))
        paths.append(path[:, 0, :120].transpose(0, 1))
    couplings = ["independent", *(f"flow {n + 1}" for n in range(rounds))]
    return dataset(
        "Rectified flow, round by round",
        {
            "round": variable("round", np.arange(1, rounds + 1), "Flow", "round"),
            "coupling": variable("coupling", couplings, "Coupling"),
            "cost": variable("cost", list(COSTS), "Convex cost"),
            "euler_steps": variable("euler_steps", list(euler_steps), "Euler steps"),
            "seed": variable("seed", np.arange(num_seeds), "Seed"),
            "particle": variable("particle", np.arange(paths[0].shape[0]), "Particle"),
            "time": variable("time", times, "Flow time"),
            "axis": variable("axis", [f"x{n + 1}" for n in range(one.shape[1])], "Coordinate"),
        },
        {
            "straightness": variable("round seed", torch.stack(straight), "Straightness S"),
            "transport_cost": variable(
                "cost coupling seed", torch.stack([torch.stack(rows) for rows in costs.values()]), "Transport cost"
            ),
            "error": variable(
                "round euler_steps seed", torch.stack(errors), "Sliced Wasserstein distance to the target"
            ),
            "floor": variable("seed", torch.stack(floors).mean(0), "Distance of two fresh samples of the target"),
            "path": variable("round particle time axis", torch.stack(paths), "Position"),
        },
        source=source if isinstance(source, str) else "your own",
        target=target if isinstance(target, str) else "your own",
        num_steps=num_steps,
    )


def _ratio(above: xr.DataArray, below: xr.DataArray) -> np.ndarray[Any, Any]:
    return np.asarray((above / below).values, dtype=float)


def _enough(ds: xr.Dataset, rounds: int = 2) -> bool:
    return bool(ds.sizes["round"] >= rounds and ds.sizes["seed"] >= 3)


def cost_claim(ds: xr.Dataset) -> ClaimResult:
    """Hold the transport cost of each coupling against that of the coupling before it [rectified-flow, theorem 3.5]."""
    cost = ds.transport_cost.values
    first, second = cost[:, 1] / cost[:, 0], cost[:, 2] / cost[:, 1] if cost.shape[1] > 2 else cost[:, 1] / cost[:, 0]
    worst = {"first round": float(first.mean(1).max()), "second round": float(second.mean(1).max())}
    spread = {"first round": float(first.std(1).max()), "second round": float(second.std(1).max())}
    return ClaimResult(
        measured=worst,
        holds=bool(max(first.max(), second.max()) <= 1.02) if _enough(ds) else None,
        criterion=(
            "no rectification multiplies the mean of any of five convex costs by more than 1.02, two rounds, in none of "
            "at least 3 seeds (measured: the largest of the five ratios)"
        ),
        spread=spread,  # type: ignore[arg-type]
        seeds=ds.sizes["seed"],
    )


def straightness_claim(ds: xr.Dataset) -> ClaimResult:
    """Hold the straightness of the second flow against that of the first."""
    ratio = _ratio(ds.straightness.isel(round=min(1, ds.sizes["round"] - 1)), ds.straightness.isel(round=0))
    return ClaimResult(
        measured=float(ratio.mean()),
        holds=bool(ratio.max() <= 0.2) if _enough(ds) else None,
        criterion="S of the second flow is at most 0.2 of S of the first, in each of at least 3 seeds",
        spread=float(ratio.std()),
        seeds=ds.sizes["seed"],
    )


def one_step_claim(ds: xr.Dataset) -> ClaimResult:
    """Hold the error of one Euler step of the second flow against that of the first."""
    error = ds.error.sel(euler_steps=1)
    ratio = _ratio(error.isel(round=min(1, ds.sizes["round"] - 1)), error.isel(round=0))
    return ClaimResult(
        measured=float(ratio.mean()),
        holds=bool(ratio.max() <= 0.3) if _enough(ds) else None,
        criterion=(
            "sliced Wasserstein distance to the target after one Euler step: second flow at most 0.3 of the first, in each "
            "of at least 3 seeds"
        ),
        spread=float(ratio.std()),
        seeds=ds.sizes["seed"],
    )


def marginal_claim(ds: xr.Dataset) -> ClaimResult:
    """Hold where many steps of the second flow end against where those of the first do."""
    error = ds.error.isel(euler_steps=-1)
    ratio = _ratio(error.isel(round=min(1, ds.sizes["round"] - 1)), error.isel(round=0))
    return ClaimResult(
        measured={"second over first": float(ratio.mean()), "first over floor": float((error[0] / ds.floor).mean())},
        holds=bool(ratio.mean() <= 1.5) if _enough(ds) else None,
        criterion=(
            "sliced Wasserstein distance to the target after 50 steps: second flow at most 1.5 times the first, mean of at "
            "least 3 seeds"
        ),
        spread={"second over first": float(ratio.std())},  # type: ignore[arg-type]
        seeds=ds.sizes["seed"],
    )


def one_call(
    *, num_seeds: int = 1, num_steps: int = 1500, batch_size: int = 1024, width: int = 128, seed: int = 0
) -> xr.Dataset:
    """Measure what one call of `rectify(rounds=2)` reaches on noise → eight Gaussians, with exact Wasserstein distances.

    >>> tiny = one_call(num_steps=5, width=8, batch_size=16)
    >>> sorted(tiny.data_vars)
    ['floor', 'one_step', 'straightness']
    """
    from sciviz.flow.measures import wasserstein

    rows: dict[str, list[float]] = {"one_step": [], "straightness": [], "floor": []}
    for number in range(num_seeds):
        one, other = (
            cloud("gaussian", seed=seed + number),
            cloud("eight_gaussians", seed=seed + 1000 + number, noise=0.1),
        )
        flow = rectify(
            resample(one), resample(other), dim=2, seed=seed + number, rounds=2,
            num_steps=num_steps, batch_size=batch_size, width=width,
        )  # fmt: skip
        generator = torch.Generator().manual_seed(seed + number)
        x0, real, again = (_fresh(points, 1000, 1, generator)[0] for points in (one, other, other))
        rows["one_step"].append(wasserstein(integrate(flow.last, x0, num_steps=1)[-1], real))
        rows["straightness"].append(float(straightness(flow.last, x0)))
        rows["floor"].append(wasserstein(again, real))
    return dataset(
        "One call that reflows once",
        {"seed": variable("seed", np.arange(num_seeds), "Seed")},
        {
            "one_step": variable("seed", rows["one_step"], "Wasserstein distance after one step"),
            "straightness": variable("seed", rows["straightness"], "Straightness S"),
            "floor": variable("seed", rows["floor"], "Wasserstein distance of two fresh samples"),
        },
    )


def transfer(
    *,
    source: str | ArrayLike = "two_moons",
    target: str | ArrayLike = "two_spirals",
    num_steps: int = 2000,
    num_points: int = 1000,
    seed: int = 0,
) -> xr.Dataset:
    """Carry one data set into another and back again, by one flow.

    >>> there = transfer(num_steps=5, num_points=20)
    >>> there.sizes["particle"]
    20
    """
    check_int(2, num_points=num_points)
    one, other = cloud(source, seed=seed), cloud(target, seed=seed + 1)
    flow = rectify(
        resample(one), resample(other), dim=one.shape[1], seed=seed, rounds=1, num_steps=num_steps,
        batch_size=512, width=96, depth=4, lr=1e-2,
    )  # fmt: skip
    generator = torch.Generator().manual_seed(seed)
    x0, real, again = (_fresh(points, num_points, 1, generator)[0] for points in (one, other, other))
    there = integrate(flow.last, x0)[-1]
    back = integrate(flow.last, there, torch.tensor([1.0, 0.0], dtype=torch.float64))[-1]
    return dataset(
        "From one data set to another",
        {
            "particle": variable("particle", np.arange(num_points), "Particle"),
            "axis": variable("axis", [f"x{n + 1}" for n in range(one.shape[1])], "Coordinate"),
        },
        {
            "start": variable("particle axis", x0, "Start"),
            "end": variable("particle axis", there, "End"),
            "back": variable("particle axis", back, "Carried back"),
            "goal": variable("particle axis", real, "Target"),
        },
        error=float(sliced_wasserstein(there, real, seed=seed)),
        floor=float(sliced_wasserstein(again, real, seed=seed)),
        round_trip=float((back - x0).norm(dim=-1).max()),
    )


def flow_between(
    clouds: Mapping[str, Tensor],
    pairs: Sequence[tuple[str, str]],
    *,
    rounds: int = 3,
    num_steps: int = 500,
    batch_size: int = 256,
    width: int = 64,
    seed: int = 0,
    progress: bool = False,
) -> list[VelocityField]:
    """Train flows between many pairs of clouds at once, one member of an ensemble a pair; one ensemble a round.

    >>> rings = {name: cloud(name, seed=0, num_samples=50) for name in ("gaussian", "rings")}
    >>> [one.members for one in flow_between(rings, [("gaussian", "rings")], rounds=1, num_steps=2)]
    [1]
    """
    check_int(1, rounds=rounds, num_steps=num_steps, batch_size=batch_size)
    flow = rectify(
        _stacked([clouds[one] for one, _ in pairs]),
        _stacked([clouds[other] for _, other in pairs]),
        dim=2, seed=seed, rounds=rounds, num_steps=num_steps, batch_size=batch_size, width=width,
        members=len(pairs), num_pairs=2048, progress=progress,
    )  # fmt: skip
    return flow.rounds


def _stacked(clouds: list[Tensor]) -> Sampler:
    """Return a sampler whose points come, in equal shares and in this order, from several clouds."""

    def draw(num: int, generator: Generator) -> Tensor:
        share = num // len(clouds)
        return torch.cat([points[torch.randint(len(points), (share,), generator=generator)] for points in clouds])

    return draw


def crossing_lines(
    start: ArrayLike,
    end: ArrayLike,
    *,
    time: float = 0.5,
    blur: float = 0.12,
    num_times: int = 61,
    num_grid: int = 11,
) -> xr.Dataset:
    """Return the expected velocity around crossing lines, and where points that follow it go.

    Parameters
    ----------
    start, end
        Both ends of each line, (lines, 2).
    time
        Moment at which the field is shown.
    blur
        How near a line has to pass to count; see `expected_velocity`.

    Raises
    ------
    ValueError
        If the ends differ in shape, or the time is outside [0, 1].

    >>> cross = crossing_lines([[-1, -1], [-1, 1]], [[1, 1], [1, -1]])
    >>> cross.attrs["velocity"]
    [2.0, 0.0]
    """
    x0, x1 = (torch.as_tensor(np.asarray(part), dtype=torch.float64) for part in (start, end))
    if not 0 <= time <= 1:
        raise ValueError(f"time must be from 0 to 1, got {time!r}.")
    times = torch.linspace(0, 1, num_times, dtype=torch.float64)

    def velocity(t: Tensor, x: Tensor) -> Tensor:
        return expected_velocity(x0, x1, float(t.reshape(-1)[0]), x, blur=blur)

    flow = integrate(velocity, x0, times, num_steps=2 * (num_times - 1), method="midpoint").transpose(0, 1)
    line = torch.linspace(-1.4, 1.4, num_grid, dtype=torch.float64)
    place = torch.stack(torch.meshgrid(line, line * 1.1 / 1.4, indexing="xy"), dim=-1)
    arrow = expected_velocity(x0, x1, time, place.reshape(-1, 2), blur=blur).view_as(place)
    # Only where a line passes near is there something to be learnt.
    near = torch.cdist(place.reshape(-1, 2), (1 - time) * x0 + time * x1).amin(1).view(place.shape[:2])
    arrow = torch.where((near < 0.75)[..., None], arrow, torch.zeros_like(arrow))
    gaps = ((1 - times)[:, None, None] * x0 + times[:, None, None] * x1).diff(dim=1).norm(dim=-1)[:, 0]
    nearest = int(gaps.argmin())
    middle = ((1 - times[nearest]) * x0 + times[nearest] * x1)[:2].mean(0, keepdim=True)
    at_meeting = expected_velocity(x0, x1, float(times[nearest]), middle, blur=blur)[0]
    return dataset(
        "Crossing lines",
        {
            "line": variable("line", np.arange(1, len(x0) + 1), "Line"),
            "time": variable("time", times, "Flow time"),
            "row": variable("row", np.arange(num_grid), "Row"),
            "column": variable("column", np.arange(num_grid), "Column"),
            "axis": variable("axis", ["x1", "x2"], "Coordinate"),
        },
        {
            "start": variable("line axis", x0, "Source"),
            "end": variable("line axis", x1, "Target"),
            "flow": variable("line time axis", flow, "Position along the mean velocity"),
            "place": variable("row column axis", place, "Place"),
            "arrow": variable("row column axis", arrow, "Expected velocity"),
        },
        time=float(time),
        now=round(time * (num_times - 1)),
        gap=float(gaps[nearest]),
        velocity=[float(part) for part in at_meeting],
    )
