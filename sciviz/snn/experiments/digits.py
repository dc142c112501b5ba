"""Digits as spikes: encodings compared, what accuracy costs in operations, and a trained network to look into."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import xarray as xr
from jaxtyping import Float, Int
from torch import Tensor

from sciviz.lab.checks import check_int, check_nonnegative, check_same_length
from sciviz.lab.results import dataset, variable
from sciviz.snn.encodings import ENCODINGS, encode
from sciviz.snn.energy import EnergyModel, Operations, count_operations
from sciviz.snn.experiments._digits import digit_splits
from sciviz.snn.models import Leaky
from sciviz.snn.networks import SpikingNetwork, accuracy, train

__all__ = ["encoding_comparison", "sparsity_scan", "trained_network"]

# Latency gives a pixel one spike in all, where a constant current gives one number a step: weights start larger.
GAINS = {"current": 1.0, "rate": 1.0, "latency": 3.0}


def _encoded(X: Tensor, num_steps: int, encoding: str, seed: int) -> Tensor:
    """Encode (seed, sample, pixel) as (time, seed, sample, pixel)."""
    return encode(X.flatten(0, 1), num_steps, encoding=encoding, seed=seed).view(num_steps, *X.shape)


def _operations(network: SpikingNetwork, X: Tensor, encoding: str) -> list[Operations]:
    """Count for each network of an ensemble."""
    with torch.no_grad():
        layers = network(X).layers
    return [
        count_operations(
            [X[:, n], *(trace.spikes[:, n] for trace in layers)],
            num_outputs=network.sizes[-1],
            analogue_input=encoding == "current",
            constant_input=True,
        )
        for n in range(X.shape[1])
    ]


def encoding_comparison(
    *,
    seed: int,
    num_seeds: int = 5,
    encodings: Sequence[str] = ENCODINGS,
    num_steps: int = 20,
    num_hidden: int = 64,
    num_train: int = 800,
    num_epochs: int = 8,
    lr: float = 2e-2,
    X: Float[Tensor, "sample features"] | None = None,
    y: Int[Tensor, " sample"] | None = None,
) -> xr.Dataset:
    """Train one network on digits for each encoding, and read its decision after each number of steps.

    Parameters
    ----------
    X, y
        Your own pictures, features in [0, 1], and classes from 0, in place of the digits; a fifth is kept for testing.

    Returns
    -------
    xr.Dataset
        `accuracy` (encoding, seed, step) when the readout stops after a step; `spikes` and `synaptic` operations
        (encoding, seed) for a sample, `dense` multiply-adds of the network without spikes.

    Raises
    ------
    ValueError
        If a number is out of range, or X leaves [0, 1].

    >>> ds = encoding_comparison(seed=0, num_seeds=2, encodings=("latency",), num_train=100, num_epochs=1)
    >>> ds.accuracy.dims
    ('encoding', 'seed', 'step')
    """
    check_int(1, num_seeds=num_seeds, num_steps=num_steps, num_hidden=num_hidden, num_epochs=num_epochs)
    train_X, train_y, test_X, test_y = _splits(seed, num_seeds, num_train, X, y)
    num_classes = int(max(train_y.max(), test_y.max())) + 1
    curve = np.empty((len(encodings), num_seeds, num_steps))
    counts = np.empty((len(encodings), num_seeds, 4))
    for i, encoding in enumerate(encodings):
        net = SpikingNetwork(
            [train_X.shape[-1], num_hidden, num_classes],
            seed=seed,
            neuron=Leaky(tau=20.0),
            num_networks=num_seeds,
            gain=GAINS[encoding],
        )
        spikes = _encoded(train_X, num_steps, encoding, seed)
        train(net, spikes, train_y, seed=seed, num_epochs=num_epochs, lr=lr, batch_size=50)
        shown = _encoded(test_X, num_steps, encoding, seed + 1)
        with torch.no_grad():
            fired = net(shown).layers[0].spikes
            # The readout is linear in the sum over time, so that all stopping times come from one running sum.
            logits = fired.cumsum(0) @ net.weights[-1].mT + net.biases[-1][:, None]
        curve[i] = (logits.argmax(-1) == test_y).double().mean(-1).T.numpy()
        for n, ops in enumerate(_operations(net, shown, encoding)):
            counts[i, n] = ops.spikes, ops.synaptic + ops.input, ops.membrane, ops.dense
    return dataset(
        "Digits by encoding",
        {
            "encoding": variable("encoding", list(encodings), "encoding"),
            "seed": variable("seed", np.arange(num_seeds), "draw of split and weights"),
            "step": variable("step", np.arange(1, num_steps + 1), "steps seen"),
        },
        {
            "accuracy": variable("encoding seed step", curve, "test accuracy"),
            "spikes": variable("encoding seed", counts[..., 0], "spikes a sample"),
            "synaptic": variable("encoding seed", counts[..., 1], "synaptic operations a sample"),
            "membrane": variable("encoding seed", counts[..., 2], "membrane updates a sample"),
            "dense": variable("encoding seed", counts[..., 3], "multiply-adds of the network without spikes"),
        },
        num_hidden=num_hidden,
        num_train=train_X.shape[1],
        num_epochs=num_epochs,
    )


def _splits(
    seed: int, num_seeds: int, num_train: int, X: Tensor | None, y: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    if X is None or y is None:
        return digit_splits(seed, num_seeds, num_train=num_train, num_test=360)
    check_same_length(X=X, y=y)
    generator = torch.Generator().manual_seed(seed)
    order = torch.stack([torch.randperm(len(X), generator=generator) for _ in range(num_seeds)])
    cut = len(X) - max(1, len(X) // 5)
    first, last = order[:, :cut], order[:, cut:]
    return X[first].float(), y[first], X[last].float(), y[last]


def sparsity_scan(
    *,
    seed: int,
    num_seeds: int = 5,
    penalties: Sequence[float] = (0.0, 1.0, 3.0, 10.0, 30.0),
    num_steps: int = 20,
    num_hidden: int = 64,
    num_train: int = 800,
    num_epochs: int = 8,
) -> xr.Dataset:
    """Charge a price for each spike while training on latency-coded digits, and count what is saved.

    Three bills for the same network, each as a ratio to the network without spikes: `arithmetic` is what most papers show;
    `membranes` adds the update of each neuron in each step; `memory` adds 10 pJ for fetching each weight.

    Returns
    -------
    xr.Dataset
        `accuracy`, `spikes` (hidden, a sample), `synaptic` and the three bills, each (penalty, seed).

    Raises
    ------
    ValueError
        If a number is out of range.

    >>> sparsity_scan(seed=0, num_seeds=2, penalties=(0.0,), num_train=100, num_epochs=1).accuracy.shape
    (1, 2)
    """
    check_int(1, num_seeds=num_seeds, num_steps=num_steps, num_hidden=num_hidden, num_epochs=num_epochs)
    for penalty in penalties:
        check_nonnegative(penalty=penalty)
    digits = digit_splits(seed, num_seeds, num_train=num_train, num_test=360)
    X = _encoded(digits.X, num_steps, "latency", seed)
    X_test = _encoded(digits.X_test, num_steps, "latency", seed + 1)
    rows = np.empty((6, len(penalties), num_seeds))
    fetching = EnergyModel(memory=10.0)
    for i, penalty in enumerate(penalties):
        net = SpikingNetwork(
            [64, num_hidden, 10], seed=seed, neuron=Leaky(tau=20.0), num_networks=num_seeds, gain=GAINS["latency"]
        )
        train(net, X, digits.y, seed=seed, num_epochs=num_epochs, lr=2e-2, batch_size=50, spike_penalty=penalty)
        rows[0, i] = accuracy(net, X_test, digits.y_test).numpy()
        for n, ops in enumerate(_operations(net, X_test, "latency")):
            rows[1:, i, n] = (
                ops.spikes - float(X_test[:, n].sum()) / X_test.shape[2],
                ops.synaptic,
                ops.energy(membranes=False) / ops.dense_energy(),
                ops.energy() / ops.dense_energy(),
                ops.energy(fetching) / ops.dense_energy(fetching),
            )
    names = {
        "accuracy": "test accuracy",
        "spikes": "hidden spikes a sample",
        "synaptic": "synaptic operations a sample",
        "arithmetic": "energy of the synapses alone, ratio to dense",
        "membranes": "energy with membranes, ratio to dense",
        "memory": "energy with membranes and memory, ratio to dense",
    }
    return dataset(
        "What sparsity saves",
        {
            "penalty": variable("penalty", list(penalties), "price of a spike"),
            "seed": variable("seed", np.arange(num_seeds), "draw of split and weights"),
        },
        {name: variable("penalty seed", row, text) for (name, text), row in zip(names.items(), rows, strict=True)},
        num_hidden=num_hidden,
        num_steps=num_steps,
    )


def trained_network(
    *,
    seed: int,
    encoding: str = "latency",
    num_hidden: int = 48,
    num_steps: int = 20,
    num_train: int = 800,
    num_epochs: int = 8,
) -> tuple[SpikingNetwork, Tensor, Tensor]:
    """Train one network on digits, for looking into it; returns it with test pictures (sample, pixel) and their classes.

    >>> net, X, y = trained_network(seed=0, num_train=100, num_epochs=1)
    >>> X.shape
    torch.Size([360, 64])
    """
    digits = digit_splits(seed, 1, num_train=num_train, num_test=360)
    net = SpikingNetwork([64, num_hidden, 10], seed=seed, neuron=Leaky(tau=20.0), gain=GAINS[encoding])
    X = encode(digits.X[0], num_steps, encoding=encoding, seed=seed)
    train(net, X, digits.y[0], seed=seed, num_epochs=num_epochs, lr=2e-2, batch_size=50)
    return net, digits.X_test[0], digits.y_test[0]
