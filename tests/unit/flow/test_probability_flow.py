"""Closed-form sampling laws against particles, against the ODE solver, and the claims against laws that break them."""

import itertools

import pytest
import torch

from sciviz.flow import figures
from sciviz.flow.experiments import sampling_steps, sampling_steps_claim, score_error_claim
from sciviz.flow.probability_flow import (
    INTEGRATORS,
    NOISE_SCHEDULES,
    AxisLaw,
    axis_distance,
    exact_law,
    noise_schedule,
    probability_flow_velocity,
    sampler_law,
)
from sciviz.lab.theme import alt_text
from sciviz.ode import solve

DATA = AxisLaw(torch.tensor([1.0, -0.5]).double(), torch.tensor([0.5, 1.3]).double())


def score_of(data, schedule):
    def score(t, x):
        scale, noise = schedule.scale(t), schedule.variance(t)
        return -(x - scale * data.mean) / (scale**2 * data.deviation**2 + noise)

    return score


@pytest.mark.parametrize("name", NOISE_SCHEDULES)
def test_schedules_satisfy_their_own_equations(name):
    schedule = noise_schedule(name)
    t = torch.linspace(0.05, schedule.horizon, 7, dtype=torch.float64, requires_grad=True)
    (rate,) = torch.autograd.grad(schedule.total(t).sum(), t, retain_graph=True)
    torch.testing.assert_close(rate, schedule.rate(t).detach())
    # d scale/dt = −f scale and d variance/dt = −2 f variance + g².
    step = 1e-6
    scale_rate = (schedule.scale(t + step) - schedule.scale(t - step)) / (2 * step)
    torch.testing.assert_close(scale_rate, -schedule.drift(t) * schedule.scale(t), rtol=1e-6, atol=1e-8)
    (noise_rate,) = torch.autograd.grad(schedule.variance(t).sum(), t)
    expected = -2 * schedule.drift(t) * schedule.variance(t) + schedule.rate(t)
    torch.testing.assert_close(noise_rate, expected.detach())


@pytest.mark.parametrize("name", NOISE_SCHEDULES)
def test_exact_law_is_where_the_solver_takes_two_points(name):
    schedule = noise_schedule(name)
    score = score_of(DATA, schedule)
    spread = schedule.variance(torch.tensor(schedule.horizon).double()).sqrt()
    starts = torch.stack([torch.zeros(2).double(), spread.expand(2)])
    times = torch.tensor([schedule.horizon, 0.0], dtype=torch.float64)
    ends = solve(
        lambda t, x: probability_flow_velocity(t, x, score, schedule), starts, times, rtol=1e-9, atol=1e-10
    ).y_end
    law = exact_law(DATA, schedule)
    torch.testing.assert_close(ends[0], law.mean, rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(ends[1] - ends[0], law.deviation, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("integrator", INTEGRATORS)
@pytest.mark.parametrize("name", NOISE_SCHEDULES)
def test_sampler_law_is_what_steps_do_to_points(name, integrator):
    schedule = noise_schedule(name)
    wrong = AxisLaw(torch.tensor([0.6, 0.0]).double(), torch.tensor([0.0, 0.8]).double())
    law = sampler_law(DATA, schedule, 30, integrator=integrator, score_error=0.2, direction=wrong)
    times = torch.linspace(schedule.horizon, 0, 31, dtype=torch.float64)
    start = schedule.variance(times[0]).sqrt()
    x = torch.stack([torch.zeros(2).double(), start.expand(2)])
    for t, after in itertools.pairwise(times):
        spread = (schedule.scale(t) ** 2 * DATA.deviation**2 + schedule.variance(t)).sqrt()
        gap = (x - schedule.scale(t) * DATA.mean) / spread
        score = score_of(DATA, schedule)(t, x) + 0.2 * (wrong.mean + wrong.deviation * gap)
        if integrator == "euler":
            x = x + (t - after) * (schedule.drift(t) * x + schedule.rate(t) / 2 * score)
        else:
            # The linear part exactly, the score held: by quadrature instead of the closed form.
            fine = torch.linspace(float(after), float(t), 2001, dtype=torch.float64)
            growth = schedule.scale(after) / schedule.scale(fine)
            x = schedule.scale(after) / schedule.scale(t) * x + score / 2 * torch.trapezoid(
                growth * schedule.rate(fine), fine
            )
    torch.testing.assert_close(x[0], law.mean, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close((x[1] - x[0]).abs(), law.deviation, rtol=1e-5, atol=1e-6)


def test_distance_against_transport_of_samples():
    generator = torch.Generator().manual_seed(0)
    one, two = AxisLaw(torch.zeros(1), torch.ones(1)), AxisLaw(torch.ones(1), torch.full((1,), 2.0))
    first = torch.randn(200_000, generator=generator)
    second = 1 + 2 * torch.randn(200_000, generator=generator)
    by_sorting = (first.sort().values - second.sort().values).square().mean().sqrt()
    assert float(axis_distance(one, two)) == pytest.approx(float(by_sorting), rel=0.02)


def test_claims_hold_and_can_fail():
    ds = sampling_steps(seed=3, num_seeds=3, num_steps=(32, 64, 128))
    assert sampling_steps_claim(ds).holds and score_error_claim(ds).holds
    second_order = ds.copy(deep=True)
    second_order["discretisation"] = ds.discretisation**2
    assert sampling_steps_claim(second_order).holds is False
    quadratic = ds.copy(deep=True)
    quadratic["shift"] = ds["shift"] ** 2
    assert score_error_claim(quadratic).holds is False
    assert sampling_steps_claim(ds.isel(seed=slice(1))).holds is None


def test_figure_and_bad_input():
    ds = sampling_steps(seed=0, num_seeds=2, num_steps=(8, 16))
    assert "slope" in alt_text(figures.plot_sampling_steps(ds))
    with pytest.raises(ValueError, match="integrator"):
        sampler_law(DATA, noise_schedule("vp-linear"), 5, integrator="heun")
    with pytest.raises(ValueError, match="vp-linear"):
        noise_schedule("vp-liner")
