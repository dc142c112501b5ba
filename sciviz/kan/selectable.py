"""Layers whose nodes choose among families of functions: the selectable Kolmogorov-Arnold network [s-kan].

    y_o = Σ_k softmax(s_o)_k · Σ_i φᵏ_{i,o}(x_i)

Each node o holds functions of several families k (splines, polynomials, waves, bumps) on its edges, and scores s for
them. All are trained together first; then `select` keeps each node's best family and drops the others, and training goes
on with what is left.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from sciviz.kan.layers import KANLayer
from sciviz.lab.checks import check_int

FAMILIES: dict[str, dict[str, Any]] = {
    "bspline": {"num_cells": 5, "order": 3},
    "chebyshev": {"degree": 7},
    "radial": {"num_centres": 8},
    "fourier": {"num_waves": 4},
}
"""Families of eight functions (nine for the waves, which come in pairs), with the options that make them so."""


class SelectableLayer(nn.Module):
    """Nodes that choose among families of functions [s-kan].

    Parameters
    ----------
    families
        Name of a basis → its options.
    lead
        Sizes of leading dimensions: (5,) is an ensemble of five layers.
    generator
        Draws the weights.

    >>> layer = SelectableLayer(2, 3, generator=torch.Generator().manual_seed(0))
    >>> layer(torch.zeros(5, 2)).shape, layer.shares().sum(0).tolist()
    (torch.Size([5, 3]), [1.0, 1.0, 1.0])
    """

    chosen: Tensor

    def __init__(
        self,
        num_inputs: int,
        num_outputs: int,
        *,
        families: Mapping[str, Mapping[str, Any]] = FAMILIES,
        lead: tuple[int, ...] = (),
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        if not families:
            raise ValueError("families must name at least one basis, got none.")
        self.names = list(families)
        self.layers = nn.ModuleList(
            KANLayer(num_inputs, num_outputs, basis=name, lead=lead, generator=generator, **options)
            for name, options in families.items()
        )
        self.scores = nn.Parameter(torch.zeros(*lead, len(families), num_outputs))
        # 1 for a family that a node may still use: all of them until `select`.
        self.register_buffer("chosen", torch.ones(*lead, len(families), num_outputs))

    def shares(self) -> Float[Tensor, "... families out"]:
        """Return each family's weight at each node; they add up to one."""
        return torch.softmax(self.scores.masked_fill(self.chosen == 0, -torch.inf), dim=-2)

    def forward(self, x: Float[Tensor, "... batch in"]) -> Float[Tensor, "... batch out"]:
        """Return the nodes' weighted sums."""
        shares = self.shares()
        parts = [layer(x) * shares[..., k, None, :] for k, layer in enumerate(self.layers)]
        return torch.stack(parts).sum(0)

    @torch.no_grad()
    def select(self) -> Int[Tensor, "... out"]:
        """Keep the family with the largest share at each node, for good; return its index.

        The family kept takes over with the weight one, so its functions are scaled by their former share.
        """
        shares = self.shares()
        best = shares.argmax(-2)
        self.chosen.zero_().scatter_(-2, best.unsqueeze(-2), 1.0)
        for k, layer in enumerate(self.layers):
            assert isinstance(layer, KANLayer)
            layer.coef.mul_(shares[..., k, :][..., None, None, :])
            if layer.base_weight is not None:
                layer.base_weight.mul_(shares[..., k, :][..., None, :])
        return best

    @torch.no_grad()
    def follow(self, x: Float[Tensor, "... batch in"]) -> None:
        """Let all families' ranges follow the data."""
        for layer in self.layers:
            assert isinstance(layer, KANLayer)
            layer.follow(x, blend=1.0)


class SelectableKAN(nn.Module):
    """A Kolmogorov-Arnold network whose nodes choose their family of functions [s-kan].

    With one family it is a KAN with that basis.

    Parameters
    ----------
    widths
        Nodes of each layer, inputs first.
    members
        Number of networks trained side by side; None is one network.

    >>> network = SelectableKAN([2, 4, 1], seed=0)
    >>> [best.shape[-1] for best in network.select()], network(torch.zeros(3, 2)).shape
    ([4, 1], torch.Size([3, 1]))
    """

    def __init__(
        self,
        widths: Sequence[int],
        *,
        seed: int,
        families: Mapping[str, Mapping[str, Any]] = FAMILIES,
        members: int | None = None,
    ) -> None:
        super().__init__()
        if len(widths) < 2:
            raise ValueError(f"widths must name at least inputs and outputs, got {list(widths)}.")
        check_int(0, seed=seed)
        if members is not None:
            check_int(1, members=members)
        generator = torch.Generator().manual_seed(seed)
        lead = () if members is None else (members,)
        self.members = members
        self.layers = nn.ModuleList(
            SelectableLayer(n, m, families=families, lead=lead, generator=generator) for n, m in pairwise(widths)
        )

    def forward(self, x: Float[Tensor, "... batch in"]) -> Float[Tensor, "... batch out"]:
        """Return the outputs; an ensemble shares `x` unless it has a leading dimension of members."""
        for layer in self.layers:
            x = layer(x)
        return x

    def select(self) -> list[Int[Tensor, "... out"]]:
        """Let every node keep its best family only; return the choices, layer by layer."""
        return [layer.select() for layer in self._parts()]

    @torch.no_grad()
    def follow(self, x: Float[Tensor, "... batch in"]) -> None:
        """Let the ranges of all layers follow the data."""
        for layer in self._parts():
            layer.follow(x)
            x = layer(x)

    def _parts(self) -> list[SelectableLayer]:
        return [layer for layer in self.layers if isinstance(layer, SelectableLayer)]

    def num_active(self) -> int:
        """Return how many parameters one network uses: those of families not selected do not count, nor do scores."""
        total = 0.0
        for part in self._parts():
            for k, layer in enumerate(part.layers):
                assert isinstance(layer, KANLayer)
                nodes = float(part.chosen[..., k, :].sum()) / (self.members or 1)
                total += nodes * layer.num_inputs * (layer.basis.num_bases + (layer.base_weight is not None))
        return round(total)
