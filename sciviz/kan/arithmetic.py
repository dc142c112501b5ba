"""Units that add and multiply exactly: the neural addition and multiplication units [nau-nmu].

    NAU   z = W x,                       weights in [-1, 1], drawn towards -1, 0, 1
    NMU   z = Π_i (W_i x_i + 1 - W_i),   weights in  [0, 1], drawn towards     0, 1

With whole weights each is a sum or a product of *selected* inputs, which holds far outside the range it was learnt on. A
weight of the NMU at 0 multiplies by 1: the input is left out.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sciviz.lab.checks import check_int


class NAU(nn.Module):
    """The neural addition unit, a dense layer with weights in [-1, 1] and no bias [nau-nmu].

    >>> unit = NAU(3, 1, generator=torch.Generator().manual_seed(0))
    >>> _ = unit.weight.data.copy_(torch.tensor([[1.0, -1.0, 0.0]]))
    >>> unit(torch.tensor([[5.0, 2.0, 9.0]])).tolist(), unit.distance().item()
    ([[3.0]], 0.0)
    """

    low, high = -1.0, 1.0

    def __init__(self, in_features: int, out_features: int, *, generator: torch.Generator) -> None:
        super().__init__()
        check_int(1, in_features=in_features, out_features=out_features)
        bound = min(0.5, (6 / (in_features + out_features)) ** 0.5)
        self.weight = nn.Parameter(torch.empty(out_features, in_features).uniform_(-bound, bound, generator=generator))

    def forward(self, X: Float[Tensor, "*batch in"]) -> Float[Tensor, "*batch out"]:
        """Return the weighted sums of each row."""
        return nn.functional.linear(X, self.weight)

    def distance(self) -> Float[Tensor, ""]:
        """Return the weights' mean distance from -1, 0 and 1, the regulariser."""
        return integer_distance(self.weight).mean()

    @torch.no_grad()
    def project(self) -> None:
        """Clip the weights into their range; call it after every step."""
        self.weight.clamp_(self.low, self.high)


class NMU(nn.Module):
    """The neural multiplication unit, products of selected inputs, weights in [0, 1] [nau-nmu].

    >>> unit = NMU(3, 1, generator=torch.Generator().manual_seed(0))
    >>> _ = unit.weight.data.copy_(torch.tensor([[1.0, 0.0, 1.0]]))
    >>> unit(torch.tensor([[5.0, 2.0, 3.0]])).tolist()
    [[15.0]]
    """

    low, high = 0.0, 1.0

    def __init__(self, in_features: int, out_features: int, *, generator: torch.Generator) -> None:
        super().__init__()
        check_int(1, in_features=in_features, out_features=out_features)
        # Around one half, where every input is half in: the product then has a gradient in every weight.
        self.weight = nn.Parameter(torch.empty(out_features, in_features).uniform_(0.25, 0.75, generator=generator))

    def forward(self, X: Float[Tensor, "*batch in"]) -> Float[Tensor, "*batch out"]:
        """Return the gated products of each row."""
        return (self.weight * X.unsqueeze(-2) + 1 - self.weight).prod(-1)

    def distance(self) -> Float[Tensor, ""]:
        """Return the weights' mean distance from 0 and 1, the regulariser."""
        return integer_distance(self.weight).mean()

    @torch.no_grad()
    def project(self) -> None:
        """Clip the weights into their range; call it after every step."""
        self.weight.clamp_(self.low, self.high)


class AddMultiply(nn.Module):
    """A NAU followed by a NMU: products of sums, such as (x₁ + x₂)(x₃ + x₄).

    >>> AddMultiply(4, 2, generator=torch.Generator().manual_seed(0))(torch.ones(3, 4)).shape
    torch.Size([3, 1])
    """

    def __init__(self, in_features: int, width: int = 2, *, generator: torch.Generator) -> None:
        super().__init__()
        self.add = NAU(in_features, width, generator=generator)
        self.multiply = NMU(width, 1, generator=generator)

    def forward(self, X: Float[Tensor, "*batch in"]) -> Float[Tensor, "*batch 1"]:
        """Return the product of sums of each row."""
        output: Tensor = self.multiply(self.add(X))
        return output

    def distance(self) -> Float[Tensor, ""]:
        """Return the sum of both units' distances."""
        return self.add.distance() + self.multiply.distance()

    def project(self) -> None:
        """Clip both units' weights into their ranges."""
        self.add.project()
        self.multiply.project()


def integer_distance(weight: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Return how far each weight is from the nearest whole number.

    >>> integer_distance(torch.tensor([0.25, -0.75, 1.0])).tolist()
    [0.25, 0.25, 0.0]
    """
    return (weight - weight.detach().round()).abs()
