"""Couplings: which point of the source goes with which point of the target, and how batches of pairs are drawn."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from scipy.optimize import linear_sum_assignment
from torch import Generator, Tensor

from sciviz.lab.checks import check_int, check_ndim, check_positive, check_same_last_dim, check_same_length

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


def assign(
    x0: Float[Tensor, "n d"], x1: Float[Tensor, "n d"], *, block: int | None = None, power: float = 2.0
) -> Int[Tensor, " n"]:
    """Return, for every point of `x0`, the index of its partner in `x1` in an optimal assignment.

    Parameters
    ----------
    block
        Assign within blocks of this many points. The solver's time grows like the cube of it: eight blocks of 128
        points cost a twentieth of one of 1,024, for a transport cost a few percent higher.
    power
        The cost of a pair is its distance to this power.

    Raises
    ------
    ValueError
        If the numbers of points or their dimensions differ, or `power` is not positive.

    >>> assign(torch.tensor([[0.0], [10.0]]), torch.tensor([[9.0], [1.0]])).tolist()
    [1, 0]
    """
    check_ndim(2, x0=x0, x1=x1)
    check_same_length(x0=x0, x1=x1)
    check_same_last_dim(x0=x0, x1=x1)
    check_positive(power=power)
    block = len(x0) if block is None else block
    check_int(1, block=block)
    partner = torch.empty(len(x0), dtype=torch.int64)
    for start in range(0, len(x0), block):
        here = slice(start, start + block)
        distance = torch.cdist(x0[here].detach(), x1[here].detach())
        columns = linear_sum_assignment(distance.pow(power).cpu().numpy())[1]
        partner[here] = torch.from_numpy(columns) + start
    return partner.to(x0.device)


def minibatch_ot(
    x0: Float[Tensor, "n d"], x1: Float[Tensor, "n d"], *, block: int | None = 128
) -> tuple[Float[Tensor, "n d"], Float[Tensor, "n d"]]:
    """Pair the points of a batch by optimal transport for the squared distance.

    Both marginals stay what they were: the points are only rearranged. The solver is SciPy's.

    >>> x0, x1 = minibatch_ot(torch.tensor([[0.0], [10.0]]), torch.tensor([[9.0], [1.0]]))
    >>> x1.ravel().tolist()
    [1.0, 9.0]
    """
    return x0, x1[assign(x0, x1, block=block)]


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
