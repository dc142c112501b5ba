"""Time-conditioned networks: a small one for points (or a batched ensemble of them), one for little images."""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import pairwise

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor, nn
from torch.nn import functional

from sciviz.lab.checks import check_int, check_same_last_dim
from sciviz.lab.products import linear, times_transpose


class VelocityField(nn.Module):
    """A plain network (x, t) → velocity for points in d dimensions; with `members`, that many of them as one.

    Called like the right-hand side of a differential equation, `field(t, x)`.

    Parameters
    ----------
    dim
        Dimension of the points.
    width, depth
        Hidden units of a layer, and hidden layers.
    members
        Train and evaluate so many independent networks together: points then have shape (members, batch, dim).
    seed
        Draws the weights.

    Raises
    ------
    ValueError
        If a size is below 1.

    >>> field = VelocityField(2, width=16, depth=2, seed=0)
    >>> field(torch.tensor(0.5), torch.zeros(4, 2)).shape
    torch.Size([4, 2])
    >>> VelocityField(2, width=16, depth=2, members=3, seed=0)(torch.tensor(0.5), torch.zeros(3, 4, 2)).shape
    torch.Size([3, 4, 2])
    """

    def __init__(self, dim: int, *, width: int = 128, depth: int = 3, members: int | None = None, seed: int) -> None:
        super().__init__()
        check_int(1, dim=dim, width=width, depth=depth)
        if members is not None:
            check_int(1, members=members)
        self.dim, self.width, self.depth, self.members = dim, width, depth, members
        generator = torch.Generator().manual_seed(seed)
        sizes = [dim + 1, *[width] * depth, dim]
        lead = () if members is None else (members,)
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        for fan_in, fan_out in pairwise(sizes):
            # Torch's own scale for linear layers: uniform within ±1/sqrt(inputs).
            bound = 1 / math.sqrt(fan_in)
            self.weights.append(nn.Parameter(_uniform((*lead, fan_in, fan_out), bound, generator)))
            self.biases.append(nn.Parameter(_uniform((*lead, 1, fan_out) if lead else (fan_out,), bound, generator)))

    def forward(self, t: Tensor, x: Float[Tensor, "*members batch dim"]) -> Float[Tensor, "*members batch dim"]:
        """Return the velocity at times that broadcast against the points."""
        if x.shape[-1] != self.dim:
            raise ValueError(f"x must have {self.dim} numbers a point, got shape {tuple(x.shape)}.")
        h = self.inputs(t, x)
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            if layer:
                h = functional.silu(h)
            h = _affine(h, weight, bias)
        return h

    def inputs(self, t: Tensor, x: Tensor) -> Tensor:
        """Return points with their time as one more coordinate."""
        time = t.to(x.dtype) if t.ndim == x.ndim else t.to(x.dtype).reshape(-1, *(1,) * (x.ndim - 1))
        return torch.cat([x, time.expand(*x.shape[:-1], 1)], dim=-1)

    @torch.no_grad()
    def write_gradient(self, h: Tensor, wanted: Tensor) -> Tensor:
        """Write the gradient of the mean squared error into the parameters, and return the error.

        The backward pass by hand. Autograd gives the same numbers; it also records, allocates and frees a graph
        that here is the same at every step. `h` is what `inputs` returns.
        """
        before, kept = [], []
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            if layer:
                before.append(h)
                h = functional.silu(h)
            kept.append(h)
            h = _affine(h, weight, bias)
        error = h.sub_(wanted)
        # Each member has a loss of its own, and the gradient is that of their sum.
        share = error.numel() / (self.members or 1)
        loss = error.square().mean(dim=(-1, -2))
        back = error.mul_(2 / share)
        for layer in range(len(self.weights) - 1, -1, -1):
            weight, bias = self.weights[layer], self.biases[layer]
            if weight.grad is None or bias.grad is None:
                weight.grad, bias.grad = torch.empty_like(weight), torch.empty_like(bias)
            if back.ndim == 2:
                weight.grad = times_transpose(kept[layer].mT, back.mT)
            else:
                torch.matmul(kept[layer].transpose(-1, -2), back, out=weight.grad)
            torch.sum(back, dim=-2, keepdim=back.ndim == 3, out=bias.grad)
            if layer:
                back = times_transpose(back, weight) if back.ndim == 2 else back @ weight.transpose(-1, -2)
                back = torch.ops.aten.silu_backward(back, before[layer - 1])
        return loss

    def member(self, index: int) -> VelocityField:
        """Return one network of an ensemble by itself.

        Raises
        ------
        ValueError
            If this is no ensemble, or has no such member.
        """
        if self.members is None:
            raise ValueError("member needs an ensemble, got a single network.")
        check_int(0, self.members - 1, index=index)
        one = VelocityField(self.dim, width=self.width, depth=self.depth, seed=0).to(self.weights[0])
        with torch.no_grad():
            for mine, theirs in zip(one.weights, self.weights, strict=True):
                mine.copy_(theirs[index])
            for mine, theirs in zip(one.biases, self.biases, strict=True):
                mine.copy_(theirs[index, 0])
        return one


