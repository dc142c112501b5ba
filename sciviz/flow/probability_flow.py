"""Deterministic sampling of a diffusion model, and how far a Gaussian ends from where it should.

A forward process dx = −f(t) x dt + g(t) dB turns data into noise. The probability-flow equation runs the same marginal
laws backward without noise. For Gaussian data every step of a solver is an affine map, so that the law after K steps,
and its distance from the exact one, come out in closed form [pf-ode-wasserstein].
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from sciviz.lab.checks import check_choice, check_int, check_nonnegative, check_same_last_dim

__all__ = [
    "INTEGRATORS",
    "NOISE_SCHEDULES",
    "AxisLaw",
    "NoiseSchedule",
    "axis_distance",
    "exact_law",
    "noise_schedule",
    "probability_flow_velocity",
    "sampler_law",
]

INTEGRATORS = ("euler", "exponential")


@dataclass(frozen=True)
class NoiseSchedule:
    """A forward process in which noise either piles up on the data or replaces it.

    Attributes
    ----------
    name
        How the schedule is called.
    preserving
        True: variance preserving, f = β/2 and g² = β with the rate β. False: variance exploding, f = 0 and g² = rate.
    rate, total
        The rate at a time, and its integral from 0.
    horizon
        Time at which sampling starts.

    >>> schedule = noise_schedule("vp-linear")
    >>> t = torch.tensor(1.0)
    >>> round(float(schedule.scale(t) ** 2 + schedule.variance(t)), 6)
    1.0
    """

    name: str
    preserving: bool
    rate: Callable[[Tensor], Tensor]
    total: Callable[[Tensor], Tensor]
    horizon: float

    def drift(self, t: Tensor) -> Tensor:
        """Return f(t), the rate at which the data shrink."""
        return self.rate(t) / 2 if self.preserving else torch.zeros_like(t)

    def scale(self, t: Tensor) -> Tensor:
        """Return the factor that is left of the data at time t."""
        return torch.exp(-self.total(t) / 2) if self.preserving else torch.ones_like(t)

    def variance(self, t: Tensor) -> Tensor:
        """Return the variance of the noise that was added until time t."""
        return -torch.expm1(-self.total(t)) if self.preserving else self.total(t)


# The horizons leave noise of about five standard deviations of the data (exploding) or a few percent of the data
# (preserving): enough that the bias of the start can be seen, and is not all there is to see.
NOISE_SCHEDULES: dict[str, NoiseSchedule] = {
    schedule.name: schedule
    for schedule in (
        NoiseSchedule(
            "ve-exponential", False, lambda t: torch.exp(2 * t), lambda t: torch.expm1(2 * t) / 2, horizon=2.0
        ),
        NoiseSchedule("ve-polynomial", False, lambda t: (1 + t) ** 2, lambda t: ((1 + t) ** 3 - 1) / 3, horizon=3.0),
        NoiseSchedule("vp-constant", True, lambda t: 2 * torch.ones_like(t), lambda t: 2 * t, horizon=3.0),
        NoiseSchedule("vp-linear", True, lambda t: 0.1 + 19.9 * t, lambda t: 0.1 * t + 19.9 * t**2 / 2, horizon=1.0),
    )
}


def noise_schedule(name: str) -> NoiseSchedule:
    """Return one of the four schedules by name.

    Raises
    ------
    ValueError
        If there is no schedule of that name.

    >>> noise_schedule("ve-polynomial").preserving
    False
    """
    check_choice(NOISE_SCHEDULES, name=name)
    return NOISE_SCHEDULES[name]


def probability_flow_velocity(
    t: Float[Tensor, "..."],
    x: Float[Tensor, "*batch d"],
    score: Callable[[Tensor, Tensor], Tensor],
    schedule: NoiseSchedule,
) -> Float[Tensor, "*batch d"]:
    """Return dx/dt = −f(t) x − ½ g(t)² score(t, x), in the forward direction of time.

    Integrated from the horizon to 0, with `sciviz.ode.solve` for example, it turns noise into data without adding any
    [pf-ode-wasserstein].

    Parameters
    ----------
    t
        Time, shaped to broadcast against x.
    x
        Points.
    score
        (t, x) → gradient of the log-density of the noisy data at time t.

    >>> schedule = noise_schedule("vp-constant")
    >>> standard = lambda t, x: -x  # N(0, I) stays N(0, I): nothing moves
    >>> probability_flow_velocity(torch.tensor(1.0), torch.ones(2, 3), standard, schedule).abs().max()
    tensor(0.)
    """
    return -schedule.drift(t) * x - schedule.rate(t) / 2 * score(t, x)


class AxisLaw(NamedTuple):
    """A Gaussian law with independent coordinates: its mean and its standard deviation along each axis, (..., d)."""

    mean: Float[Tensor, "*batch d"]
    deviation: Float[Tensor, "*batch d"]


def axis_distance(first: AxisLaw, second: AxisLaw) -> Float[Tensor, "*batch"]:
    """Return the 2-Wasserstein distance of two Gaussians that share their axes.

    Its square is |m − m'|² + Σ (s − s')²: along each axis sorted points meet sorted points.

    >>> narrow = AxisLaw(torch.zeros(2), torch.ones(2))
    >>> wide = AxisLaw(torch.tensor([3.0, 0.0]), torch.tensor([1.0, 5.0]))
    >>> axis_distance(narrow, wide)
    tensor(5.)
    """
    check_same_last_dim(first=first.mean, second=second.mean)
    squares = (first.mean - second.mean) ** 2 + (first.deviation - second.deviation) ** 2
    return squares.sum(-1).sqrt()


def _start(law: AxisLaw, schedule: NoiseSchedule) -> tuple[Tensor, Tensor]:
    """Return the law that a sampler starts from: pure noise, which forgets the data's mean and spread."""
    spread = schedule.variance(law.mean.new_tensor(schedule.horizon)).sqrt()
    return torch.zeros_like(law.mean), spread.expand_as(law.deviation)


