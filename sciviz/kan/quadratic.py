"""Neurons that multiply: a quadratic neuron holds two affine forms and the squares of its inputs [quadratic-relinear].

    q(x) = (w_r · x + b_r) (w_g · x + b_g) + w_b · x² + c

A conventional neuron is the special case w_g = 0, b_g = 1, w_b = 0, c = 0. One such neuron and a ReLU draw a disc, for
which an MLP needs many straight edges. In depth the products compound: eight layers multiply up to degree 2⁸ = 256, and a
random start explodes. ReLinear starts at the special case and lets the quadratic weights move slowly.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sciviz.lab.checks import check_choice, check_int, check_nonnegative

STARTS = ("random", "relinear")


class QuadraticLinear(nn.Module):
    """A layer of quadratic neurons, without activation [quadratic-relinear].

    Parameters
    ----------
    start
        "random" draws all three weight matrices alike; "relinear" starts as an ordinary dense layer.
    generator
        Where the weights are drawn from.

    >>> layer = QuadraticLinear(2, 1, generator=torch.Generator().manual_seed(0))
    >>> x = torch.tensor([[0.5, -1.0]])
    >>> bool(torch.equal(layer(x), nn.functional.linear(x, layer.weight_r, layer.bias_r)))
    True
    """

    def __init__(
        self, in_features: int, out_features: int, *, start: str = "relinear", generator: torch.Generator
    ) -> None:
        super().__init__()
        check_int(1, in_features=in_features, out_features=out_features)
        check_choice(STARTS, start=start)
        # The scale that keeps the mean square of a signal through ordinary layers with ReLU.
        scale, bound = math.sqrt(2 / in_features), 1 / math.sqrt(in_features)
        size = (out_features, in_features)

        def draw_weight() -> nn.Parameter:
            return nn.Parameter(torch.empty(size).normal_(0, scale, generator=generator))

        def draw_bias() -> nn.Parameter:
            return nn.Parameter(torch.empty(out_features).uniform_(-bound, bound, generator=generator))

        self.weight_r, self.bias_r = draw_weight(), draw_bias()
        if start == "random":
            self.weight_g, self.bias_g = draw_weight(), draw_bias()
            self.weight_b, self.bias_b = draw_weight(), draw_bias()
        else:
            self.weight_g, self.bias_g = nn.Parameter(torch.zeros(size)), nn.Parameter(torch.ones(out_features))
            self.weight_b, self.bias_b = nn.Parameter(torch.zeros(size)), nn.Parameter(torch.zeros(out_features))

    def forward(self, X: Float[Tensor, "*batch in"]) -> Float[Tensor, "*batch out"]:
        """Return each neuron's quadratic form of each row."""
        linear = nn.functional.linear
        product = linear(X, self.weight_r, self.bias_r) * linear(X, self.weight_g, self.bias_g)
        return product + linear(X.square(), self.weight_b, self.bias_b)


class QuadraticNetwork(nn.Module):
    """Layers of quadratic neurons with ReLU, and a dense output layer.

    >>> QuadraticNetwork([2, 3, 1], seed=0)(torch.zeros(4, 2)).shape
    torch.Size([4, 1])
    """

    def __init__(self, sizes: Sequence[int], *, start: str = "relinear", seed: int) -> None:
        super().__init__()
        if len(sizes) < 2:
            raise ValueError(f"sizes must hold at least the input's and the output's, got {list(sizes)}.")
        check_int(0, seed=seed)
        generator = torch.Generator().manual_seed(seed)
        self.layers = nn.ModuleList(
            QuadraticLinear(n, m, start=start, generator=generator) for n, m in pairwise(sizes[:-1])
        )
        self.out = nn.Linear(sizes[-2], sizes[-1], device="meta").to_empty(device="cpu")
        bound = 1 / math.sqrt(sizes[-2])
        for parameter in self.out.parameters():
            nn.init.uniform_(parameter, -bound, bound, generator=generator)

    def forward(self, X: Float[Tensor, "*batch in"]) -> Float[Tensor, "*batch out"]:
        """Return the network's output for each row."""
        for layer in self.layers:
            X = torch.relu(layer(X))
        output: Tensor = self.out(X)
        return output


def relinear_groups(module: nn.Module, lr: float, damping: float = 0.01) -> list[dict[str, object]]:
    """Return parameter groups for a torch optimiser in which quadratic weights move `damping` times as fast.

    >>> groups = relinear_groups(QuadraticNetwork([2, 3, 1], seed=0), lr=0.01, damping=0.1)
    >>> [(len(group["params"]), round(group["lr"], 6)) for group in groups]
    [(4, 0.01), (4, 0.001)]
    """
    check_nonnegative(lr=lr, damping=damping)
    quadratic = [p for name, p in module.named_parameters() if name.split(".")[-1] in QUADRATIC]
    ids = {id(p) for p in quadratic}
    linear = [p for p in module.parameters() if id(p) not in ids]
    return [{"params": linear, "lr": lr}, {"params": quadratic, "lr": lr * damping}]


QUADRATIC = ("weight_g", "bias_g", "weight_b", "bias_b")
"""The parameters of a quadratic neuron that a conventional neuron lacks."""