def _affine(h: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return linear(h, weight.mT, bias) if h.ndim == 2 else torch.baddbmm(bias, h, weight)


def _uniform(shape: tuple[int, ...], bound: float, generator: Generator) -> Tensor:
    return torch.rand(shape, generator=generator) * 2 * bound - bound


class ImageField(nn.Module):
    """A residual network for little images as flat vectors, told the time and, if it has classes, a label.

    Each block is scaled and shifted by what it is told. Label `num_classes` means “none in particular”; guidance needs
    it (see `GuidedField`).

    Parameters
    ----------
    dim
        Pixels of an image, 64 for 8 × 8.
    width, depth
        Numbers a block works on, and blocks.
    num_classes
        Labels it can be told; 0 for none.
    seed
        Draws the weights.

    >>> field = ImageField(64, width=32, depth=1, num_classes=10, seed=0)
    >>> field(torch.tensor(0.5), torch.zeros(2, 64), torch.tensor([3, 10])).shape
    torch.Size([2, 64])
    """

    frequencies: Tensor

    def __init__(self, dim: int = 64, *, width: int = 256, depth: int = 3, num_classes: int = 0, seed: int) -> None:
        super().__init__()
        check_int(1, dim=dim, width=width, depth=depth)
        check_int(0, num_classes=num_classes)
        self.dim, self.num_classes = dim, num_classes
        self.register_buffer("frequencies", torch.pi * 2.0 ** torch.arange(6), persistent=False)
        self.enter = nn.Linear(dim, width)
        self.told = nn.Linear(13, width)
        self.label = nn.Embedding(num_classes + 1, width)
        self.blocks = nn.ModuleList(nn.Linear(width, width) for _ in range(2 * depth))
        self.modulate = nn.ModuleList(nn.Linear(width, 2 * width) for _ in range(depth))
        self.leave = nn.Linear(width, dim)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for module in self.modules():
                if isinstance(module, nn.Linear):
                    bound = 1 / math.sqrt(module.in_features)
                    module.weight.copy_(_uniform(tuple(module.weight.shape), bound, generator))
                    module.bias.zero_()
            self.label.weight.copy_(0.5 * torch.randn(self.label.weight.shape, generator=generator))
            # Blocks begin as the identity: the depth then does no harm at first.
            for block in list(self.blocks)[1::2]:
                for parameter in block.parameters():
                    parameter.mul_(0.1)

    def forward(
        self, t: Tensor, x: Float[Tensor, "batch dim"], label: Int[Tensor, " batch"] | None = None
    ) -> Float[Tensor, "batch dim"]:
        """Return the velocity; without `label`, that of no class in particular."""
        check_same_last_dim(x=x, told=torch.empty(self.dim))
        time = t.to(x.dtype).reshape(-1, 1).expand(len(x), 1)
        waves = time * self.frequencies
        if label is None:
            label = torch.full((len(x),), self.num_classes, device=x.device)
        told = functional.silu(self.told(torch.cat([time, waves.sin(), waves.cos()], dim=1)) + self.label(label))
        h = self.enter(x)
        for number, modulate in enumerate(self.modulate):
            scale, shift = modulate(told).chunk(2, dim=1)
            inner = functional.silu(self.blocks[2 * number](h) * (1 + scale) + shift)
            h = h + self.blocks[2 * number + 1](inner)
        result: Tensor = self.leave(functional.silu(h))
        return result


class GuidedField(nn.Module):
    """A class-conditional velocity, pushed further from the unconditional one: v∅ + weight (v_label - v∅).

    Weight 1 is the plain conditional velocity, 0 the unconditional one (classifier-free guidance).

    Raises
    ------
    ValueError
        If the field knows no classes.
    """

    def __init__(self, field: ImageField, label: Int[Tensor, " batch"], weight: float = 1.0) -> None:
        super().__init__()
        if field.num_classes == 0:
            raise ValueError("field must have num_classes of at least 1 to be guided by a label, got 0.")
        self.field, self.label, self.weight = field, label, float(weight)

    def forward(self, t: Tensor, x: Float[Tensor, "batch dim"]) -> Float[Tensor, "batch dim"]:
        """Return the guided velocity."""
        told: Tensor = self.field(t, x, self.label)
        if self.weight == 1.0:
            return told
        free: Tensor = self.field(t, x)
        return torch.lerp(free, told, self.weight)


class ExponentialAverage:
    """A running mean of a network's parameters, which forgets at a rate of 1 - `decay` a step.

    What is averaged wanders less than what is trained.

    >>> layer = nn.Linear(1, 1)
    >>> average = ExponentialAverage(layer.parameters(), decay=0.9)
    >>> average.update(); average.copy_to_parameters()
    """

    def __init__(self, parameters: Iterable[Tensor], decay: float = 0.999) -> None:
        if not 0 <= decay < 1:
            raise ValueError(f"decay must be at least 0 and below 1, got {decay!r}.")
        self.parameters = list(parameters)
        self.mean = [parameter.detach().clone() for parameter in self.parameters]
        self.decay, self.steps = decay, 0

    @torch.no_grad()
    def update(self) -> None:
        """Take the parameters as they are now into the mean; early ones count less, so that the start is forgotten."""
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        torch._foreach_lerp_(self.mean, self.parameters, 1 - decay)

    @torch.no_grad()
    def copy_to_parameters(self) -> None:
        """Put the mean in the place of the parameters."""
        for parameter, mean in zip(self.parameters, self.mean, strict=True):
            parameter.copy_(mean)
