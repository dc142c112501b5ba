"""Couplings: which point of the source goes with which point of the target, and how batches of pairs are drawn."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist
from torch import Generator, Tensor

from sciviz.lab.checks import check_int, check_ndim, check_positive, check_same_last_dim, check_same_length

Array = NDArray[np.float64]
IntArray = NDArray[np.int64]

Sampler = Callable[[int, Generator], Tensor]
"""Number and generator → that many points, shape (number, d)."""
Draw = Callable[[Generator], tuple[Tensor, ...]]
"""Generator → a batch of pairs (x₀, x₁), and labels where there are any."""
Coupling = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""Points of the source and of the target → the same points, rearranged into pairs."""


def independent(x0: Float[Tensor, "n d"], x1: Float[Tensor, "n d"]) -> tuple[Tensor, Tensor]:
    """Leave samples in the order in which they were drawn: no point knows of its partner."""
    check_same_length(x0=x0, x1=x1)
    return x0, x1


def _cells(points: Array, most: int, rng: np.random.Generator) -> list[IntArray]:
    """Split points (n, d) into cells of at most `most` points: halve every cell along a random direction, again and again."""
    number, count = len(points), 1
    cell, order = np.zeros(number, dtype=np.int64), np.arange(number)
    while count * most < number:
        order = np.lexsort((points @ rng.standard_normal(points.shape[1]), cell))
        count *= 2
        cell[order] = np.arange(number) * count // number
    return np.split(order, np.searchsorted(cell[order], np.arange(1, count)))


def _costs(source: Array, target: Array, power: float) -> Array:
    """Return distances to a power, (n, n), up to constants of rows and columns, which leave the best assignment what it is.

    They are chosen so that the solver starts near to it. In |a|² + |b|² - 2ab only the product says who goes with whom, and
    it stays if the clouds are shifted, or one is stretched as the other is shrunk. Clouds of one place and size need about
    half the time; that every column's least entry is zero saves a little more.
    """
    if power == 2:
        source, target = source - source.mean(0), target - target.mean(0)
        spreads = np.linalg.norm(source), np.linalg.norm(target)
        stretch = float(np.sqrt(spreads[1] / spreads[0])) if min(spreads) > 0 else 1.0
        cost = cdist(source * stretch, target / stretch, "sqeuclidean")
    else:
        cost = cdist(source, target) ** power
    cost -= cost.min(0)
    return np.asarray(cost)


def assign(
    x0: Float[Tensor, "n d"], x1: Float[Tensor, "n d"], *, block: int | None = None, passes: int = 1, power: float = 2.0
) -> Int[Tensor, " n"]:
    """Return, for every point of `x0`, the index of its partner in `x1` in an optimal assignment.

    With `block` and `passes` the assignment is nearly optimal and much cheaper. The first pass assigns within blocks of
    the order given. Each further pass groups the pairs anew, by where they are halfway, and assigns within each group
    exactly: two pairs that meet halfway always lower the squared distance by exchanging partners. No pass can raise the
    cost. This is Benamou's domain decomposition, with cells of pairs where his are of sources (see Bonafini and
    Schmitzer, Domain decomposition for entropy regularized optimal transport, Numer. Math. 149, 2021).

    Parameters
    ----------
    block
        Assign within blocks of at most this many points; None, or at least n, is exact. The solver's time grows like the
        cube of it.
    passes
        How often to assign within blocks. For 1,024 points in the plane, six passes of 32 come within about one percent
        of the exact cost in a ninth of its time; one of 128 is about nine above it, in a twentieth. In 64 dimensions
        both stay about a tenth above: there no two pairs are near.
    power
        The cost of a pair is its distance to this power.

    Returns
    -------
    A permutation of 0, …, n - 1, on the device of `x0`. The same points always give the same one: the directions along
    which pairs are grouped come from a generator of their own.

    Raises
    ------
    ValueError
        If the numbers of points or their dimensions differ, `block` or `passes` is below one, or `power` is not positive.

    >>> assign(torch.tensor([[0.0], [10.0]]), torch.tensor([[9.0], [1.0]])).tolist()
    [1, 0]
    """
    check_ndim(2, x0=x0, x1=x1)
    check_same_length(x0=x0, x1=x1)
    check_same_last_dim(x0=x0, x1=x1)
    check_positive(power=power)
    block = len(x0) if block is None else block
    check_int(1, block=block, passes=passes)
    # The solver wants float64; from float32 the squares of small distances would be rounded before it sees them.
    source, target = (x.detach().cpu().double().numpy() for x in (x0, x1))
    partner = np.arange(len(source))
    groups = [np.arange(start, min(start + block, len(source))) for start in range(0, len(source), block)]
    rng = np.random.default_rng(0)
    for done in range(passes if len(groups) > 1 else 1):
        if done:
            groups = _cells((source + target[partner]) / 2, block, rng)
        for group in groups:
            cost = _costs(source[group], target[partner[group]], power)
            partner[group] = partner[group][linear_sum_assignment(cost)[1]]
    return torch.from_numpy(partner).to(x0.device)