def exact_law(data: AxisLaw, schedule: NoiseSchedule) -> AxisLaw:
    """Return where the exact probability flow ends when it starts from pure noise.

    The flow maps each axis linearly, (x_T − a m)/S_T ↦ (x_0 − m)/S_0 with S_t² = a² S_0² + v. It would end at the data
    if it started from their noisy law; starting from N(0, v_T) leaves the bias of the start.

    >>> data = AxisLaw(torch.tensor([1.0]), torch.tensor([0.5]))
    >>> law = exact_law(data, noise_schedule("vp-linear"))
    >>> bool(axis_distance(law, data) < 0.01)
    True
    """
    t = data.mean.new_tensor(schedule.horizon)
    scale, noise = schedule.scale(t), schedule.variance(t)
    factor = data.deviation / (scale**2 * data.deviation**2 + noise).sqrt()
    mean, deviation = _start(data, schedule)
    return AxisLaw(data.mean + factor * (mean - scale * data.mean), factor * deviation)


def sampler_law(
    data: AxisLaw,
    schedule: NoiseSchedule,
    num_steps: int,
    *,
    integrator: str = "exponential",
    score_error: float = 0.0,
    direction: AxisLaw | None = None,
) -> AxisLaw:
    """Return the law after `num_steps` equal steps of a first-order solver, without sampling.

    Parameters
    ----------
    data
        The Gaussian to be sampled; its score is known exactly.
    integrator
        "euler", or "exponential", which takes the linear part −f(t) x exactly and holds the score during a step, as
        the paper does.
    score_error
        Size M of an error that is added to the score: M (u + w (x − mean)/S). With |u|² + |w|² = 1 its root mean
        square under the law at each time is M.
    direction
        The pair (u, w); by default all of it points along the diagonal of u.

    Raises
    ------
    ValueError
        If the number of steps or the error is out of range, or the integrator is neither of the two.

    >>> data = AxisLaw(torch.tensor([1.0, -1.0]).double(), torch.tensor([0.5, 1.5]).double())
    >>> schedule = noise_schedule("ve-polynomial")
    >>> errors = [axis_distance(sampler_law(data, schedule, k), exact_law(data, schedule)) for k in (100, 200)]
    >>> round(float(errors[0] / errors[1]), 1)
    2.0
    """
    check_int(1, num_steps=num_steps)
    check_choice(INTEGRATORS, integrator=integrator)
    check_nonnegative(score_error=score_error)
    times = torch.linspace(schedule.horizon, 0, num_steps + 1, dtype=data.mean.dtype, device=data.mean.device)
    scale, noise, total = schedule.scale(times), schedule.variance(times), schedule.total(times)
    if integrator == "euler":
        length = times[:-1] - times[1:]
        grow, weight = 1 + length * schedule.drift(times[:-1]), length * schedule.rate(times[:-1]) / 2
    elif schedule.preserving:
        grow = scale[1:] / scale[:-1]
        weight = grow - 1
    else:
        grow, weight = torch.ones_like(times[1:]), (total[:-1] - total[1:]) / 2
    if direction is None:
        ones = torch.full_like(data.mean, data.mean.shape[-1] ** -0.5)
        direction = AxisLaw(ones, torch.zeros_like(ones))
    mean, deviation = _start(data, schedule)
    for k in range(num_steps):
        centre = scale[k] * data.mean
        spread = (scale[k] ** 2 * data.deviation**2 + noise[k]).sqrt()
        # The score, error included, is an affine function of x: slope · (x − centre) + offset.
        slope = -1 / spread**2 + score_error * direction.deviation / spread
        factor = grow[k] + weight[k] * slope
        mean = factor * (mean - centre) + grow[k] * centre + weight[k] * score_error * direction.mean
        deviation = factor.abs() * deviation
    return AxisLaw(mean, deviation)
