"""Layers and networks of spiking neurons; many networks of one shape run as one ensemble.

Between the neurons there are plain linear layers, which see all time steps as one large batch: the loop over time is inside
the neurons only. An input that is the same in all steps is multiplied by the weights once.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sciviz.lab.checks import check_choice, check_int, check_nonnegative, check_positive
from sciviz.lab.products import linear
from sciviz.snn.models import Leaky, Neuron
from sciviz.snn.neurons import Trace

READOUTS = ("sum", "last", "count")


def spread_linear(
    X: Float[Tensor, "time *rest inputs"],
    weight: Float[Tensor, "*networks outputs inputs"],
    bias: Float[Tensor, "*networks outputs"] | None = None,
) -> Float[Tensor, "time *rest outputs"]:
    """Apply a linear layer to all steps at once; to a constant input once, however many steps it has.

    A weight (networks, outputs, inputs) belongs to an ensemble: X is then (time, networks, batch, inputs), or
    (time, batch, inputs) for one input that all networks share; the result is (time, networks, batch, outputs).

    >>> spread_linear(torch.ones(1, 2, 3).expand(7, 2, 3), torch.ones(5, 4, 3)).shape
    torch.Size([7, 5, 2, 4])
    """
    # A tensor expanded over time has stride 0 there: all its steps are the same memory.
    num_steps = len(X)
    constant = num_steps > 1 and X.stride(0) == 0
    X = X[:1] if constant else X
    if weight.ndim == 2:
        # The scratch memory of oneDNN makes the system hand out fresh pages for all that follows: only large products repay it.
        current = linear(X, weight, bias, least=2e8)
    elif X.ndim == 3:
        flat = nn.functional.linear(X, weight.flatten(0, 1), None if bias is None else bias.flatten())
        current = flat.view(*flat.shape[:2], *weight.shape[:2]).transpose(1, 2)
    else:
        rows = X.transpose(0, 1).flatten(1, 2)
        flat = rows @ weight.mT if bias is None else torch.baddbmm(bias[:, None], rows, weight.mT)
        current = flat.view(len(flat), len(X), -1, flat.shape[-1]).transpose(0, 1)
    return current.expand(num_steps, *current.shape[1:]) if constant else current


class Output(NamedTuple):
    """`logits` (*networks, batch, classes), and the `layers`' traces, first hidden layer first."""

    logits: Tensor
    layers: list[Trace]


class SpikingNetwork(nn.Module):
    """Fully connected layers of spiking neurons with a readout.

    Parameters
    ----------
    sizes
        Inputs, hidden layers, classes.
    seed
        Draws the weights: uniform, with the standard deviation `gain`/√(3·inputs) (torch's own at gain 1).
    neuron
        One for all layers; any callable with `step`.
    num_networks
        Train so many networks with weights of their own as one; None is a single network without that dimension.
    readout
        "sum": the last layer sums its input spikes over time and never fires. "last": it leaks, with the time constant
        `tau_readout` steps, and is read at the last step. "count": the last layer fires too, and its spikes are counted.
    gain
        Factor on the weights' scale: sparse spikes need more than a constant current does.

    Raises
    ------
    ValueError
        If there are fewer than two sizes, or one is out of range.

    >>> net = SpikingNetwork([64, 32, 10], seed=0, num_networks=3)
    >>> net(torch.rand(25, 8, 64)).logits.shape
    torch.Size([3, 8, 10])
    """

    def __init__(
        self,
        sizes: Sequence[int],
        *,
        seed: int,
        neuron: Neuron | None = None,
        num_networks: int | None = None,
        readout: str = "sum",
        tau_readout: float = 20.0,
        gain: float = 1.0,
    ) -> None:
        super().__init__()
        if len(sizes) < 2:
            raise ValueError(f"sizes must name at least inputs and classes, got {list(sizes)}.")
        for size in sizes:
            check_int(1, sizes=size)
        if num_networks is not None:
            check_int(1, num_networks=num_networks)
        check_choice(READOUTS, readout=readout)
        check_positive(tau_readout=tau_readout, gain=gain)
        self.sizes, self.readout, self.tau_readout = list(sizes), readout, tau_readout
        self.neuron: Neuron = Leaky() if neuron is None else neuron
        generator = torch.Generator().manual_seed(seed)
        lead = () if num_networks is None else (num_networks,)
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        for inputs, outputs in itertools.pairwise(sizes):
            bound = gain / math.sqrt(inputs)
            drawn = torch.rand((*lead, outputs, inputs + 1), generator=generator).mul_(2 * bound).sub_(bound)
            self.weights.append(nn.Parameter(drawn[..., :-1].contiguous()))
            self.biases.append(nn.Parameter(drawn[..., -1] / gain))

    def forward(self, X: Float[Tensor, "time *networks batch inputs"]) -> Output:
        """Run over a sequence of spikes or currents.

        Raises
        ------
        ValueError
            If the shape does not fit.
        """
        self._check(X)
        layers: list[Trace] = []
        for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            trace = self.neuron(spread_linear(X, weight, bias))
            layers.append(trace)
            X = trace.spikes
        weight, bias = self.weights[-1], self.biases[-1]
        if self.readout == "count":
            last = self.neuron(spread_linear(X, weight, bias))
            return Output(last.spikes.sum(0), [*layers, last])
        # Linear layer and linear sum over time change places: one product instead of one a step.
        logits: Tensor = spread_linear(self._summed(X)[None], weight, bias)[0]
        return Output(logits, layers)

    def _summed(self, spikes: Tensor) -> Tensor:
        if self.readout == "sum":
            return spikes.sum(0)
        ages = torch.arange(len(spikes) - 1, -1, -1, dtype=spikes.dtype, device=spikes.device)
        kernel = torch.exp(-ages / self.tau_readout)
        faded: Tensor = torch.tensordot(kernel, spikes, dims=1)
        return faded

    def _check(self, X: Tensor) -> None:
        lead = self.weights[0].shape[:-2]
        shapes = [(1 + 1, ()), (1 + 2, lead)] if lead else [(2, ())]
        fits = any(X.ndim == n + 1 and tuple(X.shape[1 : 1 + len(extra)]) == tuple(extra) for n, extra in shapes)
        if not fits or X.shape[-1] != self.sizes[0]:
            wanted = f"(time, batch, {self.sizes[0]})" + (
                f" or (time, {lead[0]}, batch, {self.sizes[0]})" if lead else ""
            )
            raise ValueError(f"X must have shape {wanted}, got {tuple(X.shape)}.")

    def extra_repr(self) -> str:
        """Say what the weights do not show."""
        return f"sizes={self.sizes}, readout={self.readout!r}, neuron={self.neuron}"


