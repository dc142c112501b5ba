"""Interpolants: random lines and curves from a point of the source (t = 0) to a point of the target (t = 1)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from sciviz.lab.checks import check_choice, check_nonnegative, check_positive, check_same_shape

Curve = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Time → value and rate of change of a coefficient."""

# Rates of change like (1 - t)^-1/2 are cut this close to the end where they are infinite.
EDGE = 1e-4


class Coefficients(NamedTuple):
    """Coefficients of source, target and latent noise at one time, and their rates of change.

    Of the latent noise the rate itself is infinite at both ends; `gamma_gamma_rate`, half the rate of γ², is finite.
    """

    alpha: Tensor
    beta: Tensor
    gamma: Tensor
    alpha_rate: Tensor
    beta_rate: Tensor
    gamma_gamma_rate: Tensor


@dataclass(frozen=True)
class Interpolant:
    """x_t = α(t) x₀ + β(t) x₁ + γ(t) z, with γ(t)² = latent · t (1 - t) [stochastic-interpolants, eq. 2.1].

    With α = 1 - t, β = t and no latent noise these are the straight lines of rectified flow [rectified-flow, eq. 1].

    Attributes
    ----------
    name
        What it is called.
    source, target
        Time → (value, rate) of α and β.
    latent
        Strength of the latent noise z; 0 for none.

    >>> line = straight()
    >>> line.point(torch.tensor(0.25), torch.zeros(1, 2), torch.ones(1, 2)).tolist()
    [[0.25, 0.25]]
    """

    name: str
    source: Curve
    target: Curve
    latent: float = 0.0

    def with_latent(self, latent: float = 1.0) -> Interpolant:
        """Return the same interpolant with latent noise of this strength.

        Raises
        ------
        ValueError
            If `latent` is negative.
        """
        check_nonnegative(latent=latent)
        return replace(self, latent=float(latent))

    def coefficients(self, t: Tensor) -> Coefficients:
        """Return all coefficients and rates at times in [0, 1], each of the shape of `t`."""
        alpha, alpha_rate = self.source(t)
        beta, beta_rate = self.target(t)
        gamma = (self.latent * t * (1 - t)).clamp_min(0).sqrt()
        return Coefficients(alpha, beta, gamma, alpha_rate, beta_rate, self.latent * (0.5 - t))

    def point(
        self,
        t: Tensor,
        x0: Float[Tensor, "*batch d"],
        x1: Float[Tensor, "*batch d"],
        z: Float[Tensor, "*batch d"] | None = None,
    ) -> Float[Tensor, "*batch d"]:
        """Return x_t; `t` must broadcast against the points, and `z` is needed where there is latent noise.

        Raises
        ------
        ValueError
            If the two ends differ in shape, or latent noise is asked for and not given.
        """
        check_same_shape(x0=x0, x1=x1)
        c = self.coefficients(t)
        result = c.alpha * x0 + c.beta * x1
        if self.latent:
            result = result + c.gamma * _needed(z)
        return result

    def rate(
        self,
        t: Tensor,
        x0: Float[Tensor, "*batch d"],
        x1: Float[Tensor, "*batch d"],
        z: Float[Tensor, "*batch d"] | None = None,
    ) -> Float[Tensor, "*batch d"]:
        """Return the rate of change of x_t along the curve, ẋ_t = α̇ x₀ + β̇ x₁ + γ̇ z.

        Its mean over all curves through a point is the velocity there [rectified-flow, eq. 2].
        """
        check_same_shape(x0=x0, x1=x1)
        c = self.coefficients(t)
        result = c.alpha_rate * x0 + c.beta_rate * x1
        if self.latent:
            result = result + c.gamma_gamma_rate / c.gamma.clamp_min(EDGE) * _needed(z)
        return result


def _needed(z: Tensor | None) -> Tensor:
    if z is None:
        raise ValueError("z must be given where the interpolant has latent noise, got None.")
    return z


def straight(latent: float = 0.0) -> Interpolant:
    """Return the straight line (1 - t) x₀ + t x₁ [rectified-flow, eq. 1]."""
    check_nonnegative(latent=latent)
    return Interpolant("straight", lambda t: (1 - t, -torch.ones_like(t)), lambda t: (t, torch.ones_like(t)), latent)


def trigonometric(latent: float = 0.0) -> Interpolant:
    """Return the quarter circle cos(πt/2) x₀ + sin(πt/2) x₁, which keeps the variance of whitened ends.

    >>> trigonometric().point(torch.tensor(1.0), torch.zeros(1, 1), torch.ones(1, 1)).item()
    1.0
    """
    check_nonnegative(latent=latent)
    half = torch.pi / 2
    return Interpolant(
        "trigonometric",
        lambda t: (torch.cos(half * t), -half * torch.sin(half * t)),
        lambda t: (torch.sin(half * t), half * torch.cos(half * t)),
        latent,
    )


def variance_preserving(beta_min: float = 0.1, beta_max: float = 20.0, latent: float = 0.0) -> Interpolant:
    """Return the path of the variance-preserving diffusion, read from noise (t = 0) to data (t = 1).

    β(t) = exp(-½ (s β_min + ½ s² (β_max - β_min))) with s = 1 - t, and α² + β² = 1 [score-sde, appendix B].

    Raises
    ------
    ValueError
        If a rate is not positive, or the latent strength negative.

    >>> c = variance_preserving().coefficients(torch.tensor([0.0, 0.5]))
    >>> bool(torch.allclose(c.alpha**2 + c.beta**2, torch.ones(2)))
    True
    """
    check_positive(beta_min=beta_min, beta_max=beta_max)
    check_nonnegative(latent=latent)

    def target(t: Tensor) -> tuple[Tensor, Tensor]:
        s = 1 - t
        value = torch.exp(-0.5 * (s * beta_min + 0.5 * s**2 * (beta_max - beta_min)))
        return value, 0.5 * (beta_min + s * (beta_max - beta_min)) * value

    def source(t: Tensor) -> tuple[Tensor, Tensor]:
        # Within the cut at the end the noise keeps its last value's rate, which would be infinite.
        value, rate = target(t.clamp_max(1 - EDGE))
        alpha = (-torch.expm1(2 * value.log())).sqrt()
        s = 1 - t
        exact = (-torch.expm1(-(s * beta_min + 0.5 * s**2 * (beta_max - beta_min)))).clamp_min(0).sqrt()
        return exact, -value * rate / alpha

    return Interpolant("variance-preserving", source, target, latent)


INTERPOLANTS: dict[str, Callable[[], Interpolant]] = {
    "straight": straight,
    "trigonometric": trigonometric,
    "variance-preserving": variance_preserving,
}
"""The interpolants by name."""


def make_interpolant(name: str, latent: float = 0.0) -> Interpolant:
    """Return an interpolant by its name.

    Raises
    ------
    ValueError
        If there is none of that name, or `latent` is negative.

    >>> make_interpolant("straight", latent=1.0).latent
    1.0
    """
    check_choice(INTERPOLANTS, name=name)
    return INTERPOLANTS[name]().with_latent(latent)
