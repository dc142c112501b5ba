"""Measures: how straight, how far, how alike – with what each of them is blind to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from jaxtyping import Float
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from sciviz.flow.sampling import Velocity, integrate
from sciviz.lab.checks import check_int, check_ndim, check_positive, check_same_last_dim, check_same_shape

COSTS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "distance": lambda gap: gap.norm(dim=-1),
    "distance^1.5": lambda gap: gap.norm(dim=-1) ** 1.5,
    "squared distance": lambda gap: gap.square().sum(-1),
    "distance^3": lambda gap: gap.norm(dim=-1) ** 3,
    "sum of coordinates": lambda gap: gap.abs().sum(-1),
}
"""Convex costs of a displacement, by name."""


def straightness(
    velocity: Velocity,
    x0: Float[Tensor, "*members n d"],
    *,
    num_steps: int = 50,
    method: str = "rk4",
) -> Float[Tensor, "*members"]:
    """Return S = ∫ E|Z₁ - Z₀ - v(Z_t, t)|² dt along the flow; zero where all paths are straight at constant speed.

    [rectified-flow, section 2.1]. The integral is taken by the midpoint rule on `num_steps` equal parts.

    >>> round(straightness(lambda t, x: torch.ones_like(x), torch.zeros(3, 2)).item(), 6)
    0.0
    """
    times = torch.linspace(0, 1, 2 * num_steps + 1, dtype=torch.float64)
    path = integrate(velocity, x0, times, num_steps=2 * num_steps, method=method)
    total = path[-1] - path[0]
    squares = [
        (total - velocity(time.to(x0), point)).square().sum(-1).mean(-1)
        for time, point in zip(times[1::2], path[1::2], strict=True)
    ]
    return torch.stack(squares).mean(0).detach()


def curvature(path: Float[Tensor, "times *batch d"]) -> Float[Tensor, "times-2 *batch"]:
    """Return the curvature of paths, 1 over the radius of the circle through three points in a row; 0 where nothing moves.

    >>> angle = torch.linspace(0, 1, 5)
    >>> circle = 2 * torch.stack([angle.cos(), angle.sin()], dim=-1)[:, None]
    >>> curvature(circle)[:, 0].tolist()
    [0.5, 0.5, 0.5]
    """
    a, b = path[1:-1] - path[:-2], path[2:] - path[1:-1]
    sides = a.norm(dim=-1) * b.norm(dim=-1) * (a + b).norm(dim=-1)
    area = (a.square().sum(-1) * b.square().sum(-1) - (a * b).sum(-1).square()).clamp_min(0).sqrt()
    return torch.where(sides > 1e-12, 2 * area / sides.clamp_min(1e-12), torch.zeros_like(sides)).round(decimals=6)


def transport_cost(
    x0: Float[Tensor, "*members n d"], x1: Float[Tensor, "*members n d"], cost: str = "squared distance"
) -> Float[Tensor, "*members"]:
    """Return the mean convex cost of moving each point to its partner [rectified-flow, theorem 3.5].

    Parameters
    ----------
    cost
        A key of `COSTS`.

    Raises
    ------
    ValueError
        If the cost is unknown or the ends differ in shape.

    >>> transport_cost(torch.zeros(1, 2), torch.tensor([[3.0, 4.0]]), "distance").item()
    5.0
    """
    check_same_shape(x0=x0, x1=x1)
    if cost not in COSTS:
        raise ValueError(f"cost must be one of {', '.join(map(repr, COSTS))}, got {cost!r}.")
    return COSTS[cost](x1 - x0).mean(-1)


def wasserstein(x: Float[Tensor, "n d"], y: Float[Tensor, "m d"], *, power: float = 2.0) -> float:
    """Return the exact Wasserstein distance of two clouds of points, in the units of the points.

    Solved as an assignment by SciPy where the clouds are equally large, and as a linear program by POT otherwise.
    Samples of one and the same law are some way apart, too: compare with the distance of two fresh ones.

    Raises
    ------
    ValueError
        If the dimensions differ or `power` is below 1.

    >>> wasserstein(torch.zeros(2, 1), torch.full((2, 1), 3.0))
    3.0
    """
    check_ndim(2, x=x, y=y)
    check_same_last_dim(x=x, y=y)
    if not power >= 1:
        raise ValueError(f"power must be at least 1, got {power!r}.")
    cost = torch.cdist(x.detach().double(), y.detach().double()).pow(power).cpu().numpy()
    if len(x) == len(y):
        rows, columns = linear_sum_assignment(cost)
        total = float(cost[rows, columns].mean())
    else:
        # Imported where it is needed: it loads much that nobody else asks for.
        import ot

        total = float(ot.emd2([], [], cost, numItermax=1_000_000))
    return float(max(total, 0.0) ** (1 / power))


def sliced_wasserstein(
    x: Float[Tensor, "*members n d"], y: Float[Tensor, "*members n d"], *, num_projections: int = 128, seed: int
) -> Float[Tensor, "*members"]:
    """Return the sliced 2-Wasserstein distance: a mean over random directions, in each of which sorting is optimal.

    Cheap in any dimension, and blind to nothing in the limit; smaller than the Wasserstein distance.

    Raises
    ------
    ValueError
        If the clouds differ in shape.

    >>> sliced_wasserstein(torch.zeros(4, 1), torch.ones(4, 1), seed=0).item()
    1.0
    """
    check_same_shape(x=x, y=y)
    check_int(1, num_projections=num_projections)
    generator = torch.Generator().manual_seed(seed)
    directions = torch.randn(x.shape[-1], num_projections, generator=generator).to(x)
    directions = directions / directions.norm(dim=0)
    gap = (x @ directions).sort(dim=-2).values - (y @ directions).sort(dim=-2).values
    distance: Tensor = gap.square().mean(dim=(-1, -2)).sqrt()
    return distance


def energy_distance(x: Float[Tensor, "n d"], y: Float[Tensor, "m d"]) -> Float[Tensor, ""]:
    """Return 2 E|X - Y| - E|X - X'| - E|Y - Y'|, zero only for equal laws; pairs of a point with itself are left out.

    Without them the estimate is unbiased, and so may fall a little below zero.
    """
    check_same_last_dim(x=x, y=y)
    n, m = len(x), len(y)
    check_int(2, points_of_x=n, points_of_y=m)
    within = torch.cdist(x, x).sum() / (n * (n - 1)) + torch.cdist(y, y).sum() / (m * (m - 1))
    return 2 * torch.cdist(x, y).mean() - within


class TwoSampleTest(NamedTuple):
    """Result of a permutation test: the statistic, and how often chance alone makes it as large."""

    statistic: float
    p_value: float


def kernel_two_sample(
    x: Float[Tensor, "n d"],
    y: Float[Tensor, "m d"],
    *,
    seed: int,
    bandwidth: float | None = None,
    num_permutations: int = 200,
) -> TwoSampleTest:
    """Test whether two clouds come from one law, by the maximum mean discrepancy with a Gaussian kernel.

    Parameters
    ----------
    bandwidth
        Of the kernel; the median distance of all points if left out. It decides which differences are seen: those much
        finer than it are not.
    num_permutations
        How often the points are dealt out anew to learn what chance does.

    >>> g = torch.Generator().manual_seed(0)
    >>> x, y = torch.randn(100, 2, generator=g), torch.randn(100, 2, generator=g) + 1
    >>> kernel_two_sample(x, y, seed=0).p_value < 0.01
    True
    """
    check_same_last_dim(x=x, y=y)
    check_int(19, num_permutations=num_permutations)
    everything = torch.cat([x, y]).double()
    distance = torch.cdist(everything, everything)
    if bandwidth is None:
        bandwidth = float(distance[distance > 0].median())
    check_positive(bandwidth=bandwidth)
    kernel = torch.exp(-distance.square() / (2 * bandwidth**2)).fill_diagonal_(0)
    n, m = len(x), len(y)
    check_int(2, points_of_x=n, points_of_y=m)
    generator = torch.Generator().manual_seed(seed)
    sides = torch.zeros(num_permutations + 1, n + m, dtype=torch.float64)
    sides[0, :n] = 1
    for row in sides[1:]:
        row[torch.randperm(n + m, generator=generator)[:n]] = 1
    other = 1 - sides
    left, right = sides @ kernel, other @ kernel
    statistic = (left * sides).sum(1) / (n * (n - 1)) + (right * other).sum(1) / (m * (m - 1))
    statistic = statistic - 2 * (left * other).sum(1) / (n * m)
    beyond = int((statistic[1:] >= statistic[0]).sum())
    return TwoSampleTest(float(statistic[0]), (1 + beyond) / (1 + num_permutations))


# ---------------------------------------------------------------------------------------------------------------------
# Images
# ---------------------------------------------------------------------------------------------------------------------


def frechet_distance(x: Float[Tensor, "n f"], y: Float[Tensor, "m f"]) -> float:
    """Return the squared 2-Wasserstein distance of Gaussians fitted to two clouds of features.

    The formula of the Fréchet inception distance. With features of a classifier of our own it is *not* that distance:
    numbers of different features cannot be compared.

    >>> x = torch.randn(500, 3, generator=torch.Generator().manual_seed(0))
    >>> round(frechet_distance(x, x + 1), 3)
    3.0
    """
    check_ndim(2, x=x, y=y)
    check_same_last_dim(x=x, y=y)
    check_int(2, points_of_x=len(x), points_of_y=len(y))
    one, other = x.detach().double(), y.detach().double()
    dim = one.shape[1]
    s0, s1 = torch.cov(one.T).view(dim, dim), torch.cov(other.T).view(dim, dim)
    # The trace of the root of a product is the sum of the roots of its eigenvalues.
    roots = torch.linalg.eigvals(s0 @ s1).real.clamp_min(0).sqrt().sum()
    return float((one.mean(0) - other.mean(0)).square().sum() + s0.trace() + s1.trace() - 2 * roots)


class Memorisation(NamedTuple):
    """Share of samples nearer to a training image than most held-out images are, and the two median distances."""

    share: float
    samples: float
    held_out: float


def nearest_neighbour_check(
    samples: Float[Tensor, "n d"],
    train: Float[Tensor, "m d"],
    held_out: Float[Tensor, "k d"],
    *,
    quantile: float = 0.05,
) -> Memorisation:
    """Tell whether samples are copies: nearer to the training set than images that it never saw.

    Returns the share of samples whose nearest training image is nearer than that of all but `quantile` of the held-out
    images. A generator that copies gives 1; one as good as fresh data gives about `quantile`.

    >>> train, fresh = torch.zeros(3, 2), torch.ones(4, 2)
    >>> nearest_neighbour_check(train, train, fresh).share
    1.0
    """
    check_same_last_dim(samples=samples, train=train, held_out=held_out)
    mine, theirs = torch.cdist(samples, train).amin(1), torch.cdist(held_out, train).amin(1)
    share = float((mine < torch.quantile(theirs, quantile)).double().mean())
    return Memorisation(share, float(mine.median()), float(theirs.median()))
