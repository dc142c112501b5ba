"""Neurons as objects: closed forms, fine-step references, the f-I curve, kinds of firing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp

from sciviz.snn.models import (
    Adaptive,
    Chialvo,
    IntegrateAndFire,
    Izhikevich,
    Leaky,
    Membrane,
    Rulkov,
    Synaptic,
)

ALL = {
    "integrate-and-fire": (IntegrateAndFire(), 0.3),
    "leaky": (Leaky(), 0.3),
    "adaptive": (Adaptive(), 0.6),
    "synaptic": (Synaptic(), 0.1),
    "membrane": (Membrane(dt=1.0), 4.0),
    "izhikevich": (Izhikevich(), 20.0),
    "chialvo": (Chialvo(), 0.1),
    "rulkov": (Rulkov(), 0.3),
}


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_single_step_and_whole_sequence_agree_bit_for_bit(name, dtype):
    neuron, size = ALL[name]
    current = torch.rand(200, 3, 5, generator=torch.Generator().manual_seed(1), dtype=dtype) * size
    trace = neuron(current)
    state, rows = None, []
    for now in current:
        spikes, membrane, state = neuron.step(now, state)
        rows.append((spikes, membrane))
    assert torch.equal(trace.spikes, torch.stack([s for s, _ in rows]))
    assert torch.equal(trace.membrane, torch.stack([v for _, v in rows]))
    assert trace.spikes.sum() > 0
    assert trace.membrane.dtype == dtype


@pytest.mark.parametrize("name", ALL)
def test_gradients_reach_the_current(name):
    neuron, size = ALL[name]
    current = (torch.rand(60, 4, generator=torch.Generator().manual_seed(1)) * size).requires_grad_()
    (grad,) = torch.autograd.grad(neuron(current).spikes.sum(), current)
    assert grad.isfinite().all()
    assert grad.abs().sum() > 0


def test_the_membrane_follows_its_closed_form():
    cell = Membrane()
    time = (torch.arange(2000, dtype=torch.float64) + 1) * cell.dt
    trace = cell(torch.full((2000, 1), 1.4, dtype=torch.float64))
    torch.testing.assert_close(trace.membrane.squeeze(1), cell.potential(1.4, time), atol=1e-10, rtol=0)


def test_the_membrane_follows_a_fine_step_reference_where_the_current_changes():
    cell = Membrane(dt=0.05)
    time = np.arange(2000) * cell.dt
    current = torch.tensor(1.0 + 0.4 * np.sin(time / 7))[:, None]
    seen = cell(current).membrane.squeeze(1).numpy()
    solved = solve_ivp(
        lambda t, v: (-(v - cell.rest) + cell.resistance * (1.0 + 0.4 * np.sin(t / 7))) / cell.tau,
        (0, 100),
        [cell.rest],
        t_eval=time[1:],
        rtol=1e-10,
        atol=1e-10,
    )
    # Holding the current over a step costs an error of first order in the step.
    assert np.abs(seen[:-1] - solved.y[0]).max() < 0.01
    # A step of half the length makes it half as large.
    half = Membrane(dt=0.025)
    finer = np.arange(4000) * half.dt
    again = half(torch.tensor(1.0 + 0.4 * np.sin(finer / 7))[:, None]).membrane.squeeze(1).numpy()[1::2]
    ratio = np.abs(again[:-1] - solved.y[0]).max() / np.abs(seen[:-1] - solved.y[0]).max()
    assert 0.4 < ratio < 0.6


@pytest.mark.parametrize("reset", [-65.0, -70.0, -55.0])
def test_the_firing_rate_is_the_formulas_within_one_percent(reset):
    cell = Membrane(dt=0.01, reset=reset)
    current = torch.tensor([1.51, 1.6, 2.0, 3.0, 5.0], dtype=torch.float64)
    spikes = cell(current.expand(50_000, 5)).spikes
    expected = cell.rate(current)
    for n in range(5):
        fired = spikes[:, n].nonzero().squeeze(1).double() * cell.dt
        assert 1000 / float(fired.diff().mean()) == pytest.approx(float(expected[n]), rel=0.01)
    assert cell.rate(torch.tensor([cell.rheobase - 1e-6])).item() == 0


def test_a_run_can_be_resumed():
    cell = Membrane()
    current = torch.full((3000, 2), 2.0, dtype=torch.float64)
    whole = cell(current)
    first = cell(current[:1000])
    held = (first.membrane[-1] - cell.reset) * (1 - first.spikes[-1])
    # Up to the rounding of taking the reset potential off and putting it back.
    torch.testing.assert_close(cell.resume(current[1000:], held).membrane, whole.membrane[1000:], atol=1e-10, rtol=0)


def test_adaptation_slows_a_neuron_down():
    spikes = Adaptive(adaptation=0.5)(torch.full((400, 1), 0.3)).spikes.squeeze(1)
    intervals = spikes.nonzero().squeeze(1).diff()
    assert intervals[-1] > 1.5 * intervals[0]


def test_izhikevich_agrees_with_a_fine_step_reference_between_spikes():
    coarse, fine = Izhikevich(dt=0.1, num_substeps=1), Izhikevich(dt=0.005, num_substeps=1)
    a = coarse(torch.full((500, 1), 2.0, dtype=torch.float64))
    b = fine(torch.full((10_000, 1), 2.0, dtype=torch.float64))
    assert a.spikes.sum() == b.spikes.sum() == 0
    assert float((a.membrane - b.membrane[19::20]).abs().max()) < 0.1


def test_kinds_of_izhikevich_fire_as_they_are_called():
    current = torch.full((1200, 1), 10.0)
    fired = {k: Izhikevich.kind(k, dt=0.5)(current).spikes.squeeze(1).nonzero().squeeze(1) for k in Izhikevich.KINDS}
    gaps = {kind: at.diff().double() for kind, at in fired.items()}
    assert len(fired["fast spiking"]) > 2 * len(fired["regular spiking"])
    # Bursts have short gaps and long ones; regular firing settles to one.
    assert gaps["chattering"].max() > 4 * gaps["chattering"].min()
    assert gaps["regular spiking"][3:].max() < 1.2 * gaps["regular spiking"][3:].min()


def test_rulkov_is_silent_tonic_or_bursting():
    def gaps(alpha, sigma):
        spikes = Rulkov(alpha=alpha, sigma=sigma)(torch.zeros(8000, 1, dtype=torch.float64)).spikes[2000:]
        return spikes.squeeze(1).nonzero().squeeze(1).diff().double()

    assert len(gaps(4.0, -0.01)) == 0
    tonic, bursts = gaps(4.0, 0.05), gaps(6.0, -0.1)
    assert tonic.max() < 1.5 * tonic.min()
    assert bursts.max() > 10 * bursts.min()


def test_chialvo_fires_more_when_driven():
    model = Chialvo(b=0.18, c=0.28, k=0.0)
    quiet, driven = (model(torch.full((1500, 1), level)).spikes.sum() for level in (0.0, 0.05))
    assert driven > quiet


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Leaky(tau=0.5), "tau must be at least the step dt"),
        (lambda: Synaptic(tau_synapse=0.5), "tau must be at least the step dt"),
        (lambda: Adaptive(tau_adaptation=0.1), "tau must be at least the step dt"),
        (lambda: Membrane(tau=0.05), "take dt at most"),
        (lambda: Membrane(threshold=-70.0), "threshold must lie above rest and reset"),
        (lambda: Izhikevich(dt=2.0), "dt must be at most 1 ms"),
        (lambda: Izhikevich.kind("bursty"), "name must be one of"),
        (lambda: Rulkov(mu=1.0), "mu must be below 1"),
        (lambda: IntegrateAndFire(threshold=0.0), "threshold must be a finite number greater than 0"),
    ],
)
def test_bad_constants_are_named(make, words):
    with pytest.raises(ValueError, match=words):
        make()
