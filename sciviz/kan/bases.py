"""Families of functions for the edges of a network: B-splines, Chebyshev polynomials, bumps, waves, and shared rationals.

A family gives each input x_i values F_1(x_i) … F_n(x_i); an edge's function is their weighted sum. All families have the
same interface, so that a layer does not know which it holds. What a family does beyond its range [low, high] is stated
with it, because there no data have spoken.

Leading dimensions of `lead` are members of an ensemble, each with ranges of its own.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sciviz.kan import splines
from sciviz.lab.checks import check_choice, check_int, check_nonnegative

EXTRAPOLATIONS = ("linear", "polynomial", "zero")


class Basis(nn.Module):
    """A family of functions of one variable for each input of a layer.

    Attributes
    ----------
    num_bases
        Functions of an input.
    low, high
        The range that each input's functions are made for, (*lead, in).
    """

    num_bases: int

    def values(self, x: Float[Tensor, "... batch in"]) -> Float[Tensor, "... batch in bases"]:
        """Return all functions' values."""
        raise NotImplementedError

    def combine(
        self, x: Float[Tensor, "... batch in"], coef: Float[Tensor, "... in bases out"]
    ) -> Float[Tensor, "... batch out"]:
        """Return the weighted sums over inputs and functions, a layer's output."""
        return self.values(x).flatten(-2) @ coef.flatten(-3, -2)

    def domain(self) -> tuple[Float[Tensor, "... in"], Float[Tensor, "... in"]]:
        """Return the range that each input's functions are made for."""
        raise NotImplementedError

    def follow(self, x: Float[Tensor, "... batch in"], *, blend: float = 0.02) -> None:
        """Fit the range to data; `blend` says how evenly, where that is a choice."""
        raise NotImplementedError


class BSplines(Basis):
    """B-splines on a grid of cells, evaluated locally [kan-liu, §2.2 and appendix A].

    Parameters
    ----------
    num_inputs, num_cells, order
        The grid has `num_cells` cells; a spline is a polynomial of degree `order` (0 to 5) in each.
    low, high
        Ends of the grid at first.
    extrapolation
        Beyond the grid: "linear" goes on in the direction the spline had at the end, "polynomial" continues the last
        cell's polynomial, "zero" lets all bases vanish.

    Raises
    ------
    ValueError
        If a size or a word is not accepted.

    >>> BSplines(2, num_cells=5, order=3).values(torch.zeros(4, 2)).sum(-1)[0].tolist()
    [1.0, 1.0]
    """

    knots: Tensor

    def __init__(
        self,
        num_inputs: int,
        *,
        num_cells: int = 5,
        order: int = 3,
        low: float = -1.0,
        high: float = 1.0,
        extrapolation: str = "linear",
        lead: tuple[int, ...] = (),
    ) -> None:
        super().__init__()
        check_int(1, num_inputs=num_inputs)
        check_choice(EXTRAPOLATIONS, extrapolation=extrapolation)
        knots = splines.make_knots(low, high, num_cells, order, dtype=torch.float64)
        self.register_buffer("knots", knots.to(torch.get_default_dtype()).expand(*lead, num_inputs, -1).clone())
        self.order, self.num_cells, self.extrapolation = order, num_cells, extrapolation
        self.even = True

    @property
    def num_bases(self) -> int:  # type: ignore[override]
        """Cells plus order."""
        return self.num_cells + self.order

    def domain(self) -> tuple[Tensor, Tensor]:
        """Return the ends of the grid."""
        return self.knots[..., self.order], self.knots[..., self.order + self.num_cells]

    def local(self, x: Float[Tensor, "... batch in"]) -> tuple[Tensor, Tensor]:
        """Return which bases are not zero at the points, and their values; beyond the grid as `extrapolation` says."""
        if self.extrapolation == "polynomial":
            return splines.local_bases(x, self.knots, self.order, even=self.even)
        low, high = (end[..., None, :] for end in self.domain())
        outside = (x < low) | (x > high)
        if not bool(outside.any()):
            return splines.local_bases(x, self.knots, self.order, even=self.even)
        inside = torch.minimum(torch.maximum(x, low), high)
        first, value = splines.local_bases(inside, self.knots, self.order, even=self.even)
        if self.extrapolation == "zero":
            return first, value * ~outside[..., None]
        _, slope = splines.local_bases(inside, self.knots, self.order, derivative=1, even=self.even)
        return first, value + (x - inside)[..., None] * slope

    def values(self, x: Tensor) -> Tensor:
        """Return all bases' values, at most `order` + 1 of them not zero."""
        first, value = self.local(x)
        return splines.spread(first, value, self.num_bases)

    def combine(self, x: Tensor, coef: Tensor) -> Tensor:
        """Return the sums of splines over inputs."""
        return splines.sum_splines(*self.local(x), coef)

    def follow(self, x: Tensor, *, blend: float = 0.02) -> None:
        """Put the knots where the data are: at their quantiles, mixed with a share `blend` of even spacing (1: even)."""
        check_nonnegative(blend=blend)
        x = x.detach()
        place = torch.linspace(0, 1, self.num_cells + 1, dtype=x.dtype, device=x.device)
        low, high = _spread_out(x.amin(-2), x.amax(-2))
        inner = low[..., None] * (1 - place) + high[..., None] * place
        if blend < 1 and x.shape[-2] > 1:
            quantiles = torch.quantile(x, place, dim=-2).movedim(0, -1)
            inner = blend * inner + (1 - blend) * quantiles
            # Many equal values would give cells of no width; the ends stay the ends of the data.
            inner = torch.cat([low[..., None], inner[..., 1:-1], high[..., None]], -1)
            least = (high - low)[..., None] * 1e-3 / self.num_cells
            inner = low[..., None] + torch.cat(
                [torch.zeros_like(low)[..., None], inner.diff().clamp_min(least).cumsum(-1)], -1
            )
        # Data that all members share give each of them the same grid, of its own.
        knots = splines.extend_knots(inner, self.order).to(self.knots)
        self.knots = knots.expand(*self.knots.shape[:-1], -1).clone()
        self.even = blend >= 1 or x.shape[-2] <= 1


