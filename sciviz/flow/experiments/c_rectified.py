"""Rectification by gradients of a potential: exact for Gaussians, learnt for clouds of points, and where it stops."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from sciviz.flow.couplings import Draw, normal
from sciviz.flow.measures import energy_distance
from sciviz.flow.potentials import PotentialField, PowerCost, fit_potential, rectify_linear
from sciviz.flow.sampling import transport
from sciviz.lab.checks import check_choice, check_int
from sciviz.lab.data import make_density, to_tensors
from sciviz.lab.results import ClaimResult, dataset, variable

__all__ = [
    "c_rectified_clouds",
    "c_rectified_clouds_claim",
    "c_rectified_clusters_claim",
    "gaussian_rectification",
    "gaussian_rectification_claim",
]


def gaussian_rectification(*, seed: int, num_seeds: int = 5, rounds: int = 3) -> xr.Dataset:
    """Rectify turned Gaussians with exact fields: by gradients, and without restriction.

    The start is the pairing of X₀ ~ N(0, I) with X₁ = A R X₀, a turn R by 75° to 120° followed by a stretch A. The best
    pairing with the same ends is X₁ = A X₀. (From about 140° on all lines of a pairing can meet in one line of points, where
    the field is infinite.)

    Returns
    -------
    xr.Dataset
        `cost` over (rectification, seed, round), the least `optimal` cost by seed, and both as `ratio`.

    >>> ds = gaussian_rectification(seed=0, num_seeds=2)
    >>> bool((ds.ratio.sel(rectification="gradient", round=3) < 1.05).all())
    True
    """
    check_int(1, num_seeds=num_seeds, rounds=rounds)
    generator = torch.Generator().manual_seed(seed)
    angle = torch.pi * (5 / 12 + torch.rand(num_seeds, generator=generator, dtype=torch.float64) / 4)
    turn = torch.stack([torch.stack([angle.cos(), -angle.sin()], -1), torch.stack([angle.sin(), angle.cos()], -1)], -2)
    stretch = torch.stack([torch.ones(num_seeds), torch.ones(num_seeds)], -1).double()
    stretch[:, 0] = 1.5 + torch.rand(num_seeds, generator=generator, dtype=torch.float64)
    stretch[:, 1] = 0.3 + 0.4 * torch.rand(num_seeds, generator=generator, dtype=torch.float64)
    start = torch.diag_embed(stretch) @ turn
    costs = torch.stack(
        [rectify_linear(start, rounds=rounds, gradient=gradient).cost().T for gradient in (True, False)]
    )
    optimal = (stretch - 1).square().sum(-1)
    return dataset(
        "Rectifying turned Gaussians with exact fields",
        {
            "rectification": variable("rectification", ["gradient", "unrestricted"], "rectification", ""),
            "seed": variable("seed", np.arange(num_seeds), "draw of turn and stretch"),
            "round": variable("round", np.arange(rounds + 1), "rounds of rectification"),
        },
        {
            "cost": variable("rectification seed round", costs, "mean squared distance moved"),
            "optimal": variable("seed", optimal, "least mean squared distance"),
            "ratio": variable("rectification seed round", costs / optimal[:, None], "cost over the least cost"),
        },
    )


def gaussian_rectification_claim(ds: xr.Dataset) -> ClaimResult:
    """`c-rectified-flow/gaussians`: gradients reach the optimal cost, unrestricted rectification need not."""
    last = ds.ratio.isel(round=-1)
    gradient, free = last.sel(rectification="gradient").values, last.sel(rectification="unrestricted").values
    text = (
        f"after {int(ds['round'][-1])} rounds with exact fields the gradient's cost is at most 1.05 × the least and the "
        f"unrestricted one's at least 2 ×, for each of {ds.sizes['seed']} turned Gaussians"
    )
    holds = bool(gradient.max() <= 1.05 and free.min() >= 2) if ds.sizes["seed"] >= 3 else None
    measured = {"gradient": float(gradient.max()), "unrestricted": float(free.min())}
    return ClaimResult(measured, holds, text, None, ds.sizes["seed"])


def _target(name: str, num: int, seed: int) -> Tensor:
    if name == "clusters":
        generator = torch.Generator().manual_seed(seed)
        centres = 2.5 * torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, -1.0], [-1.0, 1.0]])
        which = torch.randint(4, (num,), generator=generator)
        return centres[which] + 0.3 * torch.randn(num, 2, generator=generator)
    if name == "crescent":
        # A Gaussian bent into a parabola: in one piece, and far from a Gaussian.
        points = torch.randn(num, 2, generator=torch.Generator().manual_seed(seed))
        return torch.stack([1.5 * points[:, 0], 0.4 * points[:, 1] + points[:, 0] ** 2 - 1], dim=1)
    points = to_tensors(make_density(name, num_samples=num, seed=seed), dtype=torch.float32)[0]
    return 1.5 * (points - points.mean(0)) / points.std()


def _pairs(x0: Tensor, x1: Tensor, batch_size: int) -> Draw:
    def draw(generator: torch.Generator) -> tuple[Tensor, ...]:
        which = torch.randint(x0.shape[1], (len(x0), batch_size, 1), generator=generator).expand(-1, -1, 2)
        return x0.gather(1, which), x1.gather(1, which)

    return draw


def c_rectified_clouds(
    *,
    seed: int,
    num_seeds: int = 3,
    source: str = "gaussian",
    target: str = "crescent",
    power: float = 2.0,
    rounds: int = 2,
    width: int = 64,
    train_steps: int = 1000,
    num_pairs: int = 8192,
    num_test: int = 2048,
    num_exact: int = 512,
    data: tuple[Tensor, Tensor] | None = None,
) -> xr.Dataset:
    """c-rectify the independent coupling of two plane clouds with learnt potentials, and compare with the exact optimum.

    Parameters
    ----------
    source
        "gaussian" (connected), or "clusters": four separate heaps at the corners of a square; the target "clusters"
        are then the same corners, turned.
    target
        "crescent" (in one piece), "clusters", or a density of `sciviz.lab.data`.
    power
        p of the cost |v|^p / p.
    num_test, num_exact
        Test points for the law at the end, and how many of them the exact optimum is computed for.
    data
        Points of one's own, source and target, each (n, 2); batches and tests are drawn from them.

    Returns
    -------
    xr.Dataset
        By seed and round (round 0: the independent coupling): transport `cost`, the `optimal` cost of moving the same
        points to the same ends (assignment), their `ratio`; `energy_distance` of the ends from the target, its `floor`
        (by seed: the mean size for eight pairs of fresh samples); the share of `stray` ends, farther from every target
        point than twice what 99% of fresh ones are; `start` and `end` points of the first seed.

    >>> ds = c_rectified_clouds(seed=0, num_seeds=1, train_steps=5, num_pairs=96, num_test=32, rounds=1, width=8)
    >>> ds.cost.dims
    ('seed', 'round')
    """
    check_int(1, num_seeds=num_seeds, rounds=rounds)
    check_choice(("gaussian", "clusters"), source=source)
    cost = PowerCost(power)
    sub = [int(s) for s in np.random.SeedSequence(seed).generate_state(5)]
    generator = torch.Generator().manual_seed(sub[0])
    total = num_pairs + num_test

    def sample(name: str, at: int, points_seed: int) -> Tensor:
        """Return points of shape (seed, total, 2)."""
        if data is not None:
            side = data[at]
            return side[torch.randint(len(side), (num_seeds, total), generator=generator)].float()
        if name == "gaussian":
            return normal(2)(num_seeds * total, generator).view(num_seeds, total, 2)
        points = _target(name, num_seeds * total, points_seed).view(num_seeds, total, 2)
        # The same four corners on both sides would need no moving: the target's are turned by an eighth and spread.
        turn = torch.tensor([[1.0, -1.0], [1.0, 1.0]]) if at and name == source else torch.eye(2)
        return points @ turn.T

    x0, x1 = sample(source, 0, sub[1]), sample(target, 1, sub[2])
    test0, test1 = x0[:, num_pairs:], x1[:, num_pairs:]
    fresh = [sample(target, 1, sub[4])[:, k : k + num_test] for k in range(0, total, num_test)]
    floor = _floor(fresh)
    radius = 2 * torch.cdist(fresh[0], test1).amin(-1).quantile(0.99, dim=-1)
    pair0, pair1 = x0[:, :num_pairs], x1[:, :num_pairs]
    ends = [test1]
    for number in range(rounds):
        field = PotentialField(2, cost=cost, width=width, members=num_seeds, seed=sub[3] + number)
        fit_potential(field, _pairs(pair0, pair1, 256), num_steps=train_steps, seed=sub[2] + number)
        field.requires_grad_(False)
        ends.append(transport(field, test0, num_steps=25, method="rk4"))
        if number + 1 < rounds:
            pair1 = transport(field, pair0, num_steps=25, method="rk4")
    costs = torch.stack([cost((end - test0)[:, :num_exact]).mean(-1) for end in ends], dim=1)
    optimal = torch.stack([_optimal(test0[:, :num_exact], end[:, :num_exact], cost) for end in ends], dim=1)
    other = fresh[0]  # the ends of round 0 are the test points themselves
    distances = torch.stack(
        [torch.stack([energy_distance(a, b) for a, b in zip(end, other, strict=True)]) for end in ends], dim=1
    )
    stray = torch.stack([(torch.cdist(end, other).amin(-1) > radius[:, None]).double().mean(-1) for end in ends], dim=1)
    shown = torch.stack(ends, dim=0)[:, 0, :200]
    return dataset(
        "c-rectification of clouds of points",
        {
            "seed": variable("seed", np.arange(num_seeds), "draw of points and networks"),
            "round": variable("round", np.arange(rounds + 1), "rounds of c-rectification"),
            "point": variable("point", np.arange(shown.shape[1]), "test point"),
            "axis": variable("axis", ["x", "y"], "coordinate", ""),
        },
        {
            "cost": variable("seed round", costs, "mean transport cost"),
            "optimal": variable("seed round", optimal, "least cost between the same points"),
            "ratio": variable("seed round", costs / optimal, "cost over the least cost"),
            "energy_distance": variable("seed round", distances, "energy distance from the target"),
            "stray": variable("seed round", stray, "share of ends away from the target"),
            "floor": variable("seed", floor, "mean energy distance of eight fresh pairs"),
            "start": variable("point axis", test0[0, :200], "start"),
            "end": variable("round point axis", shown, "end"),
        },
        source=source,
        target=target,
        power=power,
    )


def _floor(fresh: Sequence[Tensor]) -> Tensor:
    """Return, by seed, the mean size of the energy distance of eight pairs of fresh samples of the target."""
    whole = [part for part in fresh if part.shape[1] == fresh[0].shape[1]]
    pairs = list(itertools.combinations(range(len(whole)), 2))[:8]
    rows = []
    for row in range(len(whole[0])):
        # The estimate is unbiased, and so is negative as often as not: its size is what matters.
        sizes = [energy_distance(whole[a][row], whole[b][row]).abs() for a, b in pairs]
        rows.append(torch.stack(sizes).mean())
    return torch.stack(rows)


def _optimal(x0: Tensor, x1: Tensor, cost: PowerCost) -> Tensor:
    from scipy.optimize import linear_sum_assignment

    rows = []
    for a, b in zip(x0, x1, strict=True):
        table = cost(b[None] - a[:, None]).numpy()
        where = linear_sum_assignment(table)
        rows.append(torch.tensor(table[where].mean()))
    return torch.stack(rows)


def c_rectified_clouds_claim(ds: xr.Dataset) -> ClaimResult:
    """`c-rectified-flow/clouds`: the cost never rises, the marginal stays, the cost approaches the exact optimum."""
    rises = (ds.cost.values[:, 1:] / ds.cost.values[:, :-1]).max()
    final = ds.isel(round=-1)
    ratio = final.ratio.values
    marginal = final.energy_distance.values.mean() / ds.floor.values.mean()
    text = (
        f"each round's cost at most 1.01 × the one before; after {int(ds['round'][-1])} rounds at most 1.05 × the exact "
        f"optimum between the same points; energy distance from fresh target points at most 3 × the mean of 8 fresh "
        f"pairs; {ds.attrs['source']} to {ds.attrs['target']}, cost |v|^{ds.attrs['power']:g}, {ds.sizes['seed']} draws"
    )
    decidable = ds.sizes["seed"] >= 3 and ds.sizes["round"] >= 3
    holds = bool(rises <= 1.01 and ratio.mean() <= 1.05 and marginal <= 3) if decidable else None
    measured = {
        "largest rise": float(rises),
        "cost / optimum": float(ratio.mean()),
        "distance / floor": float(marginal),
    }
    return ClaimResult(measured, holds, text, f"{ratio.min():.3f} to {ratio.max():.3f}", ds.sizes["seed"])


def c_rectified_clusters_claim(ds: xr.Dataset) -> ClaimResult:
    """`c-rectified-flow/separate-clusters`: the same between separate clusters, where a smooth potential strays."""
    # Of the same points and the target's own ones; a cost below it is the sign of ends that are not the target's.
    ratio = ds.cost.isel(round=-1).values / ds.optimal.isel(round=0).values
    stray = float(ds.stray.isel(round=-1).mean())
    text = (
        f"after {int(ds['round'][-1])} rounds the cost within 5% of the exact optimum between the source and the target "
        f"points, and at most 3% of the ends away from the target (farther from its points than twice what 99% of fresh ones "
        f"are); means of {ds.sizes['seed']} draws"
    )
    holds = bool(abs(ratio.mean() - 1) <= 0.05 and stray <= 0.03) if ds.sizes["seed"] >= 3 else None
    measured = {"cost / optimum": float(ratio.mean()), "ends away": stray}
    return ClaimResult(measured, holds, text, f"{ratio.min():.2f} to {ratio.max():.2f}", ds.sizes["seed"])
