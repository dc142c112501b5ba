"""Rectification with one cost in mind: velocities that are made from the gradient of a potential.

Plain rectification lowers every convex cost and is content with any coupling whose lines do not cross, optimal or not.
Allowing only velocities ∇c*(∇f), with c* the conjugate of the chosen cost c, leaves no room for what turns without
getting anywhere. The loss c(v) − v·∇f + c*(∇f) is never negative and is zero where the velocity is ∇c*(∇f)
[c-rectified-flow].
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from sciviz.lab.checks import check_int, check_same_shape

__all__ = [
    "LinearRectification",
    "PotentialField",
    "PowerCost",
    "fit_potential",
    "potential_loss",
    "rectify_linear",
    "symmetric_velocity",
]


@dataclass(frozen=True)
class PowerCost:
    """The convex cost c(v) = |v|^p / p with its conjugate c*(y) = |y|^q / q, 1/p + 1/q = 1.

    Raises
    ------
    ValueError
        If the power is not above 1 and at most 3: above, the conjugate's gradient has an ever steeper corner at zero.

    >>> cost = PowerCost(1.5)
    >>> v = torch.tensor([[3.0, 4.0]])
    >>> y = cost.gradient(v)  # the gradients of a convex function and of its conjugate undo each other
    >>> cost.conjugate_gradient(y)
    tensor([[3.0000, 4.0000]])
    """

    power: float = 2.0

    def __post_init__(self) -> None:
        if not 1 < self.power <= 3:
            raise ValueError(f"power must be above 1 and at most 3, got {self.power!r}.")

    @property
    def conjugate_power(self) -> float:
        """Return q."""
        return self.power / (self.power - 1)

    def __call__(self, v: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch"]:
        """Return c(v)."""
        value: Tensor = v.norm(dim=-1) ** self.power / self.power
        return value

    def gradient(self, v: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch d"]:
        """Return ∇c(v) = |v|^(p−2) v."""
        return _power_gradient(v, self.power)

    def conjugate(self, y: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch"]:
        """Return c*(y)."""
        # Through the square: the norm itself has no derivative at zero.
        return (y.square().sum(-1) + 1e-12) ** (self.conjugate_power / 2) / self.conjugate_power

    def conjugate_gradient(self, y: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch d"]:
        """Return ∇c*(y) = |y|^(q−2) y."""
        return _power_gradient(y, self.conjugate_power)


def _power_gradient(v: Tensor, power: float) -> Tensor:
    return v if power == 2 else v * (v.square().sum(-1, keepdim=True) + 1e-12) ** (power / 2 - 1)


def potential_loss(
    rate: Float[Tensor, "*batch d"], gradient: Float[Tensor, "*batch d"], cost: PowerCost
) -> Float[Tensor, "*batch"]:
    """Return c(v) − v·∇f + c*(∇f), the gap of the Fenchel–Young inequality; ½|v − ∇f|² for the quadratic cost.

    >>> v, y = torch.tensor([[1.0, 2.0]]), torch.tensor([[0.0, 2.0]])
    >>> round(potential_loss(v, y, PowerCost(2.0)).item(), 4)
    0.5
    """
    check_same_shape(rate=rate, gradient=gradient)
    return cost(rate) - (rate * gradient).sum(-1) + cost.conjugate(gradient)


class PotentialField(nn.Module):
    """A small network f(t, x) (or an ensemble) whose gradient in x makes the velocity ∇c*(∇f).

    The gradient is written out, layer by layer, so that training differentiates once instead of twice.

    Parameters
    ----------
    dim
        Dimension of the points.
    cost
        The cost that the velocity is shaped by.
    width, depth, members, seed
        As in `VelocityField`.

    >>> field = PotentialField(2, cost=PowerCost(2.0), width=8, depth=2, seed=0)
    >>> x = torch.randn(5, 2, requires_grad=True)
    >>> by_autograd = torch.autograd.grad(field.potential(torch.tensor(0.5), x).sum(), x)[0]
    >>> torch.allclose(field(torch.tensor(0.5), x), by_autograd, atol=1e-6)
    True
    """

    def __init__(
        self, dim: int, *, cost: PowerCost, width: int = 64, depth: int = 2, members: int | None = None, seed: int
    ) -> None:
        super().__init__()
        check_int(1, dim=dim, width=width, depth=depth)
        self.dim, self.cost = dim, cost
        generator = torch.Generator().manual_seed(seed)
        lead = () if members is None else (members,)
        sizes = [dim + 1, *[width] * depth, 1]
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        for fan_in, fan_out in pairwise(sizes):
            bound = fan_in**-0.5 * (1.0 if fan_out == 1 else 1.7)
            self.weights.append(nn.Parameter((2 * torch.rand(*lead, fan_in, fan_out, generator=generator) - 1) * bound))
            self.biases.append(nn.Parameter((2 * torch.rand(*lead, 1, fan_out, generator=generator) - 1) * bound))

    def _hidden(self, t: Tensor, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        time = t.to(x.dtype) if t.ndim == x.ndim else t.to(x.dtype).reshape(-1, *(1,) * (x.ndim - 1))
        h, kept = torch.cat([x, time.expand(*x.shape[:-1], 1)], dim=-1), []
        for weight, bias in zip(list(self.weights)[:-1], list(self.biases)[:-1], strict=True):
            before = h @ weight + bias
            kept.append(before)
            h = functional.softplus(before, beta=2)
        return h, kept

    def potential(self, t: Tensor, x: Float[Tensor, "*members batch dim"]) -> Float[Tensor, "*members batch"]:
        """Return f(t, x)."""
        h, _ = self._hidden(t, x)
        value: Tensor = (h @ self.weights[-1] + self.biases[-1])[..., 0]
        return value

    def gradient(self, t: Tensor, x: Float[Tensor, "*members batch dim"]) -> Float[Tensor, "*members batch dim"]:
        """Return ∇f(t, x)."""
        _, kept = self._hidden(t, x)
        back: Tensor = self.weights[-1].transpose(-1, -2)
        for weight, before in zip(reversed(list(self.weights)[:-1]), reversed(kept), strict=True):
            back = (back * torch.sigmoid(2 * before)) @ weight.transpose(-1, -2)
        return back[..., : self.dim]

    def forward(self, t: Tensor, x: Float[Tensor, "*members batch dim"]) -> Float[Tensor, "*members batch dim"]:
        """Return the velocity ∇c*(∇f(t, x))."""
        return self.cost.conjugate_gradient(self.gradient(t, x))


def fit_potential(
    field: PotentialField,
    draw: Callable[[torch.Generator], tuple[Tensor, ...]],
    *,
    num_steps: int,
    lr: float = 5e-3,
    seed: int,
) -> Float[Tensor, " num_steps"]:
    """Train a potential (or an ensemble) in place on lines between pairs; return the loss of each step.

    Parameters
    ----------
    draw
        Generator → a batch of pairs; see `sciviz.flow.couplings`.

    >>> from sciviz.flow.couplings import given_pairs
    >>> field = PotentialField(1, cost=PowerCost(2.0), width=8, depth=1, seed=0)
    >>> draw = given_pairs(torch.zeros(4, 1), torch.ones(4, 1), batch_size=4)
    >>> loss = fit_potential(field, draw, num_steps=100, lr=0.05, seed=0)
    >>> bool(loss[-1] < 0.1 * loss[0])
    True
    """
    check_int(1, num_steps=num_steps)
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(field.parameters(), lr=lr, fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, num_steps)
    losses = []
    for _ in range(num_steps):
        x0, x1 = draw(generator)[:2]
        t = torch.rand(*x0.shape[:-1], 1, generator=generator)
        per_point = potential_loss(x1 - x0, field.gradient(t, torch.lerp(x0, x1, t)), field.cost)
        loss = per_point.mean(-1).sum()  # members of an ensemble do not share a loss
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        losses.append(per_point.detach().mean())
    return torch.stack(losses)


# ------------------------------------------------------------------------------------------- Gaussians, exactly


def symmetric_velocity(
    mix: Float[Tensor, "*batch d d"], covariance: Float[Tensor, "*batch d d"]
) -> Float[Tensor, "*batch d d"]:
    """Return the symmetric S nearest to a velocity field: the least E|Ẋ − S X|², with mix = E[Ẋ Xᵀ].

    A linear field S x is a gradient exactly if S is symmetric. S solves S C + C S = mix + mixᵀ.

    >>> turn = torch.tensor([[0.0, -1.0], [1.0, 0.0]])  # a rotation of a round Gaussian has no gradient part
    >>> symmetric_velocity(turn, torch.eye(2)).abs().max()
    tensor(0.)
    """
    values, vectors = torch.linalg.eigh(covariance)
    both = mix + mix.transpose(-1, -2)
    turned = vectors.transpose(-1, -2) @ both @ vectors
    turned = turned / (values[..., :, None] + values[..., None, :])
    result: Tensor = vectors @ turned @ vectors.transpose(-1, -2)
    return result


@dataclass(frozen=True)
class LinearRectification:
    """Rounds of rectifying x ↦ B x: the maps after each round, given one first, shape (rounds + 1, ..., d, d)."""

    maps: Float[Tensor, "rounds *batch d d"]

    def cost(self) -> Float[Tensor, "rounds *batch"]:
        """Return E|X₁ − X₀|² of each, for a standard normal X₀."""
        eye = torch.eye(self.maps.shape[-1], dtype=self.maps.dtype)
        return (self.maps - eye).square().sum(dim=(-1, -2))


def rectify_linear(
    B: Float[Tensor, "*batch d d"], *, rounds: int = 3, gradient: bool = True, num_steps: int = 100
) -> LinearRectification:
    """Rectify the coupling (X₀, B X₀) of Gaussians with exact fields, by gradients only or without restriction.

    Raises
    ------
    ValueError
        If B is not a square matrix.

    >>> angle = torch.tensor(2.0).double()
    >>> turn = torch.stack([torch.stack([angle.cos(), -angle.sin()]), torch.stack([angle.sin(), angle.cos()])])
    >>> stretched = torch.diag(torch.tensor([2.0, 0.5]).double()) @ turn
    >>> [round(float(cost), 2) for cost in rectify_linear(stretched).cost()]  # the least cost is 1.25
    [8.33, 1.61, 1.25, 1.25]
    >>> [round(float(cost), 2) for cost in rectify_linear(stretched, gradient=False).cost()]
    [8.33, 8.33, 8.33, 8.33]
    """
    check_int(1, rounds=rounds, num_steps=num_steps)
    if B.ndim < 2 or B.shape[-1] != B.shape[-2]:
        raise ValueError(f"B must be a square matrix or a batch of them, got shape {tuple(B.shape)}.")
    eye = torch.eye(B.shape[-1], dtype=B.dtype)

    def field(t: float, end: Tensor) -> Tensor:
        position, rate = eye + t * (end - eye), end - eye
        if not gradient:
            free: Tensor = torch.linalg.solve(position.mT, rate.mT).mT
            return free
        transposed = position.transpose(-1, -2)
        return symmetric_velocity(rate @ transposed, position @ transposed)

    maps = [B]
    h = 1 / num_steps
    for _ in range(rounds):
        moved = eye.expand_as(B)
        for k in range(num_steps):
            first, middle, last = (field(t, maps[-1]) for t in (k * h, (k + 0.5) * h, (k + 1) * h))
            k1 = first @ moved
            k2 = middle @ (moved + h / 2 * k1)
            k3 = middle @ (moved + h / 2 * k2)
            moved = moved + h / 6 * (k1 + 2 * k2 + 2 * k3 + last @ (moved + h * k3))
        maps.append(moved)
    return LinearRectification(torch.stack(maps))