def _spread_out(low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """Give a range some width where all data are equal."""
    gap = (1e-3 - (high - low)).clamp_min(0) / 2
    return low - gap, high + gap


class _Ranged(Basis):
    """A family on u = the input's place in its range, from -1 to 1."""

    low: Tensor
    high: Tensor

    def __init__(self, num_inputs: int, num_bases: int, low: float, high: float, lead: tuple[int, ...]) -> None:
        super().__init__()
        check_int(1, num_inputs=num_inputs, num_bases=num_bases)
        if not low < high:
            raise ValueError(f"high must be above low, got {low!r} and {high!r}.")
        self.num_bases = num_bases
        self.register_buffer("low", torch.full((*lead, num_inputs), float(low)))
        self.register_buffer("high", torch.full((*lead, num_inputs), float(high)))

    def domain(self) -> tuple[Tensor, Tensor]:
        return self.low, self.high

    def follow(self, x: Tensor, *, blend: float = 0.02) -> None:
        low, high = _spread_out(x.detach().amin(-2), x.detach().amax(-2))
        self.low, self.high = (new.to(old).expand_as(old).clone() for new, old in ((low, self.low), (high, self.high)))

    def place(self, x: Tensor) -> Tensor:
        low, high = self.low[..., None, :], self.high[..., None, :]
        return 2 * (x - low) / (high - low) - 1


class Chebyshev(_Ranged):
    """Chebyshev polynomials T_0 … T_degree; beyond the range they keep the value of its end.

    >>> Chebyshev(1, degree=2).values(torch.tensor([[0.5]])).flatten().tolist()
    [1.0, 0.5, -0.5]
    """

    def __init__(
        self, num_inputs: int, *, degree: int = 7, low: float = -1.0, high: float = 1.0, lead: tuple[int, ...] = ()
    ) -> None:
        super().__init__(num_inputs, degree + 1, low, high, lead)

    def values(self, x: Tensor) -> Tensor:
        """Return T_0 … T_degree by their recursion."""
        u = self.place(x).clamp(-1, 1)
        found = [torch.ones_like(u), u]
        while len(found) < self.num_bases:
            found.append(2 * u * found[-1] - found[-2])
        return torch.stack(found[: self.num_bases], -1)


class Radial(_Ranged):
    """Gaussian bumps at evenly spaced centres, as wide as these are apart; far beyond the range they vanish.

    >>> Radial(1, num_centres=3).values(torch.tensor([[0.0]])).flatten().tolist()[1]
    1.0
    """

    def __init__(
        self, num_inputs: int, *, num_centres: int = 8, low: float = -1.0, high: float = 1.0, lead: tuple[int, ...] = ()
    ) -> None:
        check_int(2, num_centres=num_centres)
        super().__init__(num_inputs, num_centres, low, high, lead)

    def values(self, x: Tensor) -> Tensor:
        """Return the bumps' values."""
        u = self.place(x)[..., None]
        centres = torch.linspace(-1, 1, self.num_bases, dtype=x.dtype, device=x.device)
        return torch.exp(-((u - centres) * (self.num_bases - 1) / 2).square())


class Fourier(_Ranged):
    """A constant, and cosines and sines whose lowest fits once into *twice* the range, so that ends need not agree.

    Beyond the range they repeat.

    >>> Fourier(1, num_waves=2).values(torch.zeros(1, 1)).flatten().tolist()
    [1.0, 1.0, 1.0, 0.0, 0.0]
    """

    def __init__(
        self, num_inputs: int, *, num_waves: int = 4, low: float = -1.0, high: float = 1.0, lead: tuple[int, ...] = ()
    ) -> None:
        check_int(1, num_waves=num_waves)
        super().__init__(num_inputs, 2 * num_waves + 1, low, high, lead)

    def values(self, x: Tensor) -> Tensor:
        """Return the constant, the cosines and the sines."""
        waves = torch.arange(1, self.num_bases // 2 + 1, dtype=x.dtype, device=x.device)
        angle = 0.5 * math.pi * self.place(x)[..., None] * waves
        return torch.cat([torch.ones_like(angle[..., :1]), angle.cos(), angle.sin()], -1)


class Rational(_Ranged):
    """One learnt rational function for each group of inputs, P(x) / (1 + |Q(x)|) [kat, §4.2]; the edges only weight it.

    The degrees are those of P and of Q without a constant. It starts as a least-squares fit of SiLU. It knows no range;
    far out it grows like x to the difference of the degrees.

    Raises
    ------
    ValueError
        If the inputs do not divide into the groups.

    >>> y = Rational(4, num_groups=2).values(torch.linspace(-2, 2, 5)[:, None].expand(5, 4))
    >>> float((y[..., 0] - torch.nn.functional.silu(torch.linspace(-2, 2, 5))[:, None]).abs().max()) < 0.01
    True
    """

    def __init__(
        self,
        num_inputs: int,
        *,
        num_groups: int = 1,
        degrees: tuple[int, int] = (5, 4),
        low: float = -3.0,
        high: float = 3.0,
        lead: tuple[int, ...] = (),
    ) -> None:
        super().__init__(num_inputs, 1, low, high, lead)
        check_int(1, num_groups=num_groups, numerator_degree=degrees[0], denominator_degree=degrees[1])
        if num_inputs % num_groups:
            raise ValueError(f"num_groups must divide num_inputs, got {num_groups} groups of {num_inputs} inputs.")
        numerator, denominator = _fit_rational(*degrees)
        like = torch.get_default_dtype()
        self.numerator = nn.Parameter(numerator.to(like).expand(*lead, num_groups, -1).clone())
        self.denominator = nn.Parameter(denominator.to(like).expand(*lead, num_groups, -1).clone())
        self.group_size = num_inputs // num_groups

    def values(self, x: Tensor) -> Tensor:
        """Return each input's value under its group's function."""

        def polynomial(coef: Tensor) -> Tensor:
            of_input = coef.repeat_interleave(self.group_size, -2)[..., None, :, :]
            total = of_input[..., -1]
            for power in range(coef.shape[-1] - 2, -1, -1):
                total = total * x + of_input[..., power]
            return total

        return (polynomial(self.numerator) / (1 + (x * polynomial(self.denominator)).abs()))[..., None]

    def follow(self, x: Tensor, *, blend: float = 0.02) -> None:
        """Do nothing: a rational function has no range to fit."""


def _fit_rational(numerator: int, denominator: int) -> tuple[Tensor, Tensor]:
    """Fit P - y Q = y by linear least squares to SiLU on [-3, 3]."""
    x = torch.linspace(-3, 3, 301, dtype=torch.float64)
    y = torch.nn.functional.silu(x)
    columns = [x**p for p in range(numerator + 1)] + [-y * x**q for q in range(1, denominator + 1)]
    solution = splines.fit_coefficients(torch.stack(columns, -1), y[:, None])[:, 0]
    return solution[: numerator + 1], solution[numerator + 1 :]


BASES: dict[str, type[Basis]] = {
    "bspline": BSplines,
    "chebyshev": Chebyshev,
    "radial": Radial,
    "fourier": Fourier,
    "rational": Rational,
}
