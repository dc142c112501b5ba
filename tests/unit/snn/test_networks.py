"""Networks: constant inputs, ensembles, readouts, agreement with a plain loop over time."""

from __future__ import annotations

import pytest
import torch

from sciviz.snn.models import Adaptive, Leaky, Synaptic
from sciviz.snn.networks import SpikingNetwork, accuracy, spread_linear, train


def _by_steps(net: SpikingNetwork, X: torch.Tensor) -> torch.Tensor:
    """Run a network one step at a time, as the equations are written."""
    states = [None] * (len(net.weights) - 1)
    total = 0.0
    for now in X:
        for n in range(len(states)):
            now, _, states[n] = net.neuron.step(
                torch.nn.functional.linear(now, net.weights[n], net.biases[n]), states[n]
            )
        total = total + now
    return torch.nn.functional.linear(total, net.weights[-1], net.biases[-1])


@pytest.mark.parametrize("neuron", [Leaky(tau=10.0), Adaptive(tau=10.0), Synaptic(tau=10.0)])
def test_end_to_end_agrees_with_a_loop_over_time(neuron):
    net = SpikingNetwork([12, 20, 15, 4], seed=0, neuron=neuron, gain=3.0).double()
    X = (torch.rand(40, 6, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64) < 0.3).double()
    logits, layers = net(X)
    assert layers[1].spikes.sum() > 0
    torch.testing.assert_close(logits, _by_steps(net, X), atol=1e-10, rtol=0)


def test_a_constant_input_is_multiplied_once_and_changes_nothing():
    X = torch.rand(8, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    net = SpikingNetwork([12, 20, 4], seed=0).double()
    once, often = net(X.expand(30, 8, 12)).logits, net(X.repeat(30, 1, 1)).logits
    assert float((once - often).abs().max()) <= 1e-10
    current = spread_linear(X.expand(30, 8, 12), net.weights[0])
    assert current.stride(0) == 0


def test_an_ensemble_is_its_members():
    X = torch.rand(20, 7, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    both = SpikingNetwork([12, 16, 4], seed=0, num_networks=3).double()
    one = SpikingNetwork([12, 16, 4], seed=0).double()
    shared = both(X).logits
    own = both(X[:, None].expand(-1, 3, -1, -1)).logits
    for n in range(3):
        with torch.no_grad():
            for mine, all_ in zip(one.parameters(), both.parameters(), strict=True):
                mine.copy_(all_[n])
        for logits in (shared, own):
            torch.testing.assert_close(logits[n], one(X).logits, atol=1e-10, rtol=0)


def test_members_of_an_ensemble_train_as_if_alone():
    X = torch.rand(10, 24, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    y = torch.arange(24) % 3
    both = SpikingNetwork([6, 8, 3], seed=0, num_networks=2).double()
    one = SpikingNetwork([6, 8, 3], seed=0).double()
    with torch.no_grad():
        for mine, all_ in zip(one.parameters(), both.parameters(), strict=True):
            mine.copy_(all_[1])
    train(both, X, y, seed=1, num_epochs=2, batch_size=12)
    train(one, X, y, seed=1, num_epochs=2, batch_size=12)
    for mine, all_ in zip(one.parameters(), both.parameters(), strict=True):
        torch.testing.assert_close(mine, all_[1], atol=1e-8, rtol=0)


@pytest.mark.parametrize("readout", ["sum", "last", "count"])
def test_a_network_learns_with_each_readout(readout):
    generator = torch.Generator().manual_seed(0)
    X = torch.rand(60, 8, generator=generator)
    y = (X[:, 0] > X[:, 1]).long()
    net = SpikingNetwork([8, 24, 2], seed=0, readout=readout, neuron=Leaky(tau=10.0))
    shown = X.expand(15, 60, 8)
    losses = train(net, shown, y, seed=0, num_epochs=40, lr=0.02, batch_size=20)
    assert losses[-1] < 0.5 * losses[0]
    assert float(accuracy(net, shown, y)) >= 0.9


def test_the_last_readout_is_a_leaky_membrane():
    net = SpikingNetwork([5, 6, 3], seed=0, readout="last", tau_readout=7.0, gain=3.0).double()
    X = torch.rand(30, 4, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    spikes = net(X).layers[0].spikes
    v = 0.0
    for now in spikes:
        v = v * torch.exp(torch.tensor(-1 / 7.0, dtype=torch.float64)) + now
    expected = torch.nn.functional.linear(v, net.weights[-1], net.biases[-1])
    torch.testing.assert_close(net(X).logits, expected)


def test_a_price_for_spikes_makes_fewer():
    X = torch.rand(10, 40, 6, generator=torch.Generator().manual_seed(0))
    y = torch.arange(40) % 2
    counts = []
    for price in (0.0, 30.0):
        net = SpikingNetwork([6, 16, 2], seed=0, gain=2.0)
        train(net, X, y, seed=0, num_epochs=15, lr=0.05, spike_penalty=price)
        counts.append(float(net(X).layers[0].spikes.detach().sum()))
    assert counts[1] < 0.7 * counts[0]


def test_wrong_shapes_are_named():
    net = SpikingNetwork([6, 8, 3], seed=0, num_networks=2)
    with pytest.raises(ValueError, match=r"X must have shape \(time, batch, 6\) or \(time, 2, batch, 6\)"):
        net(torch.zeros(5, 4, 7))
    with pytest.raises(ValueError, match="X must have shape"):
        net(torch.zeros(5, 3, 4, 6))
    with pytest.raises(ValueError, match="at least inputs and classes"):
        SpikingNetwork([3], seed=0)
    with pytest.raises(ValueError, match="readout must be one of"):
        SpikingNetwork([3, 2], seed=0, readout="max")


def test_dead_layers_hand_on_nothing_and_still_learn():
    net = SpikingNetwork([4, 6, 2], seed=0, gain=0.01)
    X = torch.zeros(8, 5, 4, requires_grad=True)
    logits, layers = net(X)
    assert layers[0].spikes.sum() == 0
    (grad,) = torch.autograd.grad(logits.sum(), X)
    # A membrane far below its threshold still has a slope under a surrogate with tails.
    assert grad.isfinite().all()
    assert grad.abs().sum() > 0
