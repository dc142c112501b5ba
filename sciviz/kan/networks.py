"""Networks: Kolmogorov-Arnold layers one after another, and the multilayer perceptron they are compared with."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sciviz.kan.layers import KANLayer
from sciviz.lab.checks import check_choice, check_int


class KAN(nn.Module):
    """A Kolmogorov-Arnold network: `KAN([2, 5, 1])` has two inputs, five hidden nodes and one output [kan-liu, eq. 2.7].

    Parameters
    ----------
    widths
        Nodes of each layer, inputs first.
    num_cells, order
        Grid of the B-splines; other bases take options of their own instead.
    basis, base, learn_scales, noise, options
        As `KANLayer` takes them.
    members
        Number of networks that are trained side by side, each with weights of its own; None is one network.
    seed
        Draws the weights.
    dtype
        Of the weights; small fits need float64.

    Raises
    ------
    ValueError
        If there are fewer than two widths, or one is not positive.

    >>> KAN([2, 5, 1], seed=0)(torch.zeros(7, 2)).shape
    torch.Size([7, 1])
    >>> KAN([2, 5, 1], seed=0, members=3)(torch.zeros(7, 2)).shape
    torch.Size([3, 7, 1])
    """

    def __init__(
        self,
        widths: Sequence[int],
        *,
        seed: int,
        num_cells: int = 5,
        order: int = 3,
        basis: str = "bspline",
        base: str | None = "silu",
        learn_scales: bool = False,
        noise: float | None = None,
        members: int | None = None,
        dtype: torch.dtype = torch.float32,
        **options: Any,
    ) -> None:
        super().__init__()
        _check_widths(widths)
        if basis == "bspline":
            options = {"num_cells": num_cells, "order": order, **options}
        if members is not None:
            check_int(1, members=members)
        self.widths = list(widths)
        self.members = members
        generator = torch.Generator().manual_seed(seed)
        self.layers = nn.ModuleList(
            KANLayer(
                num_in,
                num_out,
                basis=basis,
                base=base,
                learn_scales=learn_scales,
                noise=noise,
                lead=() if members is None else (members,),
                generator=generator,
                **options,
            )
            for num_in, num_out in itertools.pairwise(widths)
        )
        self.to(dtype)

    def forward(self, x: Float[Tensor, "... batch in"]) -> Float[Tensor, "... batch out"]:
        """Return the outputs; an ensemble shares `x` unless it has a leading dimension of members."""
        for layer in self.layers:
            x = layer(x)
        return x

    def __getitem__(self, index: int) -> KANLayer:
        layer = self.layers[index]
        assert isinstance(layer, KANLayer)
        return layer

    def activations(self, x: Float[Tensor, "... batch in"]) -> list[Float[Tensor, "... batch nodes"]]:
        """Return the values at the nodes of every layer, inputs first."""
        found = [x]
        for layer in self.layers:
            found.append(layer(found[-1]))
        return found

    @torch.no_grad()
    def follow(self, x: Float[Tensor, "... batch in"], *, blend: float = 0.02, inputs: bool = True) -> float:
        """Let the grids of all layers follow the data; return the largest change of an edge's function.

        Without `inputs` the first layer's grids stay: right where the inputs' range is known better than from data.
        """
        change = 0.0
        for index in range(len(self.layers)):
            if index or inputs:
                change = max(change, self[index].follow(x, blend=blend))
            x = self[index](x)
        return change

    @torch.no_grad()
    def extend(self, num_cells: int, x: Float[Tensor, "... batch in"]) -> float:
        """Give all splines more cells; return the largest change of an edge's function on the data."""
        change = 0.0
        for index in range(len(self.layers)):
            after = self[index](x)
            change = max(change, self[index].extend(num_cells, x))
            x = after
        return change

    def member(self, index: int) -> KAN:
        """Return one network of an ensemble, as a network of its own."""
        one = copy.copy(self)
        nn.Module.__init__(one)
        one.widths, one.members = list(self.widths), None
        one.layers = nn.ModuleList(self[place].member(index) for place in range(len(self.layers)))
        return one

    def num_active(self) -> int:
        """Return how many parameters one network uses, without those of pruned edges."""
        return sum(self[index].num_active() for index in range(len(self.layers)))


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "tanh": torch.tanh,
    "silu": nn.functional.silu,
    "relu": torch.relu,
}


class BatchedMLP(nn.Module):
    """A multilayer perceptron, or an ensemble of them, with the interface of `KAN`: what trains one trains the other.

    >>> BatchedMLP([2, 8, 1], seed=0, members=3)(torch.zeros(7, 2)).shape
    torch.Size([3, 7, 1])
    """

    def __init__(
        self,
        widths: Sequence[int],
        *,
        seed: int,
        activation: str = "tanh",
        members: int | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        _check_widths(widths)
        check_choice(ACTIVATIONS, activation=activation)
        self.widths, self.members, self.activation = list(widths), members, activation
        generator = torch.Generator().manual_seed(seed)
        lead = () if members is None else (members,)
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        for num_in, num_out in itertools.pairwise(widths):
            bound = num_in**-0.5
            for store, shape in ((self.weights, (*lead, num_in, num_out)), (self.biases, (*lead, 1, num_out))):
                drawn = 2 * torch.rand(shape, generator=generator) - 1
                store.append(nn.Parameter((bound * drawn).to(dtype)))

    def forward(self, x: Float[Tensor, "... batch in"]) -> Float[Tensor, "... batch out"]:
        """Return the outputs; an ensemble shares `x` unless it has a leading dimension of members."""
        for index, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            if index:
                x = ACTIVATIONS[self.activation](x)
            x = x @ weight + bias
        return x

    def num_active(self) -> int:
        """Return how many parameters one network has."""
        return sum(p.numel() for p in self.parameters()) // (self.members or 1)


def _check_widths(widths: Sequence[int]) -> None:
    if len(widths) < 2:
        raise ValueError(f"widths must name at least inputs and outputs, got {list(widths)}.")
    for width in widths:
        check_int(1, width=width)
