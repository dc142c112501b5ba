"""Which way from noise to data costs least: Gaussian paths x = α x₁ + σ ε and the schedule of least kinetic energy.

All that the kinetic energy knows of the data is one function of one number, the separation λ(α/σ): how much of a data
point can be told from its noisy copy. In polar coordinates (α, σ) = r (sin θ, cos θ) the energy is that of a particle
on a cone, r′² + r² w(θ)² θ′², and a cone is flat: cut open, its shortest paths are straight lines [kinetic-optimal-paths].
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from sciviz.lab.checks import check_finite, check_int, check_ndim, check_same_last_dim, check_same_length

__all__ = [
    "KineticSchedule",
    "angle_grid",
    "kinetic_energy",
    "kinetic_optimal_schedule",
    "opening",
    "separation_function",
    "standardise",
    "straight_energy",
]


def standardise(X: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
    """Centre points and scale them together so that |x|² is d on average, the scale of standard normal noise.

    Raises
    ------
    ValueError
        If there are fewer than two points, or all are equal.

    >>> X = standardise(torch.tensor([[0.0, 0.0], [4.0, 0.0]]))
    >>> round(float(X.square().sum(1).mean()), 4)
    2.0
    """
    check_ndim(2, X=X)
    check_finite(X=X)
    check_int(2, number_of_points=len(X))
    centred = X - X.mean(0)
    power = centred.square().mean()
    if not power > 0:
        raise ValueError("X must hold at least two different points, got equal ones.")
    return centred / power.sqrt()


def separation_function(
    X: Float[Tensor, "n d"], ratio: Float[Tensor, " ratios"], *, num_draws: int = 4, seed: int
) -> Float[Tensor, " ratios"]:
    """Estimate λ(s) = E|E[x₁ | s x₁ + ε]|² / d of a finite set of points, at each signal-to-noise ratio s = α/σ.

    λ is 0 where the noisy copy says nothing of which point it came from, and 1 where it says everything.

    Parameters
    ----------
    X
        Points, standardised (`standardise`). They are taken as all the data there are.
    ratio
        Values of s ≥ 0.
    num_draws
        Noise vectors a point; the same ones serve every ratio.

    Notes
    -----
    The best linear guess s z/(1 + s²) of x₁ from z = s x₁ + ε errs by d/(1 + s²) in the mean square. By Pythagoras that is
    what the best guess x̂ gains over it, E|x̂ − s z/(1 + s²)|², and what is left, E|x₁ − x̂|². Only the share of the two is
    measured, so that the estimate lies between the linear λ = s²/(1 + s²) and 1, and is exact at both ends.

    >>> two = standardise(torch.tensor([[-1.0], [1.0]]).double())
    >>> far = separation_function(two, torch.tensor([0.0, 10.0]).double(), seed=0)
    >>> [round(float(value), 3) for value in far]
    [0.0, 1.0]
    """
    check_ndim(2, X=X)
    check_finite(X=X, ratio=ratio)
    check_int(1, num_draws=num_draws)
    generator = torch.Generator(device=X.device).manual_seed(seed)
    gram = X @ X.T
    power = gram.diagonal()
    gained, left = torch.zeros_like(ratio), torch.zeros_like(ratio)
    for _ in range(num_draws):
        noise = torch.randn(X.shape, generator=generator, dtype=X.dtype, device=X.device)
        noise_gram = noise @ X.T  # all that follows needs inner products only, whatever the dimension
        along, noise_power = noise_gram.diagonal(), noise.square().sum(1)
        for k, s in enumerate(ratio):
            inner = s * gram + noise_gram  # z · x_j
            weights = torch.softmax(s * inner - s**2 * power / 2, dim=1)
            shrink = s / (1 + s**2)
            z_power = s**2 * power + 2 * s * along + noise_power
            guess_power = ((weights @ gram) * weights).sum(1)
            gain = guess_power - 2 * shrink * (weights * inner).sum(1) + shrink**2 * z_power
            gained[k] += gain.mean().clamp(min=0)
            left[k] += (guess_power - 2 * (weights @ gram).diagonal() + power).mean().clamp(min=0)
    share = gained / (gained + left)
    return (ratio**2 + share) / (1 + ratio**2)


def angle_grid(num_points: int = 200, *, dtype: torch.dtype = torch.float64) -> Float[Tensor, " angles"]:
    """Return the midpoints of `num_points` equal parts of the angles from pure noise (0) to pure data (π/2).

    >>> angle_grid(2)
    tensor([0.3927, 1.1781], dtype=torch.float64)
    """
    check_int(1, num_points=num_points)
    return (torch.arange(num_points, dtype=dtype) + 0.5) * (math.pi / 2 / num_points)


def opening(
    angle: Float[Tensor, "*batch angles"], separation: Float[Tensor, "*batch angles"]
) -> Float[Tensor, "*batch angles"]:
    """Return w(θ) = √(1 − (1 − λ(tan θ))/cos² θ), what one radian of turning costs.

    It is 1 where the data are told apart, and 0 where the best guess is the linear one, as for Gaussian data, that need
    not move at all.

    >>> angle = angle_grid(4)
    >>> bool(opening(angle, torch.sin(angle) ** 2).max() < 1e-6)
    True
    """
    check_same_last_dim(angle=angle, separation=separation)
    # At most 1, since λ ≤ 1; rounding may leave the range.
    return (1 - (1 - separation) / torch.cos(angle) ** 2).clamp(0, 1).sqrt()


def straight_energy(
    angle: Float[Tensor, "*batch angles"], separation: Float[Tensor, "*batch angles"]
) -> Float[Tensor, "*batch"]:
    """Return the kinetic energy (per dimension) of the straight schedule α = t, σ = 1 − t.

    `angle` is the whole `angle_grid`.

    >>> angle = angle_grid(1000)
    >>> round(float(straight_energy(angle, torch.ones_like(angle))), 4)  # every point alone
    2.0
    """
    # Along the straight schedule r = 1/(sin + cos), dt = r² dθ and r′ = sin − cos.
    sine, cosine = torch.sin(angle), torch.cos(angle)
    turning = opening(angle, separation) ** 2
    radial = ((sine - cosine) / (sine + cosine)) ** 2
    return (radial + turning).mean(-1) * (math.pi / 2)


def kinetic_energy(
    alpha: Float[Tensor, " times"],
    sigma: Float[Tensor, " times"],
    t: Float[Tensor, " times"],
    separation: Callable[[Tensor], Tensor],
) -> float:
    """Return ∫ E|u_t(x_t)|² dt / d of any schedule, given on a grid of times, from its own definition.

    E|u|² is the mean square of α′ x₁ + σ′ ε less what of it cannot be told from x_t,
    (α′ − σ′α/σ)² (1 − λ(α/σ)).

    Parameters
    ----------
    separation
        s → λ(s).

    >>> t = torch.linspace(0, 1, 2001, dtype=torch.float64)
    >>> round(kinetic_energy(t, 1 - t, t, torch.ones_like), 6)
    2.0
    """
    check_same_length(alpha=alpha, sigma=sigma, t=t)
    step = t.diff()
    alpha_rate, sigma_rate = alpha.diff() / step, sigma.diff() / step
    a, s = (alpha[1:] + alpha[:-1]) / 2, (sigma[1:] + sigma[:-1]) / 2
    hidden = (alpha_rate - sigma_rate * a / s) ** 2 * (1 - separation(a / s))
    return float(((alpha_rate**2 + sigma_rate**2 - hidden) * step).sum())


@dataclass(frozen=True)
class KineticSchedule:
    """A schedule of least kinetic energy for given data.

    Attributes
    ----------
    total_angle
        Φ = ∫ w dθ, the angle of the cone cut open; π/2 for data that are always told apart.
    energy
        Its kinetic energy per dimension, 4 sin²(Φ/2): the squared length of the chord.
    t, alpha, sigma
        The schedule on a grid of times.
    """

    total_angle: float
    energy: float
    t: Float[Tensor, " times"]
    alpha: Float[Tensor, " times"]
    sigma: Float[Tensor, " times"]


def kinetic_optimal_schedule(
    angle: Float[Tensor, " angles"], separation: Float[Tensor, " angles"], num_times: int = 101
) -> KineticSchedule:
    """Return the schedule of least kinetic energy.

    On the cone cut open it is the straight line from (1, 0) to (cos Φ, sin Φ), walked at constant speed:
    r² = (1−t)² + 2 t (1−t) cos Φ + t², and the angle obeys the equation θ′ = sin Φ / (r² w(θ)) of the paper's kind. That
    equation cannot be started where w = 0, so the angle is read off the table of ∫ w dθ instead.

    Raises
    ------
    ValueError
        If the separation is the linear one everywhere (Gaussian data: nothing has to move).

    >>> angle = angle_grid(500)
    >>> schedule = kinetic_optimal_schedule(angle, torch.ones_like(angle))
    >>> bool((schedule.alpha - schedule.t).abs().max() < 1e-3), round(schedule.energy, 3)
    (True, 2.0)
    """
    check_int(2, num_times=num_times)
    width = math.pi / 2 / len(angle)
    turned = torch.cat([angle.new_zeros(1), (opening(angle, separation) * width).cumsum(0)])
    edges = torch.arange(len(angle) + 1, dtype=angle.dtype, device=angle.device) * width
    total = float(turned[-1])
    if total < 1e-6:
        raise ValueError("separation must exceed s²/(1+s²) somewhere, got that of Gaussian data, which need no path.")
    t = torch.linspace(0, 1, num_times, dtype=angle.dtype, device=angle.device)
    flat_x, flat_y = (1 - t) + t * math.cos(total), t * math.sin(total)
    radius, flat_angle = torch.hypot(flat_x, flat_y), torch.atan2(flat_y, flat_x)
    place = torch.searchsorted(turned, flat_angle).clamp(1, len(angle))
    low, high = turned[place - 1], turned[place]
    share = ((flat_angle - low) / (high - low).clamp(min=1e-12)).clamp(0, 1)
    theta = edges[place - 1] + share * width
    return KineticSchedule(total, 4 * math.sin(total / 2) ** 2, t, radius * torch.sin(theta), radius * torch.cos(theta))
