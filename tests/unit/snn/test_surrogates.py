"""Surrogates are slopes of their smooth steps; exact spike times against finite differences and a closed form."""

from __future__ import annotations

import math

import pytest
import torch

from sciviz.snn.surrogates import KINDS, Surrogate, as_surrogate, first_spike_time, postsynaptic_potential


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("steepness", [0.7, 4.0])
def test_the_slope_is_the_smooth_steps_derivative(kind, steepness):
    surrogate = Surrogate(kind, steepness, scale=1.5)
    # Off the corners of triangle and boxcar.
    x = torch.linspace(-1.987, 2.011, 83, dtype=torch.float64, requires_grad=True)
    step = surrogate.smooth(x)
    (derivative,) = torch.autograd.grad(step.sum(), x)
    torch.testing.assert_close(surrogate.slope(x), derivative)
    assert (step[1:] >= step[:-1]).all()


@pytest.mark.parametrize("kind", KINDS)
def test_each_smooth_step_rises_from_zero_to_one_around_the_threshold(kind):
    far = torch.tensor([-1e6, 0.0, 1e6], dtype=torch.float64)
    torch.testing.assert_close(
        Surrogate(kind, 3.0).smooth(far), torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64), atol=1e-5, rtol=0
    )


@pytest.mark.parametrize("kind", KINDS)
def test_a_spike_is_a_step_forward_and_a_slope_backward(kind):
    surrogate = Surrogate(kind)
    x = torch.tensor([-0.3, 0.0, 0.2], requires_grad=True)
    spikes = surrogate.spike(x)
    assert spikes.tolist() == [0.0, 1.0, 1.0]
    (grad,) = torch.autograd.grad(spikes.sum(), x)
    torch.testing.assert_close(grad, surrogate.slope(x))


def test_wrong_surrogates_are_named():
    with pytest.raises(ValueError, match="kind must be one of"):
        as_surrogate("step")
    with pytest.raises(ValueError, match="steepness must be"):
        Surrogate(steepness=0.0)


def test_the_potential_solves_its_equation():
    dt, steps = 1e-3, 8000
    v = 0.0
    for n in range(steps):
        v += dt / 10 * (-v + math.exp(-n * dt / 4))
    exact = postsynaptic_potential(torch.tensor(8.0), tau_membrane=10.0, tau_synapse=4.0)
    assert v == pytest.approx(float(exact), rel=1e-3)


def test_the_first_spike_has_a_closed_form_where_one_constant_is_twice_the_other():
    # With τₘ = 2 τₛ the crossing is a quadratic in e^{−t/τₘ}: w (z − z²) = θ.
    w, theta, tau = 6.0, 1.0, 10.0
    z = (1 + math.sqrt(1 - 4 * theta / w)) / 2
    t = first_spike_time(torch.tensor([w], dtype=torch.float64), torch.zeros(1, dtype=torch.float64), threshold=theta)
    assert float(t) == pytest.approx(-tau * math.log(z), abs=1e-9)


def test_spike_times_gradient_is_exact():
    generator = torch.Generator().manual_seed(0)
    weights = (torch.rand(3, 5, generator=generator, dtype=torch.float64) * 3 + 1).requires_grad_()
    times = (torch.rand(3, 5, generator=generator, dtype=torch.float64) * 4).requires_grad_()
    fired = first_spike_time(weights, times)
    assert fired.isfinite().all()
    assert torch.autograd.gradcheck(first_spike_time, (weights, times), eps=1e-5, atol=1e-5)


def test_a_neuron_that_never_fires_has_no_time_and_no_gradient():
    weights = torch.full((2,), 0.1, dtype=torch.float64, requires_grad=True)
    t = first_spike_time(weights, torch.zeros(2, dtype=torch.float64))
    assert t.item() == math.inf
    (grad,) = torch.autograd.grad(t, weights, torch.tensor(1.0, dtype=torch.float64))
    assert (grad == 0).all()


def test_equal_time_constants_are_refused():
    with pytest.raises(ValueError, match="must differ"):
        first_spike_time(torch.ones(1), torch.zeros(1), tau_membrane=5.0, tau_synapse=5.0)


@pytest.mark.parametrize("alpha", [0.5, 2.0])
def test_the_arctangent_counts_its_steepness_as_the_peers_count_alpha(alpha):
    # snntorch.surrogate.atan and spikingjelly's ATan: α/2 / (1 + (π/2 · α x)²).
    x = torch.linspace(-2, 2, 41, dtype=torch.float64)
    torch.testing.assert_close(
        Surrogate("arctan", alpha).slope(x), alpha / 2 / (1 + (math.pi / 2 * alpha * x).square())
    )
