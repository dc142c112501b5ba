"""The Mittag-Leffler function, and one gated form of it that is many activations [mittag-leffler-activation].

    E_{α,β}(z) = Σ_k z^k / Γ(α k + β)

is the exponential for α = β = 1. With other numbers it is a cosine, a hyperbolic sine, a fraction: E_{2,1}(-x²) = cos x,
E_{2,2}(x²) = sinh(x)/x, E_{0,1}(-|x|) = 1/(1 + |x|). So one gated form,

    φ(x) = c x^p · E_{α₁,β₁}(u(x)) / E_{α₂,β₂}(v(x)),

passes through tanh, the sigmoid, SiLU, ELU, softsign and others, and slides between them as α and β move. Learning them
learns the activation's shape.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sciviz.lab.checks import check_choice, check_finite, check_int, check_positive

ARGUMENTS: dict[str, Callable[[Tensor], Tensor]] = {
    "x": lambda x: x,
    "square": torch.square,
    "size": torch.abs,
    "negative part": lambda x: x.clamp_max(0),
}
"""What may stand inside E, before it is scaled: x, x², |x|, or min(x, 0)."""


def mittag_leffler_function(
    z: Float[Tensor, "*shape"],
    alpha: float | Float[Tensor, ""],
    beta: float | Float[Tensor, ""] = 1.0,
    *,
    num_nodes: int = 64,
    num_terms: int = 200,
) -> Float[Tensor, "*shape"]:
    """Return E_{α,β}(z) for real z; differentiable in z, α and β.

    For z ≥ 1 all terms of the power series are positive and it is summed. For smaller z they cancel, so the inverse
    Laplace integral of s^(α-β)/(s^α - z) is taken along a contour around its poles (the modified contour of Talbot).

    Parameters
    ----------
    z
        Real numbers.
    alpha
        From 0 to 2; greater than 0 where z ≥ 1 (at 0 the function is 1/(Γ(β)(1 - z)), which ends at z = 1).
    beta
        Greater than 0.
    num_nodes
        Points on the contour, an even number; good for |z|^(1/α) up to about an eighth of it.
    num_terms
        Terms of the series; good for z^(1/α) up to about 40.

    Raises
    ------
    ValueError
        If α or β is out of range.

    >>> x = torch.linspace(-5, 5, 11, dtype=torch.float64)
    >>> bool(torch.allclose(mittag_leffler_function(x, 1.0), x.exp(), atol=1e-9))
    True
    >>> bool(torch.allclose(mittag_leffler_function(-x.square(), 2.0), x.cos(), atol=1e-9))
    True
    """
    check_int(2, num_nodes=num_nodes, num_terms=num_terms)
    for name, value, low, high in (("alpha", alpha, 0.0, 2.0), ("beta", beta, 0.0, math.inf)):
        # A value inside a batched call cannot be looked at; one given as a number can.
        if isinstance(value, (int, float)) and not (low <= value <= high and (value > 0 or name == "alpha")):
            raise ValueError(f"{name} must be {'from 0 to 2' if name == 'alpha' else 'greater than 0'}, got {value!r}.")
    if isinstance(alpha, (int, float)) and alpha == 0 and bool((z >= 1).any()):
        raise ValueError("alpha must be greater than 0 where z is 1 or more: 1/(1 - z) ends there.")
    return _evaluate(z, alpha, beta, num_nodes, num_terms, bool((z > 1).any()))


def _evaluate(
    z: Tensor, alpha: float | Tensor, beta: float | Tensor, num_nodes: int, num_terms: int, beyond_one: bool
) -> Tensor:
    wide = z.to(torch.float64)
    a = torch.as_tensor(alpha, dtype=torch.float64, device=z.device)
    b = torch.as_tensor(beta, dtype=torch.float64, device=z.device)
    # Each branch sees only arguments that it can take, so that the other's infinities stay out of the gradient.
    contour = _by_contour(wide.clamp_max(1.0), a, b, num_nodes)
    if beyond_one:
        contour = torch.where(wide > 1, _by_series(wide.clamp_min(1.0), a, b, num_terms), contour)
    return contour.to(z.dtype)


def _by_contour(z: Tensor, alpha: Tensor, beta: Tensor, num_nodes: int) -> Tensor:
    # The contour is symmetric and so is the integrand: the upper half is enough.
    theta = (torch.arange(num_nodes // 2, dtype=torch.float64, device=z.device) + 0.5) * (2 * math.pi / num_nodes)
    inner = 0.6407 * theta
    real = -0.6122 + 0.5017 * theta / torch.tan(inner)
    slope = 0.5017 * (1 / torch.tan(inner) - inner / torch.sin(inner).square())
    s = num_nodes * torch.complex(real, 0.2645 * theta)
    ds = num_nodes * torch.complex(slope, torch.full_like(theta, 0.2645))
    log_s = torch.log(s)
    weight = torch.exp(s + (alpha - beta) * log_s) * ds
    power = torch.exp(alpha * log_s)
    total: Tensor = (weight / (power - z[..., None])).sum(-1).imag * (2 / num_nodes)
    return total


def _by_series(z: Tensor, alpha: Tensor, beta: Tensor, num_terms: int) -> Tensor:
    k = torch.arange(num_terms, dtype=torch.float64, device=z.device)
    return torch.exp(k * torch.log(z)[..., None] - torch.lgamma(alpha * k + beta)).sum(-1)


@dataclass(frozen=True)
class Factor:
    """One E_{α,β}(scale · argument(x)) of the gated form."""

    alpha: float
    beta: float
    argument: str = "x"
    scale: float = 1.0


@dataclass(frozen=True)
class Shape:
    """One setting of the gated form c x^p · E(numerator) / E(denominator), and the activation that it is.

    >>> x = torch.linspace(-3, 3, 7, dtype=torch.float64)
    >>> bool(torch.allclose(gated_mittag_leffler(x, SHAPES["tanh"]), x.tanh(), atol=1e-9))
    True
    """

    gate: float
    power: int
    numerator: Factor
    denominator: Factor | None = None
    function: Callable[[Tensor], Tensor] = field(default=torch.tanh, compare=False)


SHAPES: dict[str, Shape] = {
    "tanh": Shape(1.0, 1, Factor(2, 2, "square"), Factor(2, 1, "square"), torch.tanh),
    "sigmoid": Shape(0.5, 0, Factor(1, 1, "x", 0.5), Factor(2, 1, "square", 0.25), torch.sigmoid),
    "SiLU": Shape(0.5, 1, Factor(1, 1, "x", 0.5), Factor(2, 1, "square", 0.25), nn.functional.silu),
    "ELU": Shape(1.0, 1, Factor(1, 2, "negative part"), None, nn.functional.elu),
    "softsign": Shape(1.0, 1, Factor(0, 1, "size", -1.0), None, nn.functional.softsign),
    "Gaussian": Shape(1.0, 0, Factor(1, 1, "square", -1.0), None, lambda x: torch.exp(-x.square())),
    "sine": Shape(1.0, 1, Factor(2, 2, "square", -1.0), None, torch.sin),
    "hyperbolic secant": Shape(1.0, 0, Factor(1, 1, "x", 0.0), Factor(2, 1, "square"), lambda x: 1 / torch.cosh(x)),
    "inverse quadratic": Shape(1.0, 0, Factor(0, 1, "square", -1.0), None, lambda x: 1 / (1 + x.square())),
}
"""Activations that the gated form equals, by name."""


def _factor(x: Tensor, factor: Factor, alpha: float | Tensor, beta: float | Tensor) -> Tensor:
    z = factor.scale * ARGUMENTS[factor.argument](x)
    # Told by the form, since inside a batched call (vmap) no value can be looked at.
    never_positive = factor.scale <= 0 if factor.argument in ("square", "size") else factor.argument == "negative part"
    return _evaluate(z, alpha, beta, 64, 200, beyond_one=not never_positive)


def gated_mittag_leffler(
    x: Float[Tensor, "*shape"],
    shape: Shape,
    alpha: float | Float[Tensor, ""] | None = None,
    beta: float | Float[Tensor, ""] | None = None,
) -> Float[Tensor, "*shape"]:
    """Return c x^p · E_{α,β}(u(x)) / E(v(x)), with the numerator's α and β replaced if given.

    >>> x = torch.tensor([-2.0, 1.0], dtype=torch.float64)
    >>> gated_mittag_leffler(x, SHAPES["ELU"]).tolist(), gated_mittag_leffler(x, SHAPES["ELU"], alpha=0.0).tolist()
    ([-0.864..., 1.0...], [-0.666..., 1.0...])
    """
    top = shape.numerator
    value = _factor(x, top, top.alpha if alpha is None else alpha, top.beta if beta is None else beta)
    if shape.denominator is not None:
        value = value / _factor(x, shape.denominator, shape.denominator.alpha, shape.denominator.beta)
    return shape.gate * x**shape.power * value


class MittagLefflerActivation(nn.Module):
    """The gated Mittag-Leffler form as a layer, with the numerator's α and β learnt (one pair for all units).

    The function is computed at `num_knots` points of [-reach, reach] and interpolated: a layer has thousands of inputs and
    one shape. Both the inputs and α, β get their gradient through that. Beyond the ends the last slope goes on.

    Parameters
    ----------
    start
        The activation to begin with, one of `SHAPES`.
    learn
        Train α and β; otherwise the layer is the activation named.
    reach, num_knots
        The table.

    Raises
    ------
    ValueError
        If the start is not known.

    >>> layer = MittagLefflerActivation("ELU")
    >>> [round(value, 3) for value in layer(torch.tensor([-1.0, 2.0])).tolist()], layer.alpha.item(), layer.beta.item()
    ([-0.632, 2.0], 1.0, 2.0)
    """

    knots: Tensor

    def __init__(self, start: str = "ELU", *, learn: bool = True, reach: float = 8.0, num_knots: int = 161) -> None:
        super().__init__()
        check_choice(SHAPES, start=start)
        check_positive(reach=reach)
        check_int(3, num_knots=num_knots)
        self.start, self.reach = start, reach
        shape = SHAPES[start].numerator
        # α lives in [0, 2] and β above 0 whatever a step does: α is folded back at both ends, where a squashing function
        # would stop its learning, and what is trained for β is its logarithm.
        free = torch.tensor([max(shape.alpha, 1e-3), math.log(shape.beta)])
        if learn:
            self.free = nn.Parameter(free)
        else:
            self.register_buffer("free", free)
        self.register_buffer("knots", torch.linspace(-reach, reach, num_knots, dtype=torch.float64))

    @property
    def alpha(self) -> Float[Tensor, ""]:
        """The numerator's α, from 0 to 2."""
        return (2 - (2 - self.free[0].abs()).abs()).abs()

    @property
    def beta(self) -> Float[Tensor, ""]:
        """The numerator's β, greater than 0."""
        return torch.exp(self.free[1])

    def table(self) -> Float[Tensor, "knots"]:
        """Return the function at the knots."""
        return gated_mittag_leffler(self.knots, SHAPES[self.start], self.alpha, self.beta)

    def forward(self, x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Apply the function to every entry."""
        table = self.table().to(x.dtype)
        num = len(table) - 1
        place = (x + self.reach) * (num / (2 * self.reach))
        index = place.detach().floor().clamp(0, num - 1)
        rise = table[1:] - table[:-1]
        which = index.long().reshape(-1)
        low, slope = table[:-1].gather(0, which).reshape(x.shape), rise.gather(0, which).reshape(x.shape)
        return low + slope * (place - index)


def family(
    start: str, alphas: Float[Tensor, "shapes"], betas: Float[Tensor, "shapes"], x: Float[Tensor, "points"]
) -> Float[Tensor, "shapes points"]:
    """Return the functions that a shape becomes as its numerator's α and β take the values given.

    >>> family("ELU", torch.tensor([1.0, 0.5]), torch.tensor([2.0, 1.0]), torch.zeros(3)).shape
    torch.Size([2, 3])
    """
    check_choice(SHAPES, start=start)
    check_finite(alphas=alphas, betas=betas)
    shape = SHAPES[start]
    return torch.stack([gated_mittag_leffler(x, shape, float(a), float(b)) for a, b in zip(alphas, betas, strict=True)])
