"""A Kolmogorov-Arnold layer: a learnt function on each edge, and sums at the nodes [kan-liu, eq. 2.5 and 2.10].

    y_o = Σ_i φ_{i,o}(x_i),     φ(x) = w_b b(x) + w_s Σ_f c_f F_f(x)

with a fixed base function b, one of the families F of `sciviz.kan.bases`, and learnt w_b, w_s and c.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sciviz.kan import splines
from sciviz.kan.bases import BASES, Basis, BSplines
from sciviz.lab.checks import check_choice, check_int
from sciviz.lab.products import product

BASE_FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "silu": torch.nn.functional.silu,
    "identity": lambda x: x,
    "tanh": torch.tanh,
}


class KANLayer(nn.Module):
    """Functions on the edges from `num_inputs` to `num_outputs` nodes, and their sums.

    Parameters
    ----------
    basis
        A key of `BASES`: bspline, chebyshev, radial, fourier, rational.
    base
        The fixed function b of each edge: silu, identity, tanh, or None for none.
    learn_scales
        Learn a factor w_s on each edge's weighted sum. It adds nothing that the coefficients cannot do, and changes how
        fast they are learnt.
    lead
        Sizes of leading dimensions: (5,) is an ensemble of five layers that are trained side by side.
    noise
        None starts with a variance that is kept: the output's mean square is the input's, one half of it from b and one
        half from the sum. A number starts the coefficients with that standard deviation, and b with a variance kept.
    generator
        Draws the weights.
    basis_options
        Passed to the basis, such as `num_cells`, `order` and `extrapolation` of B-splines.

    Raises
    ------
    ValueError
        If a size or a word is not accepted.

    >>> layer = KANLayer(3, 2, generator=torch.Generator().manual_seed(0), num_cells=8)
    >>> layer(torch.zeros(5, 3)).shape, layer.edges(torch.zeros(5, 3)).shape
    (torch.Size([5, 2]), torch.Size([5, 3, 2]))
    """

    mask: Tensor | None

    def __init__(
        self,
        num_inputs: int,
        num_outputs: int,
        *,
        basis: str = "bspline",
        base: str | None = "silu",
        learn_scales: bool = False,
        lead: tuple[int, ...] = (),
        noise: float | None = None,
        generator: torch.Generator,
        **basis_options: Any,
    ) -> None:
        super().__init__()
        check_int(1, num_inputs=num_inputs, num_outputs=num_outputs)
        check_choice(BASES, basis=basis)
        if base is not None:
            check_choice(BASE_FUNCTIONS, base=base)
        make: Callable[..., Basis] = BASES[basis]
        self.basis = make(num_inputs, lead=lead, **basis_options)
        self.num_inputs, self.num_outputs, self.base_name, self.lead = num_inputs, num_outputs, base, lead
        shape = (*lead, num_inputs, self.basis.num_bases, num_outputs)
        size = self._sizes()
        share = 1.0 if base is None else 0.5
        deviation = torch.sqrt(share * size["input"] / (num_inputs * size["bases"])) if noise is None else noise
        self.coef = nn.Parameter(torch.randn(shape, generator=generator) * deviation)
        self.base_weight: nn.Parameter | None = None
        if base is not None:
            share = 0.5 if noise is None else 1.0
            drawn = torch.randn((*lead, num_inputs, num_outputs), generator=generator)
            self.base_weight = nn.Parameter(drawn * torch.sqrt(share * size["input"] / (num_inputs * size["base"])))
        self.scale = nn.Parameter(torch.ones(*lead, num_inputs, num_outputs)) if learn_scales else None
        self.register_buffer("mask", None)
        self.fixed = nn.ModuleDict()

    @torch.no_grad()
    def _sizes(self) -> dict[str, Tensor]:
        """Mean squares over the range of an input, of b, and of all basis functions together."""
        low, high = self.basis.domain()
        place = torch.linspace(0, 1, 400)[:, None]
        x = low[..., None, :] * (1 - place) + high[..., None, :] * place
        sizes = {"input": x.square().mean(), "bases": self.basis.values(x).square().sum(-1).mean()}
        if self.base_name is not None:
            sizes["base"] = BASE_FUNCTIONS[self.base_name](x).square().mean()
        return sizes

    def weights(self) -> tuple[Float[Tensor, "... in bases out"], Float[Tensor, "... in out"] | None]:
        """Return the coefficients and base weights in effect: with scales, and without what is pruned or fixed."""
        coef: Tensor = self.coef
        base: Tensor | None = self.base_weight
        if self.scale is not None:
            coef = coef * self.scale[..., None, :]
        if self.mask is not None:
            coef = coef * self.mask[..., None, :]
            base = base * self.mask if base is not None else None
        return coef, base

    def forward(self, x: Float[Tensor, "... batch in"]) -> Float[Tensor, "... batch out"]:
        """Return the nodes' sums.

        Raises
        ------
        ValueError
            If the last dimension is not the number of inputs.
        """
        if x.shape[-1] != self.num_inputs:
            raise ValueError(
                f"x must have {self.num_inputs} features in its last dimension, got shape {tuple(x.shape)}."
            )
        coef, base = self.weights()
        y = self.basis.combine(x, coef)
        if base is not None and self.base_name is not None:
            y = y + product(BASE_FUNCTIONS[self.base_name](x), base)
        for (i, o), edge in self.fixed_edges().items():
            onto = torch.zeros(self.num_outputs, dtype=y.dtype, device=y.device)
            onto[o] = 1.0
            y = y + edge(x[..., i])[..., None] * onto
        return y

    def edges(self, x: Float[Tensor, "... batch in"]) -> Float[Tensor, "... batch in out"]:
        """Return each edge's value, which the nodes sum up."""
        coef, base = self.weights()
        values = torch.einsum("...bif,...ifo->...bio", self.basis.values(x), coef)
        if base is not None and self.base_name is not None:
            values = values + BASE_FUNCTIONS[self.base_name](x)[..., None] * base[..., None, :, :]
        for (i, o), edge in self.fixed_edges().items():
            onto = torch.zeros(self.num_inputs, self.num_outputs, dtype=values.dtype, device=values.device)
            onto[i, o] = 1.0
            values = values + edge(x[..., i])[..., None, None] * onto
        return values

    def fixed_edges(self) -> Mapping[tuple[int, int], nn.Module]:
        """Return the edges that are fixed to a formula, by (input, output)."""
        return {(int(i), int(o)): edge for name, edge in self.fixed.items() for i, o in [name.split("_")]}

    def active(self) -> Float[Tensor, "... in out"]:
        """Return 1 for each edge that carries a function, learnt or fixed, and 0 for each that is pruned."""
        shape = (*self.lead, self.num_inputs, self.num_outputs)
        found = torch.ones(shape, dtype=self.coef.dtype) if self.mask is None else self.mask.detach().cpu().clone()
        for i, o in self.fixed_edges():
            found[..., i, o] = 1.0
        return found

    @torch.no_grad()
    def switch_off(self, i: int, o: int) -> None:
        """Take an edge's learnt function out of the sum (and a fixed one, where it has one)."""
        check_int(0, self.num_inputs - 1, i=i)
        check_int(0, self.num_outputs - 1, o=o)
        if self.mask is None:
            self.mask = torch.ones(
                *self.lead, self.num_inputs, self.num_outputs, dtype=self.coef.dtype, device=self.coef.device
            )
        self.mask[..., i, o] = 0.0
        if f"{i}_{o}" in self.fixed:
            del self.fixed[f"{i}_{o}"]

    @torch.no_grad()
    def follow(self, x: Float[Tensor, "... batch in"], *, blend: float = 0.02, num_points: int = 200) -> float:
        """Let each input's grid follow its data, and refit the functions to the new grid by least squares.

        Returns
        -------
        The largest difference that this makes to an edge's function on the data.
        """
        return self._rebuild(x, lambda basis: basis.follow(x, blend=blend), num_points)

    @torch.no_grad()
    def extend(self, num_cells: int, x: Float[Tensor, "... batch in"] | None = None, *, num_points: int = 0) -> float:
        """Give each spline more cells over the same domain, fitted to what it was [kan-liu, §2.5].

        Parameters
        ----------
        x
            Where the difference is taken; evenly spaced points of the domain if None.

        Returns
        -------
        The largest difference that this makes to an edge's function there. It is rounding where each old knot is also a
        new one (the grid even, and the number of cells a multiple of the old one).
        """
        check_int(1, num_cells=num_cells)
        old = self.basis
        if not isinstance(old, BSplines):
            raise TypeError(f"Only a grid of B-splines can be extended, this layer has {type(old).__name__}.")
        # New knots at the same shares of the old cells, so that a grid that follows data still does.
        inner = old.knots[..., old.order : old.order + old.num_cells + 1]
        place = torch.linspace(0, old.num_cells, num_cells + 1, dtype=inner.dtype, device=inner.device)
        cell = place.floor().long().clamp_max(old.num_cells - 1)
        share = place - cell
        finer = splines.extend_knots(inner[..., cell] * (1 - share) + inner[..., cell + 1] * share, old.order)

        def change(basis: Basis) -> None:
            assert isinstance(basis, BSplines)
            basis.knots, basis.num_cells = finer, num_cells

        return self._rebuild(x, change, num_points or 12 * max(num_cells, old.num_cells))

    def _rebuild(self, x: Tensor | None, change: Callable[[Basis], None], num_points: int) -> float:
        old = copy.deepcopy(self.basis)
        change(self.basis)
        low, high = self.basis.domain()
        place = torch.linspace(0, 1, num_points, dtype=low.dtype, device=low.device)[:, None]
        even = low[..., None, :] * (1 - place) + high[..., None, :] * place
        data = even if x is None else x.detach().expand(*self.lead, *x.shape[-2:])
        even = even.expand(*self.lead, *even.shape[-2:])
        points = even if x is None else torch.cat([data, even], -2)
        before = torch.einsum("...bif,...ifo->...ibo", old.values(points), self.coef)
        matrix = self.basis.values(points).transpose(-3, -2)
        new = splines.fit_coefficients(matrix, before)
        if new.shape == self.coef.shape:
            self.coef.copy_(new)
        else:
            self.coef = nn.Parameter(new.contiguous(), requires_grad=self.coef.requires_grad)
        seen = data.shape[-2]
        after = matrix[..., :seen, :] @ new
        return float((after - before[..., :seen, :]).abs().max()) if seen else 0.0

    def member(self, index: int) -> KANLayer:
        """Return one layer of an ensemble, as a layer of its own."""
        if len(self.lead) != 1:
            raise ValueError(f"Only an ensemble has members, this layer's leading sizes are {self.lead}.")
        check_int(0, self.lead[0] - 1, index=index)
        one = copy.deepcopy(self)
        one.lead = ()
        with torch.no_grad():
            for module in one.modules():
                for name, parameter in list(module.named_parameters(recurse=False)):
                    setattr(module, name, nn.Parameter(parameter[index].clone()))
                for name, buffer in list(module.named_buffers(recurse=False)):
                    setattr(module, name, buffer[index].clone())
        return one

    def num_active(self) -> int:
        """Return how many parameters one member uses: those of what is pruned do not count."""
        per_edge = self.basis.num_bases + (self.base_weight is not None) + (self.scale is not None)
        edges = self.active().reshape(-1, self.num_inputs, self.num_outputs)[0]
        shared = sum(p.numel() for p in self.basis.parameters()) // max(1, math.prod(self.lead))
        fixed = len(self.fixed)
        return int(edges.sum() - fixed) * per_edge + 4 * fixed + shared