def minibatch_ot(
    x0: Float[Tensor, "n d"], x1: Float[Tensor, "n d"], *, block: int | None = 32, passes: int = 6
) -> tuple[Float[Tensor, "n d"], Float[Tensor, "n d"]]:
    """Pair the points of a batch by optimal transport for the squared distance.

    Both marginals stay what they were: the points are only rearranged. The solver is SciPy's; `block=None` is exact.

    Parameters
    ----------
    block, passes
        As in `assign`: more of either brings the pairs nearer to the exact ones, and takes longer.

    >>> x0, x1 = minibatch_ot(torch.tensor([[0.0], [10.0]]), torch.tensor([[9.0], [1.0]]))
    >>> x1.ravel().tolist()
    [1.0, 9.0]
    """
    return x0, x1[assign(x0, x1, block=block, passes=passes)]


def normal(dim: int) -> Sampler:
    """Return a sampler of standard Gaussian points.

    >>> normal(3)(5, torch.Generator().manual_seed(0)).shape
    torch.Size([5, 3])
    """
    check_int(1, dim=dim)
    return lambda num, generator: torch.randn(num, dim, generator=generator, device=generator.device)


def resample(X: Float[Tensor, "n d"]) -> Sampler:
    """Return a sampler that draws from a set of points, with replacement."""
    check_ndim(2, X=X)

    def draw(num: int, generator: Generator) -> Tensor:
        return X[torch.randint(len(X), (num,), generator=generator, device=X.device)]

    return draw


def pairs_of(
    source: Sampler, target: Sampler, *, batch_size: int, members: int | None = None, coupling: Coupling = independent
) -> Draw:
    """Return a function that draws batches of pairs from two samplers.

    Parameters
    ----------
    members
        Draw one batch a member of an ensemble: the points have shape (members, batch_size, d).
    coupling
        How a batch is rearranged into pairs.

    >>> draw = pairs_of(normal(2), normal(2), batch_size=4)
    >>> [part.shape for part in draw(torch.Generator().manual_seed(0))]
    [torch.Size([4, 2]), torch.Size([4, 2])]
    """
    check_int(1, batch_size=batch_size)
    if members is not None:
        check_int(1, members=members)

    def draw(generator: Generator) -> tuple[Tensor, ...]:
        number = batch_size * (members or 1)
        x0, x1 = source(number, generator), target(number, generator)
        if members is None:
            return coupling(x0, x1)
        shape = (members, batch_size, -1)
        x0, x1 = x0.view(shape), x1.view(shape)
        if coupling is independent:
            return x0, x1
        both = [coupling(one, other) for one, other in zip(x0, x1, strict=True)]
        return torch.stack([one for one, _ in both]), torch.stack([other for _, other in both])

    return draw


def given_pairs(
    x0: Float[Tensor, "*members n d"],
    x1: Float[Tensor, "*members n d"],
    labels: Int[Tensor, " n"] | None = None,
    *,
    batch_size: int,
) -> Draw:
    """Return a function that draws batches from pairs that are given, as reflow does.

    Raises
    ------
    ValueError
        If the two ends differ in shape.

    >>> draw = given_pairs(torch.zeros(10, 2), torch.ones(10, 2), batch_size=3)
    >>> draw(torch.Generator().manual_seed(0))[1].shape
    torch.Size([3, 2])
    """
    check_int(1, batch_size=batch_size)
    if x0.shape != x1.shape:
        raise ValueError(f"x0 and x1 must have the same shape, got {tuple(x0.shape)} and {tuple(x1.shape)}.")
    number = x0.shape[-2]

    def draw(generator: Generator) -> tuple[Tensor, ...]:
        if x0.ndim == 3:
            chosen = torch.randint(number, (len(x0), batch_size), generator=generator, device=x0.device)
            index = chosen[..., None].expand(-1, -1, x0.shape[-1])
            return x0.gather(1, index), x1.gather(1, index)
        chosen = torch.randint(number, (batch_size,), generator=generator, device=x0.device)
        parts = (x0, x1) if labels is None else (x0, x1, labels)
        return tuple(part[chosen] for part in parts)

    return draw
