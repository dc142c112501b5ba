"""What can be known exactly: mixtures of Gaussians, the fields of every interpolant between two, closed forms for one."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from sciviz.flow.interpolants import Interpolant
from sciviz.lab.checks import check_finite, check_int, check_ndim, check_positive, check_same_last_dim


@dataclass(frozen=True)
class GaussianMixture:
    """A mixture of Gaussians in d dimensions.

    Attributes
    ----------
    means
        One a component.
    covariances
        One a component, symmetric and positive definite.
    weights
        Shares of the components; they sum to one.

    >>> two = GaussianMixture.isotropic(torch.tensor([[-1.0], [1.0]]), std=0.5)
    >>> two.score(torch.full((1, 1), 3.0)).item()
    -8.0
    """

    means: Float[Tensor, "components d"]
    covariances: Float[Tensor, "components d d"]
    weights: Float[Tensor, " components"]

    @classmethod
    def isotropic(cls, means: Tensor, std: float, weights: Tensor | None = None) -> GaussianMixture:
        """Return a mixture of round Gaussians of one standard deviation, with equal weights if none are given.

        Raises
        ------
        ValueError
            If `std` is not positive or `means` is not (components, d).
        """
        check_ndim(2, means=means)
        check_positive(std=std)
        count, dim = means.shape
        covariances = std**2 * torch.eye(dim, dtype=means.dtype, device=means.device).expand(count, dim, dim)
        weights = torch.full_like(means[:, 0], 1 / count) if weights is None else weights / weights.sum()
        return cls(means, covariances, weights)

    @classmethod
    def single(cls, mean: Tensor, covariance: Tensor) -> GaussianMixture:
        """Return one Gaussian."""
        check_same_last_dim(mean=mean, covariance=covariance)
        return cls(mean[None], covariance[None], torch.ones_like(mean[:1]))

    @property
    def dim(self) -> int:
        """Dimension of the space."""
        return self.means.shape[1]

    def sample(self, num: int, generator: Generator) -> Float[Tensor, "num d"]:
        """Draw points."""
        check_int(1, num=num)
        part = torch.multinomial(self.weights, num, replacement=True, generator=generator)
        noise = torch.randn(num, self.dim, generator=generator, dtype=self.means.dtype, device=self.means.device)
        points: Tensor = self.means[part] + (torch.linalg.cholesky(self.covariances)[part] @ noise[..., None])[..., 0]
        return points

    def log_prob(self, x: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch"]:
        """Return the log density, in nats."""
        return torch.logsumexp(self._log_parts(x)[0], dim=-1)

    def responsibilities(self, x: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch components"]:
        """Return how probable it is that a point came from each component."""
        return torch.softmax(self._log_parts(x)[0], dim=-1)

    def score(self, x: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch d"]:
        """Return the gradient of the log density."""
        logs, whitened = self._log_parts(x)
        return -(torch.softmax(logs, dim=-1)[..., None] * whitened).sum(-2)

    def _log_parts(self, x: Tensor) -> tuple[Tensor, Tensor]:
        gap = x[..., None, :] - self.means
        whitened = torch.einsum("kij,...kj->...ki", torch.linalg.inv(self.covariances), gap)
        logdet = torch.linalg.slogdet(self.covariances)[1]
        quadratic = (gap * whitened).sum(-1)
        return self.weights.log() - 0.5 * (quadratic + logdet + self.dim * math.log(2 * math.pi)), whitened


def ring_of_gaussians(count: int = 8, *, radius: float = 2.0, std: float = 0.1) -> GaussianMixture:
    """Return equal Gaussians on a circle.

    >>> ring_of_gaussians(8).means.shape
    torch.Size([8, 2])
    """
    check_int(1, count=count)
    angle = 2 * math.pi * torch.arange(count) / count
    return GaussianMixture.isotropic(radius * torch.stack([angle.cos(), angle.sin()], dim=1), std)


class Fields(NamedTuple):
    """Exact velocity, score and expected latent noise at some points."""

    velocity: Tensor
    score: Tensor
    latent: Tensor


@dataclass(frozen=True)
class ExactFields:
    """The exact fields of an interpolant between two mixtures that are paired independently.

    Given the two components that a curve comes from and goes to, x_t and its rate are jointly Gaussian; so E[ẋ_t | x_t]
    is a mean over the pairs of components, weighed by how probable each pair is at the point.

    >>> from sciviz.flow.interpolants import straight
    >>> same = GaussianMixture.single(torch.zeros(1), torch.eye(1))
    >>> ExactFields(same, same, straight()).velocity(torch.tensor(0.5), torch.ones(1, 1)).item()
    0.0
    """

    source: GaussianMixture
    target: GaussianMixture
    interpolant: Interpolant

    def __post_init__(self) -> None:
        check_same_last_dim(source=self.source.means, target=self.target.means)

    def marginal(self, t: float) -> GaussianMixture:
        """Return the law of x_t, a mixture over the pairs of components."""
        c = self.interpolant.coefficients(torch.tensor(float(t), dtype=self.source.means.dtype))
        means = (c.alpha * self.source.means[:, None] + c.beta * self.target.means).flatten(0, 1)
        covariances = (c.alpha**2 * self.source.covariances[:, None] + c.beta**2 * self.target.covariances).flatten(
            0, 1
        )
        covariances = covariances + c.gamma**2 * torch.eye(self.source.dim).to(covariances)
        return GaussianMixture(means, covariances, (self.source.weights[:, None] * self.target.weights).flatten())

    def fields(self, t: Tensor, x: Float[Tensor, "batch d"]) -> Fields:
        """Return velocity, score and expected latent noise at points; `t` is one time, or one a point."""
        times = t.to(x).reshape(-1)
        # Solvers hand over one time a sample; where all are equal the small matrices are inverted once.
        if len(times) > 1 and bool((times == times[0]).all()):
            times = times[:1]
        c = self.interpolant.coefficients(times[:, None, None])
        one, other = self.source, self.target
        means = (c.alpha[..., None] * one.means[:, None].to(x) + c.beta[..., None] * other.means.to(x)).flatten(1, 2)
        pull = c.alpha_rate[..., None] * one.means[:, None].to(x) + c.beta_rate[..., None] * other.means.to(x)
        spread0, spread1 = one.covariances[:, None].to(x), other.covariances.to(x)
        alpha, beta, gamma = (part[..., None, None] for part in (c.alpha, c.beta, c.gamma))
        unit = torch.eye(one.dim).to(x)
        covariance = (alpha**2 * spread0 + beta**2 * spread1 + gamma**2 * unit).flatten(1, 2)
        joint = alpha * c.alpha_rate[..., None, None] * spread0 + beta * c.beta_rate[..., None, None] * spread1
        joint = (joint + c.gamma_gamma_rate[..., None, None] * unit).flatten(1, 2)
        gap = x[:, None] - means
        whitened = torch.linalg.solve(covariance.expand(len(x), -1, -1, -1), gap[..., None]) if len(times) > 1 else (
            torch.einsum("kij,bkj->bki", torch.linalg.inv(covariance[0]), gap)[..., None]
        )  # fmt: skip
        weights = (one.weights[:, None] * other.weights).flatten().to(x)
        logs = weights.log() - 0.5 * ((gap * whitened[..., 0]).sum(-1) + torch.linalg.slogdet(covariance)[1])
        share = torch.softmax(logs, dim=-1)[..., None]
        velocity = (share * (pull.flatten(1, 2) + (joint @ whitened)[..., 0])).sum(1)
        score = -(share * whitened[..., 0]).sum(1)
        return Fields(velocity, score, -c.gamma[:, 0] * score)

    def velocity(self, t: Tensor, x: Float[Tensor, "batch d"]) -> Float[Tensor, "batch d"]:
        """Return E[ẋ_t | x_t = x]."""
        return self.fields(t, x).velocity

    def score(self, t: Tensor, x: Float[Tensor, "batch d"]) -> Float[Tensor, "batch d"]:
        """Return the gradient of the log density of x_t."""
        return self.fields(t, x).score


def expected_velocity(
    x0: Float[Tensor, "lines d"],
    x1: Float[Tensor, "lines d"],
    t: float,
    x: Float[Tensor, "batch d"],
    *,
    blur: float = 0.1,
) -> Float[Tensor, "batch d"]:
    """Return the mean velocity of straight lines near a point, each weighed by a Gaussian of its distance at time `t`.

    What a regression on these lines returns: where two cross at the same time it is their mean, which is neither.

    Parameters
    ----------
    blur
        Standard deviation of the Gaussian; both ends of each line are blurred by it.

    Raises
    ------
    ValueError
        If the ends differ in shape or `blur` is not positive.

    >>> x0, x1 = torch.tensor([[0.0, 0.0], [0.0, 1.0]]), torch.tensor([[1.0, 1.0], [1.0, 0.0]])
    >>> expected_velocity(x0, x1, 0.5, torch.tensor([[0.5, 0.5]])).tolist()
    [[1.0, 0.0]]
    """
    check_positive(blur=blur)
    check_finite(x0=x0, x1=x1)
    if x0.shape != x1.shape:
        raise ValueError(f"x0 and x1 must have the same shape, got {tuple(x0.shape)} and {tuple(x1.shape)}.")
    now = (1 - t) * x0 + t * x1
    share = torch.softmax(-torch.cdist(x, now).square() / (2 * blur**2), dim=-1)
    return share @ (x1 - x0)


# ---------------------------------------------------------------------------------------------------------------------
# One Gaussian to another: closed forms
# ---------------------------------------------------------------------------------------------------------------------


def _root(matrix: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh(matrix)
    root: Tensor = (vectors * values.clamp_min(0).sqrt()) @ vectors.T
    return root


def optimal_cost(one: GaussianMixture, other: GaussianMixture) -> Float[Tensor, ""]:
    """Return the squared 2-Wasserstein distance of two Gaussians: the gap of means and the Bures distance of spreads.

    Raises
    ------
    ValueError
        If either is a mixture of several.

    >>> a = GaussianMixture.single(torch.zeros(1), torch.eye(1))
    >>> b = GaussianMixture.single(torch.full((1,), 3.0), 4 * torch.eye(1))
    >>> optimal_cost(a, b).item()
    10.0
    """
    _check_single(one, other)
    s0, s1 = one.covariances[0], other.covariances[0]
    root = _root(s0)
    bures = s0.trace() + s1.trace() - 2 * _root(root @ s1 @ root).trace()
    return (one.means[0] - other.means[0]).square().sum() + bures


def optimal_map(one: GaussianMixture, other: GaussianMixture) -> tuple[Float[Tensor, "d d"], Float[Tensor, " d"]]:
    """Return matrix and shift of the optimal transport x ↦ A x + b between two Gaussians."""
    _check_single(one, other)
    root = _root(one.covariances[0])
    inverse = torch.linalg.inv(root)
    matrix = inverse @ _root(root @ other.covariances[0] @ root) @ inverse
    return matrix, other.means[0] - matrix @ one.means[0]


def independent_cost(one: GaussianMixture, other: GaussianMixture) -> Float[Tensor, ""]:
    """Return the mean squared distance of independently drawn points of two Gaussians."""
    _check_single(one, other)
    traces = one.covariances[0].trace() + other.covariances[0].trace()
    return (one.means[0] - other.means[0]).square().sum() + traces


def rectified_straightness(std0: Float[Tensor, " d"], std1: Float[Tensor, " d"]) -> Float[Tensor, ""]:
    """Return the straightness of the first rectified flow between Gaussians with parallel axes: (2 - π/2) Σ σ₀ σ₁.

    Along each axis the flow scales by σ_t/σ₀ with σ_t² = (1 - t)² σ₀² + t² σ₁², and
    ∫ (σ₁ - σ₀ - σ̇_t)² dt = (2 - π/2) σ₀ σ₁. The means move straight and add nothing.

    >>> round(rectified_straightness(torch.ones(2), torch.ones(2)).item(), 4)
    0.8584
    """
    return (2 - math.pi / 2) * (std0 * std1).sum()


def _check_single(*mixtures: GaussianMixture) -> None:
    for mixture in mixtures:
        if len(mixture.means) != 1:
            raise ValueError(f"The closed form is for one Gaussian, got a mixture of {len(mixture.means)}.")