def train(
    network: SpikingNetwork,
    X: Float[Tensor, "time *networks sample inputs"],
    y: Float[Tensor, "*networks sample"],
    *,
    seed: int,
    num_epochs: int,
    batch_size: int = 64,
    lr: float = 2e-3,
    decay_lr: bool = True,
    spike_penalty: float = 0.0,
) -> list[float]:
    """Train a network, or an ensemble, by surrogate gradients: cross-entropy, Adam, a rate that falls to zero by a cosine.

    Parameters
    ----------
    X, y
        Spikes or currents (time, [networks,] sample, inputs) and classes ([networks,] sample).
    seed
        Orders the batches; all networks of an ensemble see the same positions in the same order.
    spike_penalty
        Price of a spike: this times the share of neurons and steps that fire, added to the loss.

    Returns
    -------
    list[float]
        The mean loss of each epoch.

    Raises
    ------
    ValueError
        If a number is out of range.

    >>> net = SpikingNetwork([2, 8, 2], seed=0)
    >>> losses = train(net, torch.eye(2).expand(5, 2, 2), torch.arange(2), seed=0, num_epochs=20, lr=0.02)
    >>> losses[-1] < losses[0]
    True
    """
    check_int(1, num_epochs=num_epochs, batch_size=batch_size)
    check_positive(lr=lr)
    check_nonnegative(spike_penalty=spike_penalty)
    optimizer = torch.optim.Adam(network.parameters(), lr=lr)
    num = X.shape[-2]
    per_epoch = math.ceil(num / batch_size)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, num_epochs * per_epoch) if decay_lr else None
    generator = torch.Generator().manual_seed(seed)
    # One step of a constant input is all there is to gather from.
    constant = len(X) > 1 and X.stride(0) == 0
    losses = []
    for _ in range(num_epochs):
        order = torch.randperm(num, generator=generator)
        total = 0.0
        for start in range(0, num, batch_size):
            chosen = order[start : start + batch_size].to(X.device)
            batch = (X[:1] if constant else X).index_select(-2, chosen)
            batch = batch.expand(len(X), *batch.shape[1:]) if constant else batch
            target = y.index_select(-1, chosen)
            logits, layers = network(batch)
            target = target.expand(logits.shape[:-1])
            loss = nn.functional.cross_entropy(logits.flatten(0, -2), target.flatten(), reduction="sum")
            if spike_penalty > 0:
                share = sum(trace.spikes.mean((0, -2, -1)).sum() for trace in layers)
                loss = loss + spike_penalty * len(chosen) * share
            optimizer.zero_grad(set_to_none=True)
            # Summed over networks, averaged over samples: each network's gradient is its own.
            (loss / len(chosen)).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            if schedule is not None:
                schedule.step()
            total += float(loss.detach())
        losses.append(total / (num * math.prod(network.weights[0].shape[:-2])))
    return losses


def accuracy(
    network: SpikingNetwork, X: Float[Tensor, "time *networks sample inputs"], y: Float[Tensor, "*networks sample"]
) -> Float[Tensor, "*networks"]:
    """Return the share of samples classified rightly, for each network.

    >>> net = SpikingNetwork([2, 4, 2], seed=0)
    >>> accuracy(net, torch.zeros(3, 5, 2), torch.zeros(5, dtype=torch.long)).shape
    torch.Size([])
    """
    with torch.no_grad():
        right: Tensor = network(X).logits.argmax(-1) == y
        return right.to(torch.float64).mean(-1)
